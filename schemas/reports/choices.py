"""What the filters of a report can be set to."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from schemas.postgres.connection import Connection


@dataclass(frozen=True)
class Choice:
    """A customer, a pillar of the chosen customer, or a person who has bills, with the name or the address that is shown."""

    kind: Literal["customer", "pillar", "person"]
    id: UUID
    name: str


async def choices(conn: Connection, customer_id: UUID | None) -> list[Choice]:
    """All choices in the order of their names; pillars only of that customer."""
    return await conn.all(
        """
        WITH RECURSIVE person AS (  -- one step in an index for each, instead of all bills
            (SELECT b.user_id FROM time_bills b ORDER BY b.user_id LIMIT 1)
            UNION ALL
            SELECT (SELECT b.user_id FROM time_bills b WHERE b.user_id > p.user_id ORDER BY b.user_id LIMIT 1)
            FROM person p WHERE p.user_id IS NOT NULL
        )
        SELECT kind, id, name FROM (
            SELECT 'customer' AS kind, id, name FROM customers WHERE deleted_at IS NULL
            UNION ALL
            SELECT 'pillar', id, name FROM pillars WHERE customer_id = %(customer)s AND deleted_at IS NULL
            UNION ALL
            SELECT 'person', u.id, coalesce(nullif(u.name, ''), u.email)
            FROM person p JOIN users u ON u.id = p.user_id
        ) choice
        ORDER BY lower(name), id
        """,
        {"customer": customer_id},
        row=Choice,
    )
