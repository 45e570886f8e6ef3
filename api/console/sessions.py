"""Who sends a request to the console, and that a write comes from a page of Stint.

The cookie names a session, which is read in each request. A request that may change something needs two things: headers of the
browser that say that a page of the same origin sent it, and the CSRF token of the session.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Request

from api.console.cookies import read_cookie
from api.console.urls import parts_of
from api.http.cors import Application, Receive, Scope, Send
from api.http.limits.clients import COUNT_CLIENT, consume_client
from schemas.errors import Forbidden
from schemas.identity import console_sessions
from schemas.identity.users import User
from schemas.postgres.pool import Database
from schemas.settings import Settings

COOKIE = "__Host-stint"
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
READING = ("GET", "HEAD", "OPTIONS")
NO_SESSION = "no_session"  # in a handler's `opt`: for everybody, with and without a session
ENDED_TOO = "ended_too"  # in a handler's `opt`: also with a session that has ended
PUBLIC: dict[str, Any] = {NO_SESSION: True, COUNT_CLIENT: True}
OTHER_SITE = "This request does not come from a page of Stint. Nothing was changed; open the page here, and send its form."
OLD_FORM = "This form is of another session than yours. Nothing was changed; open the page again, and send its form."


@dataclass(frozen=True)
class Session:
    """The session of a request. `csrf`: what a form of its pages has to send."""

    user: User
    token: str
    csrf: str
    seconds_left: float


class SignInNeeded(Exception):
    """The request has no session, or one that has ended."""


def with_session(app: Application) -> Application:
    """Sets the User of each request to the console, and its Session. Raises SignInNeeded, RateLimited for a client that sends
    too many requests without a session, and Forbidden for a write that another site sends."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        context = scope["litestar_app"].state.context
        if scope["method"] not in READING and not is_same_origin(scope, context.settings):
            raise Forbidden(OTHER_SITE)
        if not scope["route_handler"].opt.get(NO_SESSION):
            session = await find_session(scope)
            if session is not None:
                scope["user"], scope["auth"] = session.user, session
            else:
                consume_client(Request(scope))  # type: ignore[arg-type]
                if not scope["route_handler"].opt.get(ENDED_TOO):
                    raise SignInNeeded
        await app(scope, receive, send)

    return wrapped


async def find_session(scope: Mapping[str, Any]) -> Session | None:
    """The session that the request's cookie names, if it has not ended."""
    token = read_cookie(scope, COOKIE)
    return await load_session(scope["litestar_app"].state.context.database, token) if token else None


async def load_session(database: Database, token: str) -> Session | None:
    """The session of that token, if it has not ended."""
    async with database.connection() as conn:
        found = await console_sessions.find(conn, token)
    return Session(found.user, token, csrf_token(token), found.seconds_left) if found is not None else None


def session_of(request: Request[Any, Any, Any]) -> Session | None:
    """The session of a request; None on a page for everybody."""
    found = request.scope.get("auth")
    return found if isinstance(found, Session) else None


def csrf_token(token: str) -> str:
    """What only pages of this session know: the session's token cannot be computed from it."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def check_csrf(session: Session, sent: str) -> None:
    """Raises Forbidden if this is not the CSRF token of the session."""
    if not hmac.compare_digest(session.csrf.encode(), sent.encode()):
        raise Forbidden(OLD_FORM)


def is_same_origin(scope: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the browser says that a page of this origin sends the request: by Sec-Fetch-Site, and by Origin or Referer if it
    sends that none. A request without any of them is refused: every browser sends one."""
    headers: dict[bytes, str] = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    if (site := headers.get(b"sec-fetch-site")) is not None:
        return site == "same-origin"
    sender = parts_of(headers.get(b"origin") or headers.get(b"referer") or "")
    if sender.scheme not in ("http", "https") or not sender.netloc:
        return False
    public = parts_of(settings.public_url)
    # behind a proxy that ends TLS, the scheme is another one here than in the browser
    return sender.netloc == headers.get(b"host") or (sender.scheme, sender.netloc) == (public.scheme, public.netloc)
