"""Verifies bearer tokens and reads their claims."""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from jwt.types import Options

from api.auth.key_cache import KeyCache
from api.http.limits.json_text import UNSTORABLE
from api.http.problems import BadRequest
from schemas.email_addresses import one_spelling
from schemas.names import clean_name_of_account
from schemas.settings import Settings, split_list

ALGORITHMS = ["RS256", "ES256"]
CACHED_SECONDS = 60.0
CACHED_TOKENS = 10_000
MAX_TOKEN_BYTES = 8_192
MAX_TIME = 253_402_300_800  # the year 10000
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
SEND_TOKEN = "Send one bearer token: Authorization: Bearer TOKEN. ./stint token makes one."  # noqa: S105
CLAIMS = ("iss", "sub", "exp", "token_use")
# how far the clock of a user pool may be ahead of the database's; none for `exp`, so that no token is valid for longer
LEEWAY_SECONDS = 60.0
# the times are compared with the database's clock instead: `Token.check_times`, and the end of a lease
OPTIONS: Options = {
    "require": list(CLAIMS),
    "verify_aud": False,  # an access token names its client in client_id
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}


@dataclass(frozen=True, eq=False)
class Token:
    """The claims of a token whose signature, issuer and client are verified; `check_times` has to be called with each read of
    its user. `role` is the raw claim, None if there is none. Times are in seconds since 1970; one that the token lacks is 0."""

    sub: UUID
    use: str
    client_id: str
    email: str
    name: str
    role: Any
    customer_id: UUID | None
    expires: float
    issued: float = 0.0
    started: float = 0.0  # when the user signed in; a refreshed token is issued later
    not_before: float = 0.0
    access_version: int | None = None  # None: not a token of the local provider, or one of a version before 0.3.0

    def check_times(self, now: float) -> None:
        """Raises BadRequest (401) if the token has expired at `now`, or begins later. `now` is read from the database's clock,
        by which the local provider issues tokens: the clock of this process does not matter."""
        if self.expires <= now or max(self.issued, self.not_before) > now + LEEWAY_SECONDS:
            raise invalid_token()


class Verifier:
    """Verifies tokens except for their times, and caches the result for up to a minute."""

    def __init__(self, settings: Settings, keys: KeyCache) -> None:
        self._issuer, self._clients, self._keys = settings.auth_issuer, split_list(settings.auth_client_ids), keys
        self._has_access_versions = not settings.uses_external_identity
        self._verified: OrderedDict[bytes, tuple[float, Token]] = OrderedDict()

    async def verify(self, text: str) -> Token:
        """The claims of the token. Raises BadRequest (401), and Unavailable if the keys cannot be fetched."""
        digest = hashlib.sha256(text.encode()).digest()
        now = time.monotonic()
        cached = self._verified.get(digest)
        if cached is not None and now < cached[0]:
            return cached[1]
        token = self._parse(text, await self._find_key(text))
        self._verified[digest] = (now + CACHED_SECONDS, token)
        if len(self._verified) > CACHED_TOKENS:
            self._verified.popitem(last=False)
        return token

    async def _find_key(self, text: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(text)
        except jwt.InvalidTokenError:
            raise invalid_token() from None
        kid = header.get("kid")
        if not isinstance(kid, str) or header.get("alg") not in ALGORITHMS:
            raise invalid_token()
        key = await self._keys.find(kid)
        if key is None or key.algorithm_name != header["alg"]:
            raise invalid_token()
        return key

    def _parse(self, text: str, key: jwt.PyJWK) -> Token:
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                options=OPTIONS,
            )
            use = claims["token_use"]
            client_id = claims.get("aud") if use == "id" else claims.get("client_id") if use == "access" else None
            if not isinstance(client_id, str) or client_id not in self._clients:
                raise invalid_token()
            customer = claims.get("custom:customerId")
            email = one_spelling(str(claims.get("email") or ""))
            name = str(claims.get("name") or "")
            # null is not absent: it is a role that we do not know
            role = (claims["custom:userRole"] or "") if "custom:userRole" in claims else None
            if any(UNSTORABLE.search(claim) for claim in (email, name, str(role))):
                raise invalid_token()
            return Token(
                sub=UUID(claims["sub"]),
                use=use,
                client_id=client_id,
                email=email,
                name=clean_name_of_account(name),
                role=role,
                customer_id=UUID(customer) if customer else None,
                expires=_time(claims, "exp"),
                issued=_time(claims, "iat", "auth_time"),
                started=_time(claims, "auth_time", "iat"),
                not_before=_time(claims, "nbf"),
                access_version=_access_version(claims) if self._has_access_versions else None,
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise invalid_token() from None


def _time(claims: dict[str, Any], *names: str) -> float:
    """The first of these claims that there is, in seconds since 1970; 0 without any. Raises ValueError for anything else."""
    for name in names:
        if name in claims:
            value = claims[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TIME:
                raise ValueError(f"{name} is not a time")
            return float(value)
    return 0.0


def _access_version(claims: dict[str, Any]) -> int | None:
    value = claims.get("access_version")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError("access_version is not a number")
    return value


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token in the Authorization header of these headers, which are those of the ASGI scope; it is not verified yet. Raises
    BadRequest (401) without a header, and with two: a proxy in front of us may have checked the other one."""
    sent = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
    scheme, _, text = sent[0].partition(" ") if sent else ("", "", "")
    text = text.strip()
    if len(sent) > 1 or scheme.lower() != "bearer" or not text:
        raise BadRequest(401, SEND_TOKEN)
    # base64 has several spellings of the same bytes; RFC 7515 allows only this one
    if len(text) > MAX_TOKEN_BYTES or not COMPACT.fullmatch(text):
        raise invalid_token()
    return text


def invalid_token() -> BadRequest:
    return BadRequest(401, "The token is not valid, or has expired; sign in again.")
