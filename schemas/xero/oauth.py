"""The client of Xero's identity service: consent, tokens, and the organisations that they give access to.

xero-python cannot exchange a code, and its refresh raises the same error for a lost answer and for a refusal; so these calls
are made with httpx2. Each has a deadline of `seconds`. No exception contains what was sent or received.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from schemas.settings import Settings
from schemas.xero.client_errors import NotSent, OutcomeUnknown, Refused, XeroError

if TYPE_CHECKING:
    import httpx2

SCOPES = "offline_access projects"


@dataclass(frozen=True, repr=False)
class Tokens:
    """Access token, refresh token, and the seconds until the access token expires. Without a repr, so that no log contains
    them."""

    access: str
    refresh: str
    expires_in: int


@dataclass(frozen=True)
class Organisation:
    """A Xero organisation that the tokens give access to; `connection_id` is Xero's id of that permission."""

    connection_id: str
    tenant_id: str
    name: str
    updated_at: str


def consent_url(settings: Settings, state: str) -> str:
    """The page at Xero on which a person gives Stint access."""
    query = {
        "response_type": "code",
        "client_id": settings.xero_client_id or "",
        "redirect_uri": settings.redirect_uri,
        "scope": SCOPES,
        "state": state,
    }
    return f"{settings.xero_login_url.rstrip('/')}/identity/connect/authorize?{urlencode(query)}"


async def exchange_code(settings: Settings, code: str, *, seconds: float) -> Tokens:
    """The tokens for the code that Xero appended to the redirect URI. Raises Refused for one that is unknown, used or
    expired."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": settings.redirect_uri}
    return _tokens(await _post(settings, "/connect/token", form, seconds=seconds))


async def refresh(settings: Settings, refresh_token: str, *, seconds: float) -> Tokens:
    """New tokens for the refresh token. The old one stays valid for 30 minutes, in case this answer is lost. Raises Refused
    when Xero does not accept it any more."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _tokens(await _post(settings, "/connect/token", form, seconds=seconds))


async def revoke(settings: Settings, refresh_token: str, *, seconds: float) -> None:
    """Revokes all tokens of this consent."""
    await _post(settings, "/connect/revocation", {"token": refresh_token}, seconds=seconds)


async def list_organisations(settings: Settings, access_token: str, *, seconds: float) -> list[Organisation]:
    """The organisations that the token gives access to."""
    url = f"{settings.xero_api_url.rstrip('/')}/connections"
    answer = await _request("GET", url, seconds=seconds, headers={"Authorization": f"Bearer {access_token}"})
    try:
        return [
            Organisation(row["id"], row["tenantId"], row.get("tenantName") or "", row.get("updatedDateUtc") or "")
            for row in answer.json()
            if row.get("tenantType") in (None, "ORGANISATION")
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OutcomeUnknown("Xero's list of organisations cannot be read") from None


async def problem(settings: Settings, access_token: str, *, seconds: float) -> str | None:
    """Whether Xero answers, by a call outside of an organisation's rate limits: None, or `unreachable: the reason`."""
    try:
        await list_organisations(settings, access_token, seconds=seconds)
    except Refused:
        return None
    except XeroError as error:
        return f"unreachable: {error}"
    return None


async def _post(settings: Settings, path: str, form: dict[str, str], *, seconds: float) -> "httpx2.Response":
    secret = settings.xero_client_secret.get_secret_value() if settings.xero_client_secret else ""
    url = f"{settings.xero_identity_url.rstrip('/')}{path}"
    return await _request("POST", url, seconds=seconds, data=form, auth=(settings.xero_client_id or "", secret))


async def _request(method: str, url: str, *, seconds: float, **options: Any) -> "httpx2.Response":
    import httpx2  # importing it takes 0.25 s, and few processes ever need it

    try:
        async with asyncio.timeout(seconds), httpx2.AsyncClient(timeout=seconds) as client:
            answer = await client.request(method, url, **options)
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        raise NotSent("Xero cannot be reached") from None
    except (httpx2.HTTPError, TimeoutError):
        raise OutcomeUnknown("Xero did not answer in time") from None
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise OutcomeUnknown(f"Xero answered {answer.status_code}") from None
    if not answer.is_success:
        raise Refused(_reason(answer), status=answer.status_code)
    return answer


def _tokens(answer: "httpx2.Response") -> Tokens:
    try:
        body = answer.json()
        return Tokens(str(body["access_token"]), str(body["refresh_token"]), int(body["expires_in"]))
    except (ValueError, KeyError, TypeError):
        raise OutcomeUnknown("Xero's answer cannot be read") from None


def _reason(answer: "httpx2.Response") -> str:
    """OAuth's error code, if it is a known one. Any other text of the answer is dropped, since it may contain secrets."""
    known = ("invalid_grant", "invalid_client", "invalid_request", "unauthorized_client", "unsupported_grant_type")
    try:
        error = answer.json().get("error")
    except (ValueError, AttributeError):
        error = None
    return error if error in known else f"Xero answered {answer.status_code}"
