"""Focus: who is looking at which customer right now."""

from uuid import UUID

from litestar import Response, delete, get, put
from litestar.params import FromPath

from api.answers import Cursor, Limit, Listed, json_answer
from api.auth import internal
from api.dependencies import TheDatabase, TheUser
from schemas import focus
from schemas.focus import Focus
from schemas.listing import Page


@put("/api/customers/{customer_id:uuid}/focus", summary="Look at a customer", guards=[internal])
async def put_focus(database: TheDatabase, user: TheUser, customer_id: FromPath[UUID]) -> Focus:
    """Says that you are looking at this customer, and at no other. It lapses after 5 minutes; send it again to keep it."""
    async with database.connection() as conn:
        return await focus.put(conn, customer_id, user_id=user.id)


@delete("/api/customers/{customer_id:uuid}/focus", summary="Look away from a customer", guards=[internal])
async def clear_focus(database: TheDatabase, user: TheUser, customer_id: FromPath[UUID]) -> None:
    """Says that you are no longer looking at this customer; nothing happens if you were not."""
    async with database.connection() as conn:
        await focus.clear(conn, customer_id, user_id=user.id)


@get("/api/focus", summary="Who is looking at which customer", guards=[internal])
async def list_focus(database: TheDatabase, limit: Limit = 200, page_cursor: Cursor = None) -> Response[Listed[Focus]]:
    """Who of the firm is looking at which customer now, the latest first."""
    async with database.connection() as conn:
        return json_answer(await focus.list_page(conn, Page(limit, page_cursor)))
