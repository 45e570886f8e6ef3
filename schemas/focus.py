"""Focus: which customer somebody of the firm is looking at right now. One at a time, and it lapses by itself."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from schemas.base import Lookup, Row, json_object
from schemas.database import Connection
from schemas.errors import NotFound
from schemas.listing import Order, Page, Selection

LASTS_SECONDS = 300


class Focus(Row):
    """Somebody looking at a customer."""

    user_id: UUID
    user_name: Annotated[str, Lookup("users", "user_id", "{j}.name")]
    customer_id: UUID
    customer_name: Annotated[str, Lookup("customers", "customer_id", "{j}.name")]
    since: datetime
    expires_at: Annotated[datetime, Field(description="5 minutes after it was last set")]


async def put(conn: Connection, customer_id: UUID, *, user_id: UUID) -> Focus:
    """Sets the user's focus, away from another customer, or lets it last longer. Raises NotFound for an unknown customer."""
    cursor = await conn.execute(
        f"""
        INSERT INTO focus AS f (user_id, customer_id, since, expires_at)
        SELECT %(user)s, id, now(), now() + make_interval(secs => %(lasts)s)
        FROM customers WHERE id = %(customer)s AND deleted_at IS NULL
        ON CONFLICT (user_id) DO UPDATE SET customer_id = excluded.customer_id, expires_at = excluded.expires_at,
            since = CASE WHEN f.customer_id = excluded.customer_id AND f.expires_at > now() THEN f.since
                         ELSE excluded.since END
        RETURNING {json_object(Focus, "f")}::text
        """.encode(),
        {"user": user_id, "customer": customer_id, "lasts": LASTS_SECONDS},
    )
    if (row := await cursor.fetchone()) is None:
        raise NotFound("There is no such customer.")
    return Focus.from_json(row[0])


async def clear(conn: Connection, customer_id: UUID, *, user_id: UUID) -> None:
    """Ends the user's focus if it is on this customer: one that has gone on to another must not lose that by a late request."""
    await conn.execute(
        """
        UPDATE focus SET expires_at = greatest(since, now())
        WHERE user_id = %s AND customer_id = %s AND expires_at > now()
        """,
        (user_id, customer_id),
    )


async def list_page(conn: Connection, page: Page) -> bytes:
    """Who is looking at which customer now, the latest first."""
    selection = Selection("focus", Focus, "focus", "f", Order("since", "timestamptz"), key="user_id")
    selection.where("f.expires_at > now()")
    # one that was set while its customer was being deleted
    selection.where("EXISTS (SELECT FROM customers c WHERE c.id = f.customer_id AND c.deleted_at IS NULL)")
    return await selection.page(conn, page)
