"""The hosted page of a user pool, where people sign in to the console: an authorization code with PKCE (RFC 7636)."""

import asyncio
import base64
import hashlib
import logging
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from schemas.errors import Unavailable
from schemas.settings import Settings

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0  # for the whole exchange
MAX_BYTES = 64 * 1024
SCOPES = "openid email profile"
AWAY = "The user pool does not answer. Nobody was signed in; try again in a moment."


@dataclass(frozen=True)
class Attempt:
    """What one browser has to bring back: `state` in the address, `nonce` in the ID token; and the `verifier` of its code."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Attempt":
        """With random values."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))


def is_set_up(settings: Settings) -> bool:
    """Whether people sign in to the console at a hosted page."""
    return settings.uses_external_identity and bool(settings.cognito_login_url and settings.console_client_id)


def redirect_uri(settings: Settings) -> str:
    """Where the hosted page sends the browser back. The app client has to allow exactly this."""
    return f"{settings.public_url.rstrip('/')}/console/sign-in/callback"


def authorize_url(settings: Settings, attempt: Attempt) -> str:
    """The hosted page, for this attempt."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "response_type": "code",
        "client_id": settings.console_client_id,
        "redirect_uri": redirect_uri(settings),
        "scope": SCOPES,
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return _url(settings, f"/oauth2/authorize?{urlencode(query)}")


def sign_out_url(settings: Settings) -> str:
    """Where a browser signs out of the user pool, too. The app client has to allow the page that it leads back to."""
    query = {"client_id": settings.console_client_id, "logout_uri": f"{settings.public_url.rstrip('/')}/console/sign-in"}
    return _url(settings, f"/logout?{urlencode(query)}")


async def exchange(settings: Settings, code: str, verifier: str) -> str | None:
    """The ID token for the code, not verified yet; None if the user pool refuses the code. Raises Unavailable."""
    import httpx2  # costs a quarter of a second at the start of a process, and only IDENTITY=cognito needs it

    form = {
        "grant_type": "authorization_code",
        "client_id": settings.console_client_id,
        "code": code,
        "redirect_uri": redirect_uri(settings),
        "code_verifier": verifier,
    }
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS), httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            async with client.stream("POST", _url(settings, "/oauth2/token"), data=form) as response:
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise ValueError("the answer is too large")
                if 400 <= response.status_code < 500:
                    return None
                response.raise_for_status()
                token = httpx2.Response(200, content=body).json()["id_token"]
                return token if isinstance(token, str) else None
    except (httpx2.HTTPError, TimeoutError, ValueError, KeyError, TypeError) as error:
        logger.warning("exchanging a code at the user pool failed error=%s", type(error).__name__)
        raise Unavailable(AWAY) from None


def _url(settings: Settings, path: str) -> str:
    return f"{(settings.cognito_login_url or '').rstrip('/')}{path}"
