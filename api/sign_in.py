"""Sign-in by a code in a mail, at the local identity provider; signing out."""

from litestar import post
from litestar.params import JSONBody

from api.auth.auth import ENDS_ACCESS
from api.auth.leases import Session
from api.dependencies import ApiRequest
from api.http.limits.clients import COUNT_CLIENT
from api.http.limits.json_text import FORM_BOUNDS, JSON_BOUNDS
from api.http.problems import BadRequest
from api.http.requests import client_key
from schemas.errors import NotFound
from schemas.identity import sign_in_codes, users
from schemas.identity.sign_in_codes import CodeRequest, CodeSent, CodeSubmission, SignedIn
from schemas.settings import Settings

USER_POOL = "Users of this installation sign in at its user pool; send the ID token that you get there."
WRONG_CODE = "This code is wrong, or no longer valid; ask for a new one at POST /auth/code."
PUBLIC = {"exclude_from_auth": True, COUNT_CLIENT: True, JSON_BOUNDS: FORM_BOUNDS}
CODE = PUBLIC | {"also_answers": {404: USER_POOL, 429: ""}}
TOKEN = PUBLIC | {"also_answers": {401: WRONG_CODE, 404: USER_POOL, 429: ""}}
MAX_SIGN_IN_BYTES = 2 * 1024


@post("/auth/code", summary="Ask for a code to sign in", opt=CODE, status_code=202, request_max_body_size=MAX_SIGN_IN_BYTES)
async def ask_for_code(request: ApiRequest, data: JSONBody[CodeRequest]) -> CodeSent:
    """Sends a code to the address if it has an account. The answer is the same if it has none. Each client has a limit of
    requests: 429 says when to try again. 404 where users sign in at a user pool (IDENTITY=cognito)."""
    _require_local_identity(request.settings)
    async with request.database.transaction() as conn:
        code_id = await sign_in_codes.request_code(conn, data.email, client=client_key(request))
    return CodeSent(code_id=code_id)


@post("/auth/token", summary="Sign in with the code", opt=TOKEN, status_code=200, request_max_body_size=MAX_SIGN_IN_BYTES)
async def sign_in_with_code(request: ApiRequest, data: JSONBody[CodeSubmission]) -> SignedIn:
    """Exchanges the code from the mail for an ID token, valid for 12 hours. A code works once, within 10 minutes, and is
    invalid after 5 wrong tries: 401. Tries of other clients do not count if you send the `codeId`."""
    _require_local_identity(request.settings)
    async with request.database.transaction() as conn:
        signed_in = await sign_in_codes.verify_code(conn, data, client=client_key(request), settings=request.settings)
    if signed_in is None:
        raise BadRequest(401, WRONG_CODE)
    return signed_in


@post("/auth/sign-out", summary="End all your sessions", opt={ENDS_ACCESS: True}, status_code=204)
async def sign_out(request: ApiRequest) -> None:
    """Ends all sessions of the user, on every device: the token of this request and every other one are refused from the next
    request on. Sign in again for a new one. At a user pool, sign out there, too."""
    session: Session = request.auth
    async with request.database.connection() as conn:
        await users.end_sessions(conn, request.user.id, began_at=session.began_at)


def _require_local_identity(settings: Settings) -> None:
    if settings.uses_external_identity:
        raise NotFound(USER_POOL)
