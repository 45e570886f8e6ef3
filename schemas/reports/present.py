"""What is going on now: running timers, and the hours of a week of each person beside what was planned."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.hours.bill_approval import get_today
from schemas.identity import working_hours
from schemas.identity.users import INTERNAL
from schemas.identity.work_calendar import WorkCalendar, monday
from schemas.postgres.connection import Connection
from schemas.settings import Settings

MOST_PEOPLE = 500
SHORTEST_SECONDS = 15 * 60  # less is not missing
# The seconds of entries and running timers by person and day. The times are wider than the days, which are of a time zone.
WEEK = """
    SELECT user_id, date, sum(duration)::bigint FROM time_entries
    WHERE start_time >= %(first)s::date - interval '2 days' AND start_time < %(first)s::date + interval '9 days'
      AND date BETWEEN %(first)s AND %(first)s::date + 6 AND deleted_at IS NULL
    GROUP BY user_id, date
    UNION ALL
    SELECT user_id, (start_time AT TIME ZONE %(zone)s)::date,
           greatest(extract(epoch FROM clock_timestamp() - start_time), 0)::bigint
    FROM timers WHERE (start_time AT TIME ZONE %(zone)s)::date BETWEEN %(first)s AND %(first)s::date + 6
"""


@dataclass(frozen=True)
class RunningTimer:
    """A timer that runs. `seconds`: since its start."""

    user_id: UUID
    person: str
    task_id: UUID
    task: str
    customer: str
    start_time: datetime
    seconds: int

    def looks_forgotten(self, today: date, zone: ZoneInfo, *, hours: float) -> bool:
        """Whether it has run for that many hours, or since another day than today."""
        return self.seconds >= hours * 3600 or self.start_time.astimezone(zone).date() < today


@dataclass(frozen=True)
class Person:
    """One of the firm's own people."""

    user_id: UUID
    name: str


@dataclass(frozen=True)
class Day:
    """A day of a person. `seconds`: recorded, with a timer that runs; `planned`: by the person's working hours."""

    day: date
    seconds: int
    planned: int
    is_over: bool

    @property
    def missing(self) -> int:
        """How many seconds are missing of a day that is over; less than a quarter of an hour is not."""
        missing = self.planned - self.seconds
        return missing if self.is_over and missing >= SHORTEST_SECONDS else 0


@dataclass(frozen=True)
class WeekOfPerson:
    """The seven days of a person, Monday first."""

    person: Person
    days: list[Day]

    @property
    def seconds(self) -> int:
        return sum(day.seconds for day in self.days)

    @property
    def planned(self) -> int:
        return sum(day.planned for day in self.days)

    @property
    def missing(self) -> int:
        return sum(day.missing for day in self.days)


@dataclass(frozen=True)
class PendingBills:
    """The time bills of days before today that an admin has to approve."""

    count: int
    minutes: int


async def running_timers(conn: Connection) -> list[RunningTimer]:
    """All timers that run, by the person's name."""
    return await conn.all(
        """
        SELECT t.user_id, coalesce(nullif(u.name, ''), u.email) AS person, t.task_id, k.title AS task, c.name AS customer,
               t.start_time, greatest(extract(epoch FROM clock_timestamp() - t.start_time), 0)::bigint AS seconds
        FROM timers t JOIN users u ON u.id = t.user_id JOIN tasks k ON k.id = t.task_id JOIN customers c ON c.id = k.customer_id
        ORDER BY lower(u.name), t.user_id LIMIT %s
        """,
        (MOST_PEOPLE,),
        row=RunningTimer,
    )


async def week(conn: Connection, any_day: date | None, *, settings: Settings) -> list[WeekOfPerson]:
    """The week of that day, today's without one, of each person of the firm who has access, or has hours in it."""
    today = await get_today(conn, settings.stint_timezone)
    first = monday(any_day or today)
    hours = await _hours(conn, first, zone=settings.stint_timezone)
    people = await _people(conn, list(hours), has_legacy_admins=bool(settings.legacy_client_ids))
    calendars = await working_hours.read_calendars(conn, [person.user_id for person in people], settings=settings)
    return [
        WeekOfPerson(
            person,
            [_day(first + timedelta(days=n), hours[person.user_id], calendars[person.user_id], today=today) for n in range(7)],
        )
        for person in people
    ]


async def pending_bills(conn: Connection, *, zone: str) -> PendingBills:
    """The bills that wait for an approval. The status is a literal, because there is a partial index for it."""
    return await conn.one(
        """
        SELECT count(*) AS count, coalesce(sum(minutes), 0)::bigint AS minutes FROM time_bills
        WHERE status = 'pending' AND deleted_at IS NULL AND date < (clock_timestamp() AT TIME ZONE %s)::date
        """,
        (zone,),
        row=PendingBills,
    )


def _day(day: date, hours: dict[date, int], calendar: WorkCalendar, *, today: date) -> Day:
    return Day(day, hours.get(day, 0), calendar.planned_seconds(day), is_over=day < today)


async def _hours(conn: Connection, first: date, *, zone: str) -> dict[UUID, dict[date, int]]:
    """The seconds of each person and day of the week; those of a running timer on the day of its start."""
    rows = await conn.all(WEEK, {"first": first, "zone": zone})
    found: dict[UUID, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    for user_id, day, seconds in rows:
        found[user_id][day] += seconds
    return found


async def _people(conn: Connection, with_hours: list[UUID], *, has_legacy_admins: bool) -> list[Person]:
    return await conn.all(
        f"""
        SELECT u.id AS user_id, coalesce(nullif(u.name, ''), u.email) AS name FROM users u
        WHERE u.id = ANY(%(ids)s) OR u.revoked_at IS NULL AND NOT u.account_elsewhere
          AND ({INTERNAL} OR u.role IS NULL AND u.customer_id IS NULL AND u.email <> '' AND %(legacy)s)
        ORDER BY lower(u.name), u.id LIMIT {MOST_PEOPLE}
        """,
        {"ids": with_hours, "legacy": has_legacy_admins},
        row=Person,
    )
