"""The time bills of a week, with what an admin looks at before approving them, and the entries on a bill."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from schemas.hours.time_bills import Status, XeroStatus
from schemas.identity.users import INTERNAL
from schemas.postgres.connection import Connection

WEEK = timedelta(days=6)  # from the first day of a week to its last one


@dataclass(frozen=True)
class WeekBill:
    """A time bill.

    - `entries`: the number of entries on it. `overlapping` and `long`: how many of these have this flag.
    - `was_rejected`: it is pending again after a rejection.
    - `is_late`: another bill of the same person, customer, pillar and day is approved already.
    """

    id: UUID
    version: int
    date: date
    status: Status
    stale: bool
    seconds: int
    minutes: int
    memo: str
    rejection_note: str | None
    approved_by: str | None
    xero_status: XeroStatus
    customer_id: UUID
    customer: str
    pillar_id: UUID
    pillar: str
    entries: int
    overlapping: int
    long: int
    was_rejected: bool
    is_late: bool

    @property
    def flags(self) -> list[str]:
        """What is a reason to look before approving, in words."""
        differs = self.xero_status == "differs"
        if not (self.stale or self.overlapping or self.long or self.was_rejected or self.is_late or differs):
            return []  # nearly always, and a page may have hundreds
        flags = {
            "recalculating": self.stale,
            "overlap": bool(self.overlapping),
            "long": bool(self.long),
            "was rejected": self.was_rejected,
            "more after approval": self.is_late,
            "changed in Xero": differs,
        }
        return [name for name, is_set in flags.items() if is_set]


@dataclass(frozen=True)
class GridFilter:
    """Which bills are shown; None: all."""

    customer_id: UUID | None = None
    pillar_id: UUID | None = None
    user_id: UUID | None = None
    status: Status | None = None

    @property
    def is_of_bills(self) -> bool:
        """Whether some bills of a person may be hidden, so that their sums are not all of their hours."""
        return (self.customer_id, self.pillar_id, self.status) != (None, None, None)

    def shows(self, bill: WeekBill) -> bool:
        """Whether the bill is shown, if its person is."""
        return (
            self.customer_id in (None, bill.customer_id)
            and self.pillar_id in (None, bill.pillar_id)
            and self.status in (None, bill.status)
        )


@dataclass(frozen=True)
class PersonBills:
    """A person with their bills of a week, by day, customer and pillar."""

    id: UUID
    name: str
    bills: list[WeekBill]


@dataclass(frozen=True)
class BillEntry:
    """An entry on a bill."""

    id: UUID
    bill_id: UUID
    start_time: datetime
    end_time: datetime
    duration: int  # seconds
    task: str
    notes: str
    overlap: bool
    long: bool


async def list_people(conn: Connection, first: date, filters: GridFilter) -> list[tuple[UUID, str]]:
    """The ids and names of people, in the order of the names.

    These are all who have such bills on the seven days from `first` on. If the filters hide no bills, the firm's own people
    with access are among them, too, also those without bills.
    """
    people: list[tuple[UUID, str]] = await conn.all(
        f"""
        SELECT u.id, coalesce(nullif(u.name, ''), u.email) FROM users u
        WHERE (%(user)s::uuid IS NULL OR u.id = %(user)s) AND (
            NOT %(of_bills)s AND {INTERNAL} AND u.revoked_at IS NULL
            OR u.id IN (
                SELECT b.user_id FROM time_bills b
                WHERE b.date BETWEEN %(first)s AND %(last)s AND b.deleted_at IS NULL
                  AND (%(customer)s::uuid IS NULL OR b.customer_id = %(customer)s)
                  AND (%(pillar)s::uuid IS NULL OR b.pillar_id = %(pillar)s)
                  AND (%(status)s::text IS NULL OR b.status = %(status)s)))
        ORDER BY lower(coalesce(nullif(u.name, ''), u.email)), u.id
        """,
        {
            "first": first,
            "last": first + WEEK,
            "of_bills": filters.is_of_bills,
            "user": filters.user_id,
            "customer": filters.customer_id,
            "pillar": filters.pillar_id,
            "status": filters.status,
        },
    )
    return people


async def read_week(conn: Connection, first: date, people: Collection[UUID]) -> list[PersonBills]:
    """The bills of these people of the seven days from `first` on, in the order of the people's names."""
    rows = await conn.all(
        """
        SELECT u.id, coalesce(nullif(u.name, ''), u.email), b.id, b.version, b.date, b.status, b.stale, b.seconds, b.minutes,
               b.memo, b.rejection_note, coalesce(nullif(a.name, ''), a.email), b.xero_status, b.customer_id, c.name,
               b.pillar_id, p.name, f.entries, f.overlapping, f.long,
               b.status = 'pending' AND b.rejected_version IS NOT NULL,
               -- a lookup for each bill: EXISTS would read all bills of all years
               b.status <> 'approved' AND (
                   SELECT true FROM time_bills o
                   WHERE o.user_id = b.user_id AND o.date = b.date AND o.customer_id = b.customer_id
                     AND o.pillar_id = b.pillar_id AND o.status = 'approved' AND o.deleted_at IS NULL LIMIT 1) IS NOT NULL
        FROM users u
        LEFT JOIN (
            SELECT * FROM time_bills
            WHERE user_id = ANY(%(people)s) AND date BETWEEN %(first)s AND %(last)s AND deleted_at IS NULL
        ) b ON b.user_id = u.id
        LEFT JOIN customers c ON c.id = b.customer_id LEFT JOIN pillars p ON p.id = b.pillar_id
        LEFT JOIN users a ON a.id = b.approved_by
        LEFT JOIN LATERAL (
            SELECT count(*) AS entries, count(*) FILTER (WHERE overlap) AS overlapping,
                   count(*) FILTER (WHERE 'long' = ANY (flags)) AS long
            FROM time_entries WHERE bill_id = b.id AND deleted_at IS NULL
        ) f ON b.id IS NOT NULL
        WHERE u.id = ANY(%(people)s)
        ORDER BY lower(coalesce(nullif(u.name, ''), u.email)), u.id, b.date, lower(c.name), lower(p.name), b.id
        """,
        {"first": first, "last": first + WEEK, "people": list(people)},
    )
    found: dict[UUID, PersonBills] = {}
    for user_id, name, *bill in rows:
        person = found.setdefault(user_id, PersonBills(user_id, name, []))
        if bill[0] is not None:
            person.bills.append(WeekBill(*bill))
    return list(found.values())


async def read_entries(conn: Connection, bill_ids: Collection[UUID]) -> dict[UUID, list[BillEntry]]:
    """The entries on these bills, by bill, the earliest first."""
    entries = await conn.all(
        """
        SELECT e.id, e.bill_id, e.start_time, e.end_time, e.duration,
               (SELECT t.title FROM tasks t WHERE t.id = e.task_id) AS task, e.notes, e.overlap, 'long' = ANY (e.flags) AS long
        FROM time_entries e
        WHERE e.bill_id = ANY(%(bills)s) AND e.deleted_at IS NULL ORDER BY e.start_time, e.id
        """,
        {"bills": list(bill_ids)},
        row=BillEntry,
    )
    found: dict[UUID, list[BillEntry]] = {bill_id: [] for bill_id in bill_ids}
    for entry in entries:
        found[entry.bill_id].append(entry)
    return found


async def first_pending_day(conn: Connection, *, before: date) -> date | None:
    """The first day before that one of which a bill is pending; None if there is none."""
    found: date | None = await conn.value(
        "SELECT min(date) FROM time_bills WHERE status = 'pending' AND deleted_at IS NULL AND date < %(before)s",
        {"before": before},
    )
    return found
