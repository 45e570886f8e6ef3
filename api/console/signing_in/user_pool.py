"""Signing in to the console at the hosted page of a user pool.

The browser that begins has a cookie with what it has to bring back, so a link with somebody else's code signs nobody in.
"""

from dataclasses import asdict
from typing import Annotated, Any

import jwt
from litestar import Response, get, post
from pydantic import Field

from api.console.errors import SIGN_IN
from api.console.forms import Form, FormModel, form_pairs, read_query
from api.console.pages import page, redirect
from api.console.sessions import PUBLIC, find_session
from api.console.signing_in.codes import MAX_SIGN_IN_BYTES, signed_in
from api.console.signing_in.state import KeptForm, drop_attempt, find_attempt, keep_attempt, read_state
from api.console.urls import local_path, parts_of
from api.dependencies import ApiRequest
from api.http.problems import BadRequest
from schemas.errors import NotFound
from schemas.identity import console_sessions
from schemas.identity.external import hosted_page
from schemas.identity.external.hosted_page import Attempt

NOT_SET_UP = "There is no hosted page here: COGNITO_LOGIN_URL and CONSOLE_CLIENT_ID are missing, or users are in Postgres."
BEGIN_AGAIN = "This sign-in was begun in another browser, or too long ago. Begin again."
REFUSED = "The user pool has signed nobody in. Begin again."
NO_ROLE = "Your account has no role that may use the console; ask an administrator for one."


class Callback(FormModel):
    """What the hosted page sends back: a `code`, or an `error`."""

    state: Annotated[str, Field(max_length=200)]
    code: Annotated[str, Field(max_length=2_000)] | None = None


@get(f"{SIGN_IN}/pool", opt=PUBLIC)
async def begin(request: ApiRequest) -> Response[bytes]:
    """Leads to the hosted page."""
    if not hosted_page.is_set_up(request.settings):
        raise NotFound(NOT_SET_UP)
    attempt = Attempt.new()
    response = redirect(hosted_page.authorize_url(request.settings, attempt))
    keep_attempt(request, response, {"next": read_state(request).get("next", "/console"), **asdict(attempt)})
    return response


@get(f"{SIGN_IN}/callback", opt=PUBLIC)
async def come_back(request: ApiRequest) -> Response[bytes]:
    """Begins a session for the user of the ID token that the code is worth."""
    if not hosted_page.is_set_up(request.settings):
        raise NotFound(NOT_SET_UP)
    sent = read_query(request, Callback).value
    if sent is None or (attempt := find_attempt(request, sent.state)) is None:
        return redirect(SIGN_IN, BEGIN_AGAIN, kind="warning")
    text = await hosted_page.exchange(request.settings, sent.code, attempt.get("verifier", "")) if sent.code else None
    if text is None:
        return redirect(SIGN_IN, REFUSED, kind="warning")
    try:
        found = await request.authenticator.authenticate(request.database, text)
    except BadRequest as error:  # not valid, or of before the end of the user's sessions
        return redirect(SIGN_IN, error.detail, kind="warning")
    claims = jwt.decode(text, options={"verify_signature": False})  # `authenticate` has verified it
    if (claims.get("nonce"), claims["token_use"], claims.get("aud")) != (
        attempt.get("nonce"), "id", request.settings.console_client_id
    ):  # fmt: skip
        return redirect(SIGN_IN, REFUSED, kind="warning")
    async with request.database.transaction() as conn:
        token = await console_sessions.start(conn, found.user.id)
    if token is None:
        return redirect(SIGN_IN, NO_ROLE, kind="warning")
    response = await signed_in(request, token, attempt.get("next", ""))
    drop_attempt(request, response, attempt)
    return response


@post(f"{SIGN_IN}/kept", opt=PUBLIC, status_code=200, request_max_body_size=MAX_SIGN_IN_BYTES)
async def show_kept_form(request: ApiRequest) -> Response[bytes]:
    """Shows a form again that was sent without a session, once the person has signed in in another tab."""
    kept = KeptForm.of(await form_pairs(request))
    if kept is None:
        return redirect(SIGN_IN)
    session = await find_session(request.scope)
    if session is None:
        return page(request, "sign-in.html", status=401, form=Form[Any](), note="You are not signed in yet.", kept=kept)
    request.scope["auth"] = session
    return page(request, "kept-form.html", kept=kept, next=local_path(parts_of(kept.path).path))
