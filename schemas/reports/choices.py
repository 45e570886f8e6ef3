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
        SELECT kind, id, name FROM (
            SELECT 'customer' AS kind, id, name FROM customers WHERE deleted_at IS NULL
            UNION ALL
            SELECT 'pillar', id, name FROM pillars WHERE customer_id = %s AND deleted_at IS NULL
            UNION ALL
            SELECT 'person', u.id, coalesce(nullif(u.name, ''), u.email)
            FROM users u CROSS JOIN LATERAL (SELECT FROM time_bills b WHERE b.user_id = u.id LIMIT 1) b
        ) choice
        ORDER BY lower(name), id
        """,
        (customer_id,),
        row=Choice,
    )
