"""Routes for the focus: which customer each of the firm's own people is looking at."""

from uuid import UUID

from litestar import Response, delete, get, put
from litestar.params import FromPath

from api.auth.auth import require_internal
from api.dependencies import ApiRequest, ThePage
from api.http.responses import Listed, json_response
from schemas.customers import focus
from schemas.customers.focus import Focus


@put("/api/customers/{customer_id:str}/focus", summary="Look at a customer", guards=[require_internal])
async def put_focus(request: ApiRequest, customer_id: FromPath[UUID]) -> Focus:
    """Sets your focus to this customer, instead of any other. It expires after 5 minutes; repeat the request to keep it."""
    async with request.database.connection() as conn:
        return await focus.put(conn, customer_id, user_id=request.user.id)


@delete("/api/customers/{customer_id:str}/focus", summary="Look away from a customer", guards=[require_internal])
async def clear_focus(request: ApiRequest, customer_id: FromPath[UUID]) -> None:
    """Ends your focus on this customer. It is no error if you have none."""
    async with request.database.connection() as conn:
        await focus.clear(conn, customer_id, user_id=request.user.id)


@get("/api/focus", summary="Who is looking at which customer", guards=[require_internal])
async def list_focus(request: ApiRequest, page: ThePage) -> Response[Listed[Focus]]:
    """Which of the firm's own people are looking at which customer now, newest first."""
    async with request.database.connection() as conn:
        return json_response(await focus.list_page(conn, page))
