"""Focus: the customer that one of the firm's own people is looking at. Each has at most one focus, and it expires."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from schemas.base import Lookup, Row, json_object
from schemas.errors import NotFound
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection

EXPIRES_SECONDS = 300


class Focus(Row):
    """A user who is looking at a customer."""

    user_id: UUID
    user_name: Annotated[str, Lookup("users", "user_id", "{j}.name")]
    customer_id: UUID
    customer_name: Annotated[str, Lookup("customers", "customer_id", "{j}.name")]
    since: datetime
    expires_at: Annotated[datetime, Field(description="5 minutes after it was last set")]


async def put(conn: Connection, customer_id: UUID, *, user_id: UUID) -> Focus:
    """Sets the user's focus, instead of one on another customer, or extends it. Raises NotFound for an unknown customer."""
    row = await conn.value(
        f"""
        INSERT INTO focus AS f (user_id, customer_id, since, expires_at)
        SELECT %(user)s, id, now(), now() + make_interval(secs => %(seconds)s)
        FROM customers WHERE id = %(customer)s AND deleted_at IS NULL
        ON CONFLICT (user_id) DO UPDATE SET customer_id = excluded.customer_id, expires_at = excluded.expires_at,
            since = CASE WHEN f.customer_id = excluded.customer_id AND f.expires_at > now() THEN f.since
                         ELSE excluded.since END
        RETURNING {json_object(Focus, "f")}::text
        """,
        {"user": user_id, "customer": customer_id, "seconds": EXPIRES_SECONDS},
    )
    if row is None:
        raise NotFound("There is no such customer.")
    return Focus.from_json(row)


async def clear(conn: Connection, customer_id: UUID, *, user_id: UUID) -> None:
    """Ends the user's focus if it is on this customer; a late request must not end a focus on another one."""
    await conn.execute(
        """
        UPDATE focus SET expires_at = greatest(since, now())
        WHERE user_id = %s AND customer_id = %s AND expires_at > now()
        """,
        (user_id, customer_id),
    )


async def list_page(conn: Connection, page: Page) -> bytes:
    """All present focuses, newest first."""
    selection = Selection("focus", Focus, "focus", "f", Order("since", "timestamptz"), key="user_id")
    selection.where("f.expires_at > now()")
    # hides a focus that was set while its customer was being deleted
    selection.where("EXISTS (SELECT FROM customers c WHERE c.id = f.customer_id AND c.deleted_at IS NULL)")
    return await selection.page(conn, page)
