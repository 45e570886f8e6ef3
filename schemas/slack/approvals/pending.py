"""The time bills that admins have to approve: those that are pending, of days before today in the firm's time zone."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from schemas.postgres.connection import Connection

LIST_LIMIT = 100  # more than fit into a message of Slack

_COLUMNS = """
    b.id, b.version, b.status, b.date, b.minutes, b.stale, b.customer_id, p.name AS pillar, c.name AS customer,
    coalesce(nullif(u.name, ''), u.email) AS consultant, coalesce(nullif(a.name, ''), a.email) AS approved_by,
    (SELECT count(*) FROM time_entries e WHERE e.bill_id = b.id AND e.deleted_at IS NULL AND e.overlap) AS overlapping
"""
_NAMES = """
    JOIN users u ON u.id = b.user_id JOIN customers c ON c.id = b.customer_id JOIN pillars p ON p.id = b.pillar_id
    LEFT JOIN users a ON a.id = b.approved_by
"""
# The condition on bills `b`. The status is a literal, because there is a partial index for it.
_IS_PENDING = """
    b.status = 'pending' AND b.deleted_at IS NULL AND b.date < (clock_timestamp() AT TIME ZONE %(zone)s)::date
    AND b.customer_id = coalesce(%(customer)s, b.customer_id)
"""


@dataclass(frozen=True)
class ShownBill:
    """A time bill with what Slack shows of it. `stale`: its minutes are being recalculated. `overlapping`:
    how many of its entries have the flag `overlap`."""

    id: UUID
    version: int
    status: str
    date: date
    minutes: int
    stale: bool
    customer_id: UUID
    pillar: str
    customer: str
    consultant: str
    approved_by: str | None
    overlapping: int


@dataclass(frozen=True)
class PendingBill(ShownBill):
    """A pending bill, with the number and the minutes of all pending bills of its consultant and customer, and of all."""

    user_id: UUID
    group_count: int
    group_minutes: int
    total_count: int
    total_minutes: int


async def list_pending(conn: Connection, *, zone: str, only_customer: UUID | None) -> list[PendingBill]:
    """The first LIST_LIMIT of the pending bills, by consultant, customer and day."""
    return await conn.all(
        f"""
        SELECT {_COLUMNS}, b.user_id, b.group_count, b.group_minutes, b.total_count, b.total_minutes
        FROM (
            SELECT b.*, count(*) OVER by_group AS group_count, (sum(minutes) OVER by_group)::bigint AS group_minutes,
                   count(*) OVER () AS total_count, (sum(minutes) OVER ())::bigint AS total_minutes
            FROM time_bills b WHERE {_IS_PENDING}
            WINDOW by_group AS (PARTITION BY user_id, customer_id)
        ) b {_NAMES}
        ORDER BY lower(u.name), u.id, lower(c.name), c.id, b.date, b.id LIMIT {LIST_LIMIT}
        """,
        {"zone": zone, "customer": only_customer},
        row=PendingBill,
    )


async def is_any_pending(conn: Connection, *, zone: str) -> bool:
    """Whether there is a bill to approve."""
    query = f"SELECT EXISTS (SELECT FROM time_bills b WHERE {_IS_PENDING})"
    return bool(await conn.value(query, {"zone": zone, "customer": None}))


async def get_bills(conn: Connection, ids: Collection[UUID], *, only_customer: UUID | None) -> dict[UUID, ShownBill]:
    """These bills as they are now. Deleted ones are left out, and those of other customers than `only_customer`."""
    bills = await conn.all(
        f"""
        SELECT {_COLUMNS} FROM time_bills b {_NAMES}
        WHERE b.id = ANY(%(ids)s) AND b.deleted_at IS NULL AND b.customer_id = coalesce(%(customer)s, b.customer_id)
        """,
        {"ids": list(ids), "customer": only_customer},
        row=ShownBill,
    )
    return {bill.id: bill for bill in bills}
