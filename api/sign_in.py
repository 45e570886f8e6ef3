"""Signing in by a code that comes by mail, at the local identity provider."""

from litestar import post
from litestar.params import JSONBody

from api.dependencies import TheDatabase, TheSettings
from api.problems import BadRequest
from api.requests import StrictRequest, client_of
from schemas import sign_in
from schemas.errors import NotFound
from schemas.settings import Settings
from schemas.sign_in import CodeOnItsWay, CodeTyped, CodeWanted, SignedIn

# 404 where people sign in at a user pool
CODE = {"exclude_from_auth": True, "also_answers": (404,)}
TOKEN = {"exclude_from_auth": True, "also_answers": (401, 404)}


@post("/auth/code", summary="Ask for a code to sign in", opt=CODE, status_code=202)
async def ask_for_code(
    request: StrictRequest, database: TheDatabase, settings: TheSettings, data: JSONBody[CodeWanted]
) -> CodeOnItsWay:
    """Sends a code to the address, if somebody has it; the answer is the same if nobody does. How often can be asked for one is
    limited: 429 says when to try again. 404 where people sign in elsewhere (IDENTITY)."""
    _only_here(settings)
    async with database.transaction() as conn:
        await sign_in.ask(conn, data.email, client=client_of(request))
    return CodeOnItsWay()


@post("/auth/token", summary="Sign in with the code", opt=TOKEN, status_code=200)
async def sign_in_with_code(
    request: StrictRequest, database: TheDatabase, settings: TheSettings, data: JSONBody[CodeTyped]
) -> SignedIn:
    """Exchanges the code that came by mail for an ID token, valid for 12 hours. A code works once, within 10 minutes, and is
    useless after 5 wrong tries: 401."""
    _only_here(settings)
    async with database.transaction() as conn:
        signed_in = await sign_in.enter(conn, data, client=client_of(request), settings=settings)
    if signed_in is None:
        raise BadRequest(401, "This code is not right, or no longer; ask for a new one at POST /auth/code.")
    return signed_in


def _only_here(settings: Settings) -> None:
    if settings.people_are_outside:
        raise NotFound("Nobody signs in here: people of this installation sign in at its user pool, and bring its tokens.")
