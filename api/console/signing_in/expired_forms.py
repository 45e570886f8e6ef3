"""A form that is sent when its session has ended: the page to sign in keeps what was typed, and offers it again afterwards.

What was typed is in hidden fields of the pages of signing in, so no process keeps it, and nothing is written before somebody
with a session sends it again.
"""

from typing import Any

from litestar import Response
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from api.console.errors import next_page
from api.console.forms import Form, form_pairs
from api.console.pages import page
from api.console.sessions import CSRF_FIELD, READING, SignInNeeded
from api.console.signing_in.state import KeptForm, keep_state
from api.console.urls import url_of
from api.dependencies import ApiRequest
from api.http.cors import Application, Receive, Scope, Send
from api.http.requests import MAX_BODY_BYTES

MAX_KEPT_BYTES = MAX_BODY_BYTES  # of a body; a longer one would not be taken with a session either
ENDED = "Your session has ended. Nothing was changed."
NOT_SENT = "Your session has ended, so what you sent was not saved. Sign in; it is kept, and you can send it again then."


def with_kept_form(app: Application) -> Application:
    """Answers a write without a session with the page to sign in, which keeps the form."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except SignInNeeded:
            request = ApiRequest(scope, receive, send)  # type: ignore[arg-type]
            if scope["method"] in READING or not await _is_short(request):
                raise
            answer: Any = (await _ask_to_sign_in(request)).to_asgi_response(app=None, request=request)
            await answer(scope, receive, send)

    return wrapped


async def _ask_to_sign_in(request: ApiRequest) -> Response[bytes]:
    pairs = [pair for pair in await form_pairs(request) if pair[0] != CSRF_FIELD]
    kept = KeptForm(url_of(request.scope), pairs) if pairs else None  # a button alone is quickly pressed again
    shown = page(request, "sign-in.html", status=401, form=Form[Any](), note=NOT_SENT if kept else ENDED, kept=kept)
    keep_state(shown, {"next": next_page(request)})
    if request.headers.get("hx-request") == "true":
        shown.headers.update({"HX-Retarget": "body", "HX-Reswap": "innerHTML"})
    return shown


async def _is_short(request: ApiRequest) -> bool:
    """Whether the body can be kept. One that says its length is not read if it is too long."""
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and int(length) <= MAX_KEPT_BYTES):
        return False
    try:
        return len(await request.body()) <= MAX_KEPT_BYTES
    except RequestEntityTooLarge:  # it came in chunks
        return False
