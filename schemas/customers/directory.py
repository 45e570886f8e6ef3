"""The firm's customers by name, with what a list of them shows."""

from dataclasses import dataclass
from uuid import UUID

from schemas.names import patterns
from schemas.postgres.connection import Connection

MOST_LISTED = 200


@dataclass(frozen=True)
class ListedCustomer:
    """One customer of the list. `has_project`: whether the customer has a project in Xero. `unmapped_pillars`: active ones
    without a task in Xero."""

    id: UUID
    name: str
    active: bool
    rounding_increment: int
    rounding_mode: str
    has_project: bool
    pillars: int
    unmapped_pillars: int
    people: int
    channels: int


@dataclass(frozen=True)
class Directory:
    """Customers by name, and whether there are more than `MOST_LISTED`."""

    customers: list[ListedCustomer]
    has_more: bool


async def search(conn: Connection, typed: str, *, with_inactive: bool) -> Directory:
    """The customers whose name has all typed words, compared like all names; without words, all."""
    found = await conn.all(
        f"""
        SELECT c.id, c.name, c.active, c.rounding_increment, c.rounding_mode, c.xero_project_id IS NOT NULL AS has_project,
               p.pillars, p.unmapped_pillars,
               (SELECT count(*) FROM users u WHERE u.customer_id = c.id AND u.revoked_at IS NULL
                    AND u.role IN ('customer_admin', 'customer_user')) AS people,
               (SELECT count(*) FROM slack_channel_mappings m WHERE m.customer_id = c.id AND m.deleted_at IS NULL) AS channels
        FROM (SELECT * FROM customers WHERE deleted_at IS NULL AND (active OR %(inactive)s)
                  AND (%(patterns)s::text[] = '{{}}' OR name_key(name) LIKE ALL (%(patterns)s::text[]))
              ORDER BY name_key(name), id LIMIT {MOST_LISTED + 1}) c
        CROSS JOIN LATERAL (
            SELECT count(*) AS pillars, count(*) FILTER (WHERE active AND xero_task_id IS NULL) AS unmapped_pillars
            FROM pillars WHERE customer_id = c.id AND deleted_at IS NULL) p
        ORDER BY name_key(c.name), c.id
        """,
        {"patterns": patterns(typed), "inactive": with_inactive},
        row=ListedCustomer,
    )
    return Directory(found[:MOST_LISTED], has_more=len(found) > MOST_LISTED)
