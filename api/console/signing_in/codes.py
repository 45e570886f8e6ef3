"""Signing in to the console with a code from a mail, and signing out."""

from typing import Annotated, TypeVar

from litestar import Response, get, post
from pydantic import Field, ValidationError

from api.console.cookies import host_cookie, read_cookie
from api.console.errors import SIGN_IN
from api.console.forms import Form, FormModel, form_pairs, read_pairs, read_query
from api.console.pages import page, redirect
from api.console.sessions import COOKIE, CSRF_FIELD, ENDED_TOO, PUBLIC, find_session, load_session
from api.console.signing_in.state import KEPT, KEPT_PATH, STATE, KeptForm, keep_state, read_state
from api.console.urls import local_path, parts_of
from api.dependencies import ApiRequest
from api.http.requests import MAX_BODY_BYTES, client_key
from schemas.email_addresses import Email
from schemas.errors import NotFound
from schemas.identity import console_sessions, sign_in_codes
from schemas.identity.sign_in_codes import CODE_MINUTES, CodeSubmission
from schemas.settings import LOOPBACK, Settings

CODE_PAGE = f"{SIGN_IN}/code"
WRONG_CODE = "This code is wrong, or no longer valid. Check the mail, or ask for a new code."
ASK_AGAIN = "Ask for a code again: the page was open for too long."
USER_POOL = "Users of this installation sign in at its user pool."
NOT_SECURE = (
    "Nobody stays signed in at this address: browsers keep the session only over https, or at 127.0.0.1 on the machine on "
    "which Stint runs. Serve the console over https, and set PUBLIC_URL to its address."
)
LOST = "Your session has ended, so what you sent was not saved, and it was too long to be kept. Sign in, then send it again."
MAX_SIGN_IN_BYTES = MAX_BODY_BYTES + 64 * 1024  # with a form that is kept, each field of which takes some bytes more
Model = TypeVar("Model", bound=FormModel)


class SignInQuery(FormModel):
    """`next`: the page to show afterwards. `expired`: a form was sent without a session."""

    next: Annotated[str, Field(max_length=2_000)] | None = None
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
    target = local_path(query.next or read_state(request).get("next", ""))
    if await find_session(request.scope) is not None:
        return redirect(target)
    note = LOST if query.expired else "" if _keeps_cookies(request) else NOT_SECURE
    response = page(request, "sign-in.html", form=Form[EmailForm](), note=note, kept=None)
    keep_state(response, {"next": target})
    return response


def _keeps_cookies(request: ApiRequest) -> bool:
    """Whether a browser keeps a cookie of this address that is sent over https only."""
    host = parts_of(f"//{request.headers.get('host', '')}").hostname
    return request.settings.public_url.lower().startswith("https://") or host in LOOPBACK


def require_local_identity(settings: Settings) -> None:
    """Raises NotFound where users have their accounts in a user pool."""
    if settings.uses_external_identity:
        raise NotFound(USER_POOL)


@post(SIGN_IN, opt=PUBLIC, status_code=303, request_max_body_size=MAX_SIGN_IN_BYTES)
async def ask_for_code(request: ApiRequest) -> Response[bytes]:
    """Has a code sent to the address, if it has an account; the answer is the same if it has none."""
    require_local_identity(request.settings)
    form, kept = await _read_form(request, EmailForm)
    if form.value is not None:
        with form.catching():
            async with request.database.transaction() as conn:
                code_id = await sign_in_codes.request_code(conn, form.value.email, client=client_key(request))
            state = read_state(request) | {"email": form.value.email, "code_id": str(code_id)}
            response = redirect(CODE_PAGE) if kept is None else _code_page(request, state["email"], Form[CodeForm](), kept)
            keep_state(response, state)
            return response
    return page(request, "sign-in.html", status=422, form=form, note="", kept=kept)


@get(CODE_PAGE, opt=PUBLIC)
async def show_code(request: ApiRequest) -> Response[bytes]:
    """The page that takes the code."""
    if (email := read_state(request).get("email")) is None:
        return redirect(SIGN_IN)
    return _code_page(request, email, Form[CodeForm](), None)


@post(CODE_PAGE, opt=PUBLIC, status_code=303, request_max_body_size=MAX_SIGN_IN_BYTES)
async def sign_in(request: ApiRequest) -> Response[bytes]:
    """Begins a session, if the code is valid."""
    require_local_identity(request.settings)
    state = read_state(request)
    form, kept = await _read_form(request, CodeForm)
    if "email" not in state:
        return redirect(SIGN_IN, ASK_AGAIN, kind="warning")
    if form.value is not None:
        try:
            sent = {"email": state["email"], "code": form.value.code, "codeId": state.get("code_id")}
            submission = CodeSubmission.model_validate(sent)
        except ValidationError:  # the cookie was changed by hand
            return redirect(SIGN_IN, ASK_AGAIN, kind="warning")
        with form.catching():
            if (token := await _use_code(request, submission)) is not None:
                return await signed_in(request, token, state.get("next", ""), kept)
            form.refuse("code", WRONG_CODE)
    return _code_page(request, state["email"], form, kept, status=422)


async def _use_code(request: ApiRequest, submission: CodeSubmission) -> str | None:
    """The token of a new session, if the code is valid."""
    async with request.database.transaction() as conn:
        user = await sign_in_codes.use_code(conn, submission, client=client_key(request), settings=request.settings)
        return await console_sessions.start(conn, user.id) if user is not None else None


async def signed_in(request: ApiRequest, token: str, path: str, kept: KeptForm | None = None) -> Response[bytes]:
    """Redirects to the page with the cookie of a new session; first to a form that was kept, if there is one. The session that
    this browser had before ends."""
    await _end_present(request)
    if kept is None:
        response = redirect(local_path(path))
    else:
        request.scope["auth"] = await load_session(request.database, token)
        response = page(request, "kept-form.html", kept=kept, next=local_path(path))
    response.set_cookie(host_cookie(COOKIE, token, console_sessions.SESSION_HOURS * 3600))
    response.set_cookie(host_cookie(STATE, "", 0))
    return response


@post("/console/sign-out", status_code=303, opt={ENDED_TOO: True})
async def sign_out(request: ApiRequest) -> Response[bytes]:
    """Ends this session. Those on other devices, and tokens, stay valid: POST /auth/sign-out ends all of them."""
    await _end_present(request)
    response = redirect(SIGN_IN, "You are signed out.")
    response.set_cookie(host_cookie(COOKIE, "", 0))
    return response


async def _end_present(request: ApiRequest) -> None:
    """Ends the session that the request's cookie names, if there is one."""
    if (token := read_cookie(request.scope, COOKIE)) is not None:
        async with request.database.transaction() as conn:
            await console_sessions.end(conn, token)


def _code_page(
    request: ApiRequest, email: str, form: Form[CodeForm], kept: KeptForm | None, *, status: int = 200
) -> Response[bytes]:
    return page(request, "code.html", status=status, form=form, email=email, minutes=CODE_MINUTES, kept=kept)


async def _read_form(request: ApiRequest, model: type[Model]) -> tuple[Form[Model], KeptForm | None]:
    """The form of a page of signing in, and the form that it keeps."""
    pairs = await form_pairs(request)
    return read_pairs([pair for pair in pairs if pair[0] not in (KEPT, KEPT_PATH, CSRF_FIELD)], model), KeptForm.of(pairs)
