"""What a bearer token says, once its signature is found to be right."""

import hashlib
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from litestar.datastructures import Headers

from api.key_ring import KeyRing
from api.problems import BadRequest
from api.requests import UNSTORABLE
from schemas.settings import Settings, listed

ALGORITHMS = ["RS256", "ES256"]
CACHED_SECONDS = 60.0
CACHED_TOKENS = 10_000
MAX_TOKEN_BYTES = 8_192
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
CLAIMS = ("iss", "sub", "exp", "token_use")


@dataclass(frozen=True)
class Token:
    """What a verified token says; `role` is the raw claim, None when there is none."""

    sub: UUID
    use: str
    client_id: str
    email: str
    name: str
    role: Any
    customer_id: UUID | None
    expires: float


class Verifier:
    """Verifies tokens, and remembers for up to a minute which it has verified."""

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self._issuer, self._clients, self._keys = settings.auth_issuer, listed(settings.auth_client_ids), keys
        self._verified: OrderedDict[bytes, tuple[float, Token]] = OrderedDict()

    async def verified(self, text: str) -> Token:
        """The token that the text is. Raises BadRequest (401), or whatever keeps the keys away."""
        digest, now = hashlib.sha256(text.encode()).digest(), time.time()
        cached = self._verified.get(digest)
        if cached is not None and now < min(cached[0], cached[1].expires):
            return cached[1]
        token = self._read(text, await self._key(text))
        self._verified[digest] = (now + CACHED_SECONDS, token)
        if len(self._verified) > CACHED_TOKENS:
            self._verified.popitem(last=False)
        return token

    async def _key(self, text: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(text)
        except jwt.InvalidTokenError:
            raise not_valid() from None
        kid = header.get("kid")
        if not isinstance(kid, str) or header.get("alg") not in ALGORITHMS:
            raise not_valid()
        key = await self._keys.find(kid)
        if key is None or key.algorithm_name != header["alg"]:
            raise not_valid()
        return key

    def _read(self, text: str, key: jwt.PyJWK) -> Token:
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                options={"require": list(CLAIMS), "verify_aud": False},  # an access token names its client in client_id
            )
            use = claims["token_use"]
            client_id = claims.get("aud") if use == "id" else claims.get("client_id") if use == "access" else None
            if not isinstance(client_id, str) or client_id not in self._clients:
                raise not_valid()
            customer = claims.get("custom:customerId")
            email = str(claims.get("email") or "")
            name = str(claims.get("name") or email)
            # null is not absent: whoever wrote it meant something, and that is not "admin"
            role = (claims["custom:userRole"] or "") if "custom:userRole" in claims else None
            if any(UNSTORABLE.search(told) for told in (email, name, str(role))):
                raise not_valid()
            return Token(
                sub=UUID(claims["sub"]),
                use=use,
                client_id=client_id,
                email=email,
                name=name,
                role=role,
                customer_id=UUID(customer) if customer else None,
                expires=float(claims["exp"]),
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise not_valid() from None


def ends_at(text: str) -> float:
    """When a token that was verified just now runs out, in seconds since 1970."""
    return float(jwt.decode(text, options={"verify_signature": False})["exp"])


def bearer(headers: Headers) -> str:
    """The token in the Authorization header, not verified yet. Raises BadRequest (401) without one, and with two of them: what
    stands before us may have looked at the other."""
    sent = headers.getall("authorization", [""])
    scheme, _, text = sent[0].partition(" ")
    text = text.strip()
    if len(sent) > 1 or scheme.lower() != "bearer" or not text:
        raise BadRequest(401, "Send one bearer token: Authorization: Bearer TOKEN. ./stint token makes one.")
    # base64 has several spellings of the same bytes; the one that the standard (RFC 7515) wants is taken
    if len(text) > MAX_TOKEN_BYTES or not COMPACT.fullmatch(text):
        raise not_valid()
    return text


def not_valid() -> BadRequest:
    return BadRequest(401, "The token is not valid here, or no longer; sign in again.")
