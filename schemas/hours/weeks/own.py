"""One person's week: their entries with the bills that these are on, stops whose entries do not exist yet, and the timer."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from schemas.errors import NotFound
from schemas.hours.time_bills import Status
from schemas.hours.timer_stops import WILL_BE_RECORDED
from schemas.hours.weeks.bills import WEEK
from schemas.identity.users import INTERNAL
from schemas.postgres.connection import Connection


@dataclass(frozen=True)
class OwnEntry:
    """A time entry. `status` and `rejection_note` are its bill's; None: it is on no bill yet. `is_recorded`: False for a stop
    whose entry a worker makes in a moment."""

    id: UUID
    version: int
    user_id: UUID
    date: date
    start_time: datetime
    end_time: datetime
    duration: int  # seconds
    task_id: UUID
    task: str
    customer: str
    notes: str
    overlap: bool
    long: bool
    status: Status | None
    rejection_note: str | None
    is_recorded: bool

    @property
    def is_locked(self) -> bool:
        """Whether it cannot be changed, because its bill is approved."""
        return self.status == "approved"


@dataclass(frozen=True)
class OwnTimer:
    """The running timer; `seconds`: for how long it has run."""

    id: UUID
    version: int
    task_id: UUID
    task: str
    customer: str
    start_time: datetime
    notes: str
    seconds: int


_ENTRY = """
    SELECT e.id, e.version, e.user_id, e.date, e.start_time, e.end_time, e.duration, e.task_id,
           (SELECT t.title FROM tasks t WHERE t.id = e.task_id) AS task,
           (SELECT c.name FROM customers c WHERE c.id = e.customer_id) AS customer, e.notes, e.overlap,
           'long' = ANY (e.flags) AS long, b.status, b.rejection_note, true AS is_recorded
    FROM time_entries e LEFT JOIN time_bills b ON b.id = e.bill_id
"""


async def read_entries(conn: Connection, user_id: UUID, first: date, *, zone: str) -> list[OwnEntry]:
    """What the person has recorded on the seven days from the first one on, the earliest first."""
    return await conn.all(
        f"""
        {_ENTRY}
        WHERE e.user_id = %(user)s AND e.start_time >= %(first)s::date - 1 AND e.start_time < %(last)s::date + 2
          AND e.date BETWEEN %(first)s AND %(last)s AND e.deleted_at IS NULL
        UNION ALL
        SELECT s.entry_id, 1, s.user_id, (s.start_time AT TIME ZONE %(zone)s)::date, s.start_time, s.end_time,
               extract(epoch FROM s.end_time - s.start_time)::bigint, s.task_id, t.title, c.name, '', false, false,
               NULL, NULL, false
        FROM stops s JOIN tasks t ON t.id = s.task_id JOIN customers c ON c.id = t.customer_id
        WHERE s.user_id = %(user)s AND (s.start_time AT TIME ZONE %(zone)s)::date BETWEEN %(first)s AND %(last)s
          AND {WILL_BE_RECORDED}
        ORDER BY start_time, id
        """,
        {"user": user_id, "first": first, "last": first + WEEK, "zone": zone},
        row=OwnEntry,
    )


async def read_entry(conn: Connection, entry_id: UUID) -> OwnEntry:
    """The entry. Raises NotFound if there is none."""
    found = await conn.maybe(f"{_ENTRY} WHERE e.id = %(id)s AND e.deleted_at IS NULL", {"id": entry_id}, row=OwnEntry)
    if found is None:
        raise NotFound("There is no such time entry.")
    return found


async def read_timer(conn: Connection, user_id: UUID) -> OwnTimer | None:
    """The person's running timer."""
    return await conn.maybe(
        """
        SELECT r.id, r.version, r.task_id, t.title AS task, c.name AS customer, r.start_time, r.notes,
               greatest(extract(epoch FROM now() - r.start_time), 0)::bigint AS seconds
        FROM timers r JOIN tasks t ON t.id = r.task_id JOIN customers c ON c.id = t.customer_id WHERE r.user_id = %(user)s
        """,
        {"user": user_id},
        row=OwnTimer,
    )


async def list_people(conn: Connection) -> list[tuple[UUID, str]]:
    """Ids and names of the firm's own people with access, by name."""
    return [
        (user_id, name)
        for user_id, name in await conn.all(
            f"""
            SELECT u.id, coalesce(nullif(u.name, ''), u.email) FROM users u WHERE {INTERNAL} AND u.revoked_at IS NULL
            ORDER BY lower(coalesce(nullif(u.name, ''), u.email)), u.id
            """
        )
    ]


def by_day(entries: list[OwnEntry], first: date) -> dict[date, list[OwnEntry]]:
    """The entries of each of the seven days."""
    days = [first + timedelta(days=n) for n in range(7)]
    return {day: [entry for entry in entries if entry.date == day] for day in days}
