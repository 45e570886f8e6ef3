"""What is going on now: running timers, and the hours of a week of each person beside what was planned."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.hours.firm_days import get_today
from schemas.identity import working_hours
from schemas.identity.users import INTERNAL
from schemas.identity.work_calendar import monday
from schemas.postgres.connection import Connection
from schemas.settings import Settings

MOST_PEOPLE = 200
SHORTEST_SECONDS = 15 * 60  # less is not missing
MOST_PENDING = 1_000  # bills that are counted
# The seconds of entries of these people and of all running timers, by person and day. The times are wider than the days, which
# are of a time zone.
WEEK = """
    SELECT p.id, e.date, sum(e.duration)::bigint
    FROM unnest(%(people)s::uuid[]) AS p (id) CROSS JOIN LATERAL (
        SELECT date, duration FROM time_entries
        WHERE user_id = p.id AND start_time >= %(first)s::date - interval '1 day'
          AND start_time < %(first)s::date + interval '8 days'
          AND date BETWEEN %(first)s AND %(first)s::date + 6 AND deleted_at IS NULL
        OFFSET 0
    ) e
    GROUP BY p.id, e.date
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
    """The time bills of days before today that an admin has to approve; or the first MOST_PENDING of them."""

    count: int
    minutes: int

    @property
    def are_more(self) -> bool:
        """Whether there may be more than were counted."""
        return self.count >= MOST_PENDING


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
    """The week of that day, today's without one, of each person of the firm who has access, or had it then: the first
    MOST_PEOPLE by name."""
    today = await get_today(conn, settings.stint_timezone)
    first = monday(any_day or today)
    people = await _people(conn, first, has_legacy_admins=bool(settings.legacy_client_ids))
    ids = [person.user_id for person in people]
    hours: dict[tuple[UUID, date], int] = defaultdict(int)
    for user_id, day, seconds in await conn.all(WEEK, {"people": ids, "first": first, "zone": settings.stint_timezone}):
        hours[user_id, day] += seconds
    calendars = await working_hours.read_calendars(conn, ids, settings=settings)

    def day_of(user_id: UUID, day: date) -> Day:
        return Day(day, hours[user_id, day], calendars[user_id].planned_seconds(day), is_over=day < today)

    days = [first + timedelta(days=n) for n in range(7)]
    return [WeekOfPerson(person, [day_of(person.user_id, day) for day in days]) for person in people]


async def pending_bills(conn: Connection, *, zone: str) -> PendingBills:
    """The bills that wait for an approval: MOST_PENDING of them at most are counted. The status is a literal, because there is
    a partial index for it."""
    return await conn.one(
        """
        SELECT count(*) AS count, coalesce(sum(minutes), 0)::bigint AS minutes FROM (
            SELECT minutes FROM time_bills
            WHERE status = 'pending' AND deleted_at IS NULL AND date < (clock_timestamp() AT TIME ZONE %s)::date LIMIT %s
        ) b
        """,
        (zone, MOST_PENDING),
        row=PendingBills,
    )


async def _people(conn: Connection, first: date, *, has_legacy_admins: bool) -> list[Person]:
    return await conn.all(
        f"""
        SELECT u.id AS user_id, coalesce(nullif(u.name, ''), u.email) AS name FROM users u
        WHERE (u.revoked_at IS NULL OR u.revoked_at >= %(first)s) AND NOT u.account_elsewhere
          AND ({INTERNAL} OR u.role IS NULL AND u.customer_id IS NULL AND u.email <> '' AND %(legacy)s)
        ORDER BY lower(u.name), u.id LIMIT {MOST_PEOPLE}
        """,
        {"first": first, "legacy": has_legacy_admins},
        row=Person,
    )
