"""Signing in to the console with a code from a mail, and signing out."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Response, get, post
from pydantic import Field

from api.console.cookies import host_cookie, pack, read_cookie, unpack
from api.console.errors import SIGN_IN
from api.console.forms import Form, FormModel, read_form, read_query
from api.console.pages import local_path, page, redirect
from api.console.sessions import COOKIE, PUBLIC, find_session, session_of
from api.dependencies import ApiRequest
from api.http.requests import client_key
from schemas.email_addresses import Email
from schemas.identity import console_sessions, sign_in_codes
from schemas.identity.sign_in_codes import CODE_MINUTES, CodeSubmission

STATE = "__Host-stint-sign-in"  # what one page of signing in tells the next
CODE_PAGE = f"{SIGN_IN}/code"
WRONG_CODE = "This code is wrong, or no longer valid. Check the mail, or ask for a new code."
MAX_SIGN_IN_BYTES = 4 * 1024


class SignInQuery(FormModel):
    """`next`: the page to show afterwards. `expired`: a form was sent without a session."""

    next: Annotated[str, Field(max_length=2_000)] = "/console"
    expired: bool = False


class EmailForm(FormModel):
    """The address that wants to sign in."""

    email: Email


class CodeForm(FormModel):
    """The code from the mail."""

    code: Annotated[str, Field(max_length=20, examples=["290174"])]


@get(SIGN_IN, opt=PUBLIC)
async def show_sign_in(request: ApiRequest) -> Response[bytes]:
    """The page to sign in. A person who is signed in already is led on."""
    query = read_query(request, SignInQuery).value or SignInQuery()
    if await find_session(request.scope) is not None:
        return redirect(local_path(query.next))
    response = page(request, "sign-in.html", form=Form[EmailForm](), expired=query.expired)
    _keep(response, {"next": local_path(query.next)})
    return response


@post(SIGN_IN, opt=PUBLIC, status_code=303, request_max_body_size=MAX_SIGN_IN_BYTES)
async def ask_for_code(request: ApiRequest) -> Response[bytes]:
    """Has a code sent to the address, if it has an account; the answer is the same if it has none."""
    form = await read_form(request, EmailForm)
    if form.value is not None:
        with form.catching():
            async with request.database.transaction() as conn:
                code_id = await sign_in_codes.request_code(conn, form.value.email, client=client_key(request))
            response = redirect(CODE_PAGE)
            _keep(response, _state(request) | {"email": form.value.email, "code_id": str(code_id)})
            return response
    return page(request, "sign-in.html", status=422, form=form, expired=False)


@get(CODE_PAGE, opt=PUBLIC)
async def show_code(request: ApiRequest) -> Response[bytes]:
    """The page that takes the code."""
    if (email := _state(request).get("email")) is None:
        return redirect(SIGN_IN)
    return page(request, "code.html", form=Form[CodeForm](), email=email, minutes=CODE_MINUTES)


@post(CODE_PAGE, opt=PUBLIC, status_code=303, request_max_body_size=MAX_SIGN_IN_BYTES)
async def sign_in(request: ApiRequest) -> Response[bytes]:
    """Begins a session, if the code is valid."""
    state = _state(request)
    if "email" not in state:
        return redirect(SIGN_IN, "Ask for a code again: the page was open for too long.", kind="warning")
    form = await read_form(request, CodeForm)
    if form.value is not None:
        submission = CodeSubmission(email=state["email"], code=form.value.code, codeId=_uuid(state.get("code_id")))
        with form.catching():
            token = None
            async with request.database.transaction() as conn:
                client = client_key(request)
                user = await sign_in_codes.use_code(conn, submission, client=client, settings=request.settings)
                if user is not None:
                    token = await console_sessions.start(conn, user.id)
            if token is not None:
                return signed_in(token, state.get("next", ""))
            form.refuse("code", WRONG_CODE)
    return page(request, "code.html", status=422, form=form, email=state["email"], minutes=CODE_MINUTES)


def signed_in(token: str, path: str) -> Response[bytes]:
    """Redirects to the page with the cookie of a new session."""
    response = redirect(local_path(path))
    response.set_cookie(host_cookie(COOKIE, token, console_sessions.SESSION_HOURS * 3600))
    response.set_cookie(host_cookie(STATE, "", 0))
    return response


@post("/console/sign-out", status_code=303)
async def sign_out(request: ApiRequest) -> Response[bytes]:
    """Ends this session. Those on other devices, and tokens, stay valid: POST /auth/sign-out ends all of them."""
    session = session_of(request)
    assert session is not None
    async with request.database.transaction() as conn:
        await console_sessions.end(conn, session.token)
    response = redirect(SIGN_IN, "You are signed out.")
    response.set_cookie(host_cookie(COOKIE, "", 0))
    return response


def _keep(response: Response[Any], state: dict[str, str]) -> None:
    response.set_cookie(host_cookie(STATE, pack(state), CODE_MINUTES * 60))


def _state(request: ApiRequest) -> dict[str, str]:
    """What the page before has kept in this browser; empty without it. It is not signed: it names what its sender may send."""
    found = unpack(read_cookie(request.scope, STATE))
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
