"""A test mail to oneself, and what became of it."""

from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath

from api.auth.auth import require_admin
from api.console.connections.overview import PATH as CONNECTIONS
from api.console.pages import fragment, is_htmx, page, redirect
from api.dependencies import ApiRequest
from schemas.errors import NotFound, RateLimited
from schemas.mail import templates
from schemas.masking import Redactor
from schemas.outbox import outbox
from schemas.rate_limits import Limit, consume

PATH = f"{CONNECTIONS}/mail"
TO_ONESELF = Limit("test-mail", burst=5, seconds=60)


@post(PATH, guards=[require_admin], status_code=303)
async def send_test_mail(request: ApiRequest) -> Response[bytes]:
    """Enqueues a mail to the person who asks."""
    try:
        async with request.database.transaction() as conn:
            await consume(conn, TO_ONESELF, str(request.user.id))
            message_id = await outbox.enqueue(conn, templates.test_mail(to=request.user.email), created_by=request.user.id)
    except RateLimited as refusal:
        return redirect(CONNECTIONS, refusal.detail, kind="warning")
    return redirect(f"{PATH}/{message_id}")


@get(f"{PATH}/{{message_id:str}}", guards=[require_admin])
async def show_test_mail(request: ApiRequest, message_id: FromPath[UUID]) -> Response[bytes]:
    """What became of the mail: a page, or the part of it that htmx asks for while it is not settled."""
    async with request.database.connection() as conn:
        found = await outbox.find_own(conn, message_id, actor="send_mail", created_by=request.user.id)
    if found is None:
        raise NotFound("There is no such test mail of yours.")
    error = Redactor(request.settings).text(found.error) if found.error else ""
    values: dict[str, Any] = {"mail": found, "error": error}
    if is_htmx(request):
        return fragment(request, "connections/mail/outcome.html", **values)
    return page(request, "connections/mail.html", **values)
