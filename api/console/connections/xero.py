"""Connecting Xero with its consent page, and disconnecting it; sending all failed bills again."""

from typing import Annotated
from urllib.parse import urlencode

from litestar import Response, get, post
from pydantic import Field

from api.auth.auth import require_admin
from api.console.connections.overview import PATH, connections_page
from api.console.forms import SENT_BY_THE_PAGE, FormModel, read_form, read_query
from api.console.pages import page, redirect
from api.dependencies import ApiRequest
from api.http.limits.clients import COUNT_CLIENT
from api.http.queries import ANY_QUERY
from api.xero import connect_organisation
from schemas.base import Instant
from schemas.errors import Conflict, Invalid, Unavailable
from schemas.outbox.dead_letters.actions import Reason
from schemas.xero import choices, connection, sending
from schemas.xero.connection import Callback
from schemas.xero.sending import FailedBills

REFUSALS = {
    "access_denied": "Xero gives no access: it was not allowed on Xero's page.",
    "temporarily_unavailable": "Xero cannot give access just now. Connect again in a minute.",
}
STILL_CONNECTING = "Xero has not answered yet. Stint goes on connecting for a minute: open this page again to see the outcome."


class CallbackQuery(FormModel):
    """What Xero appends to the redirect URI: `code` and `state`, or `error`."""

    code: Annotated[str, Field(max_length=2_000)] = ""
    state: Annotated[str, Field(max_length=200)] = ""
    error: Annotated[str, Field(max_length=200)] = ""


class DisconnectForm(FormModel):
    """The connection that the page had shown: since when it exists."""

    UNSEEN = frozenset({"connected_at"})

    connected_at: Instant


class SendForm(FormModel):
    """Why the failed bills are sent again, and what the page had shown: how many, and when."""

    UNSEEN = frozenset({"shown", "shown_at"})

    reason: Reason
    shown: Annotated[int, Field(ge=1)]
    shown_at: Instant


@post(f"{PATH}/xero/consent", guards=[require_admin], status_code=200)
async def begin_consent(request: ApiRequest) -> Response[bytes]:
    """A page with the link to the page at Xero on which an admin gives Stint access. A form cannot lead there: browsers send
    forms of Stint's pages only to Stint."""
    try:
        async with request.database.transaction() as conn:
            consent = await connection.start_consent(conn, by=request.user, settings=request.settings)
    except Conflict as refusal:
        return redirect(PATH, refusal.detail, kind="warning")
    return page(request, "connections/consent.html", url=consent.url)


@get(f"{PATH}/xero/callback", guards=[require_admin])
async def end_consent(request: ApiRequest) -> Response[bytes]:
    """Connects the organisation that was chosen at Xero. The state works once, for the admin who began."""
    query = read_query(request, CallbackQuery).value or CallbackQuery()
    if query.error:
        return await _refused(request, query)
    if not query.code or not query.state:
        return redirect(PATH, "Xero sent no code. Connect again.", kind="warning")
    try:
        is_done = await connect_organisation(request, Callback(code=query.code, state=query.state))
    except (Conflict, Invalid, Unavailable) as refusal:
        return redirect(PATH, refusal.detail, kind="warning")
    if not is_done:
        return redirect(PATH, STILL_CONNECTING, kind="warning")
    return redirect(PATH, "Xero is connected. Approved bills that are mapped are sent now.")


async def _refused(request: ApiRequest, query: CallbackQuery) -> Response[bytes]:
    """Says that Xero gives no access, if the person was sent there; what else is in the URL may be of anybody."""
    try:
        async with request.database.transaction() as conn:
            await connection.consume_state(conn, query.state, by=request.user)
    except Invalid as refusal:
        return redirect(PATH, refusal.detail, kind="warning")
    return redirect(PATH, f"{REFUSALS.get(query.error, 'Xero gives no access.')} Nothing was changed.", kind="warning")


@get("/xero/callback", opt={"exclude_from_auth": True, ANY_QUERY: True, COUNT_CLIENT: True}, include_in_schema=False)
async def lead_to_callback(request: ApiRequest) -> Response[bytes]:
    """The default redirect URI where no APP_URL is set: leads to the console's."""
    query = read_query(request, CallbackQuery).typed
    sent = {name: values[-1] for name, values in query.items()}
    return redirect(f"{PATH}/xero/callback?{urlencode(sent)}")


@post(f"{PATH}/xero/disconnect", guards=[require_admin], status_code=303)
async def disconnect(request: ApiRequest) -> Response[bytes]:
    """Revokes the tokens at Xero and deletes them, if the connection is the one that the page had shown."""
    form = await read_form(request, DisconnectForm)
    if form.value is None:
        return redirect(PATH, f"Nothing was changed. {SENT_BY_THE_PAGE}", kind="warning")
    try:
        async with request.database.transaction() as conn:
            await choices.disconnect(conn, request.settings, shown=form.value.connected_at)
    except (Conflict, Unavailable) as refusal:
        return redirect(PATH, refusal.detail, kind="warning")
    return redirect(PATH, "Xero is disconnected. Approved bills wait until it is connected again.")


@post(f"{PATH}/xero/send-failed", guards=[require_admin], status_code=303)
async def send_failed(request: ApiRequest) -> Response[bytes]:
    """Sends the failed bills that the page showed again, at most a thousand at a time."""
    form = await read_form(request, SendForm)
    if form.value is not None:
        with form.catching():
            shown = FailedBills(form.value.shown, form.value.shown_at)
            async with request.database.transaction() as conn:
                answer = await sending.send_shown(conn, shown, reason=form.value.reason, by=request.user)
            said = f"{answer.sent} {'bill is' if answer.sent == 1 else 'bills are'} sent again."
            if answer.remaining:
                said += f" {answer.remaining} more have failed: send again for them."
            return redirect(PATH, said, kind="done" if answer.sent else "warning")
    return await connections_page(request, form, code=422)
