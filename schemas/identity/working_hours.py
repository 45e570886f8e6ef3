"""The working hours in each person's profile: their own values, or else the firm's, of the settings.

Who has no row in `working_hours`, or null in a column, follows the settings, also when these change.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from schemas.base import Body, Day, Flag, Row
from schemas.errors import FieldProblem, Invalid
from schemas.identity.users import lock_user
from schemas.identity.work_calendar import WorkCalendar, known_zone
from schemas.postgres.connection import Connection
from schemas.setting_values import DAYS, time_span
from schemas.settings import Settings

MAX_DAYS_OFF = 366
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
TimeOfDay = Annotated[str, StringConstraints(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]


def _half_hours(value: object) -> object:
    if type(value) not in (int, float):
        raise ValueError("send it without quotes")
    if isinstance(value, float) and value % 0.5:
        raise ValueError("only whole and half hours are possible")
    return value


Hours = Annotated[
    float, BeforeValidator(_half_hours), Field(ge=0.5, le=24, examples=[7.5], json_schema_extra={"multipleOf": 0.5})
]


class DaysOff(Row):
    """Days on which a person does not work, from the first to the last one."""

    model_config = ConfigDict(extra="forbid", alias_generator=lambda name: to_camel(name.rstrip("_")))

    from_: Annotated[Day, Field(examples=["2026-12-24"])]
    to: Annotated[Day, Field(examples=["2026-12-31"])]

    @model_validator(mode="after")
    def _check_order(self) -> "DaysOff":
        if self.to < self.from_:
            raise ValueError("to must not be before from")
        return self


class WorkingHours(Row):
    """When a person works, and whether Slack reminds them of missing hours."""

    days: list[Weekday]
    start: Annotated[TimeOfDay, Field(description="in the person's time zone", examples=["09:00"])]
    end: Annotated[TimeOfDay, Field(description="on the same day", examples=["17:30"])]
    hours_per_day: Annotated[float, Field(description="planned for each working day", examples=[7.5])]
    reminders: Annotated[bool, Field(description="whether Slack reminds the person of missing hours and a running timer")]
    days_off: Annotated[list[DaysOff], Field(description="in order; those that touch or overlap are one")]
    time_zone: Annotated[
        str,
        Field(description="of the person's account in Slack, if Stint knows it, else the firm's", examples=["Europe/Berlin"]),
    ]
    from_firm: Annotated[
        list[Literal["days", "start", "end", "hoursPerDay", "reminders"]],
        Field(description="Which of these values are the firm's, and change with its settings"),
    ]


class WorkingHoursChange(Body):
    """Fields that are left out keep their values. null: the firm's value again; of `daysOff`: none."""

    days: Annotated[list[Weekday] | None, Field(min_length=1, max_length=7, examples=[["mon", "tue", "wed"]])] = None
    start: Annotated[TimeOfDay | None, Field(description="in your time zone", examples=["09:00"])] = None
    end: Annotated[TimeOfDay | None, Field(description="on the same day, after the start", examples=["17:30"])] = None
    hours_per_day: Annotated[Hours | None, Field(description="whole or half hours, at most those between start and end")] = None
    reminders: Annotated[Flag | None, Field(description="whether Slack reminds you of missing hours")] = None
    days_off: Annotated[list[DaysOff] | None, Field(max_length=MAX_DAYS_OFF, description="all of them")] = None


@dataclass(frozen=True)
class _Own:
    """A person's own values; None: the firm's. `days_off` are pairs of the first and the last day."""

    user_id: UUID
    days: list[int] | None
    start_time: time | None
    end_time: time | None
    seconds_a_day: int | None
    reminders: bool | None
    days_off: list[dict[str, str]]
    tz: str | None

    def calendar(self, settings: Settings) -> WorkCalendar:
        start, end = time_span(settings.stint_working_hours)
        return WorkCalendar(
            zone=ZoneInfo(known_zone(self.tz) or settings.stint_timezone),
            days=frozenset(self.days or settings.working_days),
            start=self.start_time or start,
            end=self.end_time or end,
            seconds_a_day=self.seconds_a_day or round(settings.stint_hours_a_day * 3600),
            reminders=settings.stint_reminders == "on" if self.reminders is None else self.reminders,
            days_off=tuple((date.fromisoformat(off["from"]), date.fromisoformat(off["to"])) for off in self.days_off),
        )

    def shown(self, settings: Settings) -> WorkingHours:
        calendar = self.calendar(settings)
        own = {
            "days": self.days, "start": self.start_time, "end": self.end_time, "hoursPerDay": self.seconds_a_day,
            "reminders": self.reminders,
        }  # fmt: skip
        return WorkingHours.model_validate(
            {
                "days": [DAYS[day - 1] for day in sorted(calendar.days)],
                "start": f"{calendar.start:%H:%M}",
                "end": f"{calendar.end:%H:%M}",
                "hoursPerDay": calendar.seconds_a_day / 3600,
                "reminders": calendar.reminders,
                "daysOff": self.days_off,
                "timeZone": calendar.zone.key,
                "fromFirm": [name for name, value in own.items() if value is None],
            }
        )


# A person may have several accounts in Slack; the one that Stint has met last counts.
_READ = """
    SELECT r.id AS user_id, w.days, w.start_time, w.end_time, w.seconds_a_day, w.reminders,
           coalesce((SELECT json_agg(json_build_object('from', lower(o), 'to', upper(o) - 1) ORDER BY o)
                     FROM unnest(w.days_off) o), '[]') AS days_off,
           s.tz
    FROM unnest(%s::uuid[]) r (id)
    LEFT JOIN working_hours w ON w.user_id = r.id
    LEFT JOIN LATERAL (
        SELECT a.tz FROM slack_users a JOIN users u ON email_key(u.email) = email_key(a.email)
        WHERE u.id = r.id AND a.email <> '' AND a.refusal IS NULL AND a.tz IS NOT NULL ORDER BY a.fetched_at DESC LIMIT 1
    ) s ON true
"""


async def get(conn: Connection, user_id: UUID, *, settings: Settings) -> WorkingHours:
    """The person's working hours, as the API returns them."""
    return (await conn.one(_READ, ([user_id],), row=_Own)).shown(settings)


async def read_calendar(conn: Connection, user_id: UUID, *, settings: Settings) -> WorkCalendar:
    """The person's working hours, to calculate with."""
    return (await conn.one(_READ, ([user_id],), row=_Own)).calendar(settings)


async def read_calendars(conn: Connection, user_ids: Collection[UUID], *, settings: Settings) -> dict[UUID, WorkCalendar]:
    """The working hours of several people, by their ids."""
    return {own.user_id: own.calendar(settings) for own in await conn.all(_READ, (list(user_ids),), row=_Own)}


async def change(conn: Connection, user_id: UUID, patch: WorkingHoursChange, *, settings: Settings) -> WorkingHours:
    """Changes the person's own values. Raises Invalid for an end that is not after the start, and for more planned hours than
    there are between them."""
    values = _columns(patch)
    await lock_user(conn, user_id)
    names = list(values)
    await conn.execute(
        f"""
        INSERT INTO working_hours (user_id, {", ".join(names)}) VALUES (%(user)s, {", ".join(f"%({name})s" for name in names)})
        ON CONFLICT (user_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in names)}
        """,
        values | {"user": user_id},
    )
    own = await conn.one(_READ, ([user_id],), row=_Own)
    _check(own.calendar(settings), patch)
    return own.shown(settings)


def _columns(patch: WorkingHoursChange) -> dict[str, Any]:
    """The columns that the change sets, with their values."""
    sent = patch.model_fields_set
    if not sent:
        raise Invalid("", "Send at least one field to change.")
    hours, off = patch.hours_per_day, patch.days_off or []
    values = {
        "days": sorted({DAYS.index(day) + 1 for day in patch.days}) if patch.days is not None else None,
        "start": time.fromisoformat(patch.start) if patch.start is not None else None,
        "end": time.fromisoformat(patch.end) if patch.end is not None else None,
        "hours_per_day": round(hours * 3600) if hours is not None else None,
        "reminders": patch.reminders,
        "days_off": Multirange([Range(days.from_, days.to + timedelta(days=1)) for days in off]),
    }
    columns = {"start": "start_time", "end": "end_time", "hours_per_day": "seconds_a_day"}
    return {columns.get(name, name): value for name, value in values.items() if name in sent}


def _check(calendar: WorkCalendar, patch: WorkingHoursChange) -> None:
    """Looks only at what was sent: the settings may have changed since the rest was stored."""
    sent, problems = patch.model_fields_set, []
    start, end = f"{calendar.start:%H:%M}", f"{calendar.end:%H:%M}"
    seconds = (calendar.ends_at(date(2026, 1, 1)) - calendar.starts_at(date(2026, 1, 1))).total_seconds()
    if sent & {"start", "end"} and seconds <= 0:
        path = "end" if "end" in sent else "start"
        problems.append(FieldProblem(path=path, message=f"end must be after start: they would be {end} and {start}."))
    elif sent & {"start", "end", "hours_per_day"} and calendar.seconds_a_day > seconds:
        path = "hoursPerDay" if "hours_per_day" in sent else "end" if "end" in sent else "start"
        message = f"hoursPerDay would be {calendar.seconds_a_day / 3600:g}, and from {start} to {end} there are only "
        problems.append(FieldProblem(path=path, message=f"{message}{seconds / 3600:g} hours: send all three."))
    if problems:
        raise Invalid.because(problems)
