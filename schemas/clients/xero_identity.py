"""The window to Xero's identity service: consent, tokens, and which organisations they are good for.

xero-python has no exchange of codes, and its refresh tells a lost answer from a refusal by neither class nor text; so these
calls are ours. Each has the deadline of whoever makes it. No exception here carries what was sent or received.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from schemas.clients.xero_errors import NotSent, Refused, Unanswered
from schemas.settings import Settings

if TYPE_CHECKING:
    import httpx

SCOPES = "offline_access projects"


@dataclass(frozen=True, repr=False)
class Tokens:
    """What lets us in, and for how many seconds; it has no repr, so that it comes into no log."""

    access: str
    refresh: str
    expires_in: int


@dataclass(frozen=True)
class Organisation:
    """A Xero organisation that somebody let us into; `connection_id` is what Xero calls that permission."""

    connection_id: str
    tenant_id: str
    name: str
    updated_at: str


def consent_url(settings: Settings, state: str) -> str:
    """Where a person goes to let Stint in."""
    query = {
        "response_type": "code",
        "client_id": settings.xero_client_id or "",
        "redirect_uri": settings.redirect_uri,
        "scope": SCOPES,
        "state": state,
    }
    return f"{settings.xero_login_url.rstrip('/')}/identity/connect/authorize?{urlencode(query)}"


async def exchange(settings: Settings, code: str, *, seconds: float) -> Tokens:
    """The tokens for a code that Xero gave to a person. Raises Refused when it is not, or no longer, good."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": settings.redirect_uri}
    return _tokens(await _post(settings, "/connect/token", form, seconds=seconds))


async def refresh(settings: Settings, refresh_token: str, *, seconds: float) -> Tokens:
    """New tokens for the refresh token; the old one stays good for 30 minutes, in case this answer is lost. Raises Refused
    when Xero takes it no more."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _tokens(await _post(settings, "/connect/token", form, seconds=seconds))


async def revoke(settings: Settings, refresh_token: str, *, seconds: float) -> None:
    """Makes all tokens of this sign-in useless."""
    await _post(settings, "/connect/revocation", {"token": refresh_token}, seconds=seconds)


async def organisations(settings: Settings, access_token: str, *, seconds: float) -> list[Organisation]:
    """Those that the token is good for."""
    url = f"{settings.xero_api_url.rstrip('/')}/connections"
    answer = await _ask("GET", url, seconds=seconds, headers={"Authorization": f"Bearer {access_token}"})
    try:
        return [
            Organisation(row["id"], row["tenantId"], row.get("tenantName") or "", row.get("updatedDateUtc") or "")
            for row in answer.json()
            if row.get("tenantType") in (None, "ORGANISATION")
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unanswered("Xero's list of organisations can't be read") from None


async def _post(settings: Settings, path: str, form: dict[str, str], *, seconds: float) -> "httpx.Response":
    secret = settings.xero_client_secret.get_secret_value() if settings.xero_client_secret else ""
    url = f"{settings.xero_identity_url.rstrip('/')}{path}"
    return await _ask("POST", url, seconds=seconds, data=form, auth=(settings.xero_client_id or "", secret))


async def _ask(method: str, url: str, *, seconds: float, **what: Any) -> "httpx.Response":
    import httpx  # a quarter of a second of each process's start, and few of them ever ask

    try:
        async with asyncio.timeout(seconds), httpx.AsyncClient(timeout=seconds) as client:
            answer = await client.request(method, url, **what)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise NotSent("Xero can't be reached") from None
    except (httpx.HTTPError, TimeoutError):
        raise Unanswered("Xero did not answer in time") from None
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise Unanswered(f"Xero answered {answer.status_code}") from None
    if not answer.is_success:
        raise Refused(_reason(answer), status=answer.status_code)
    return answer


def _tokens(answer: "httpx.Response") -> Tokens:
    try:
        body = answer.json()
        return Tokens(str(body["access_token"]), str(body["refresh_token"]), int(body["expires_in"]))
    except (ValueError, KeyError, TypeError):
        raise Unanswered("Xero's answer can't be read") from None


def _reason(answer: "httpx.Response") -> str:
    """OAuth's short word for it, if it is one; an answer's text stays where it is."""
    known = ("invalid_grant", "invalid_client", "invalid_request", "unauthorized_client", "unsupported_grant_type")
    try:
        error = answer.json().get("error")
    except (ValueError, AttributeError):
        error = None
    return error if error in known else f"Xero answered {answer.status_code}"
