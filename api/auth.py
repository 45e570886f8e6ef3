"""Who makes the request: from a bearer token to a User. Roles are checked by guards here, ownership in SQL.

Cognito's access tokens carry no custom attributes, and the contract lets legacy admins have no role at all. So an absent role
means admin only in an ID token, from one of the firm's own clients, for somebody who was never seen with a role.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from api.problems import BadRequest
from schemas import keys, users
from schemas.database import Connection, Database
from schemas.errors import Forbidden
from schemas.settings import Settings, listed
from schemas.users import Known, Role, User

logger = logging.getLogger(__name__)

ALGORITHMS = ["RS256", "ES256"]
CACHED_SECONDS = 60.0
CACHED_TOKENS = 10_000
REFETCH_SECONDS = 30.0
MAX_TOKEN_BYTES = 8_192
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


class Authenticator:
    """Verifies tokens, remembers whom it verified for up to a minute, and knows the keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients = listed(settings.auth_client_ids)
        self._internal_clients = listed(settings.internal_client_ids)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._keys_fetched = float("-inf")
        self._fetching = asyncio.Lock()
        self._verified: OrderedDict[bytes, tuple[float, Token]] = OrderedDict()

    async def user(self, conn: Connection, text: str) -> User:
        """The user that the token speaks for. Raises BadRequest (401), or Forbidden without a role."""
        token, known = await self._known(conn, text)
        role = self._role(token, known)
        customer_id = token.customer_id if role is None or users.is_a_customers(role) else None
        if role is not None and users.is_a_customers(role) and customer_id is None:
            role = None  # a customer's user of no customer
        # whatever stood there, even the empty string, was a role: its absence later must not mean legacy admin
        claimed = None if token.role is None else str(token.role)
        # an access token says nothing of either: what is known stays
        email, name = token.email or (known.email if known else ""), token.name or (known.name if known else "")
        # whoever was refused without saying anything of a role is nobody to remember
        is_somebody = role is not None or claimed is not None or customer_id is not None or known is not None
        if is_somebody and (
            known is None or (known.email, known.name) != (email, name) or _says_more(claimed, customer_id, known)
        ):
            await users.remember(conn, token.sub, email=email, name=name, role=claimed, customer_id=customer_id)
        if role is None:
            raise Forbidden("Your account has no role that may use Stint; ask an administrator for one.")
        return User(id=token.sub, email=email, name=name, role=role, customer_id=customer_id)

    async def role(self, conn: Connection, text: str) -> Role | None:
        """What a user whom `user` has let in may do now: nothing that they tell of themselves is remembered anew. Raises
        BadRequest (401) when their access was removed."""
        return self._role(*await self._known(conn, text))

    async def _known(self, conn: Connection, text: str) -> tuple[Token, Known | None]:
        token = await self._verified_token(conn, text)
        known = await users.known(conn, token.sub)
        if known is not None and known.revoked:
            raise BadRequest(401, "This user's access was revoked.")
        return token, known

    def _role(self, token: Token, known: Known | None) -> Role | None:
        if token.role is not None:
            return users.role_of(token.role)
        legacy = (
            self._settings.legacy_unset_role == "on"
            and token.use == "id"
            and token.client_id in self._internal_clients
            and token.customer_id is None
            and (known is None or (known.role is None and known.customer_id is None))
        )
        return Role.admin if legacy else None

    def ends_at(self, text: str) -> float:
        """When a token that was verified just now runs out, in seconds since 1970."""
        return float(jwt.decode(text, options={"verify_signature": False})["exp"])

    async def _verified_token(self, conn: Connection, text: str) -> Token:
        digest, now = hashlib.sha256(text.encode()).digest(), time.time()
        cached = self._verified.get(digest)
        if cached is not None and now < min(cached[0], cached[1].expires):
            return cached[1]
        token = self._read(text, await self._key(conn, text))
        self._verified[digest] = (now + CACHED_SECONDS, token)
        if len(self._verified) > CACHED_TOKENS:
            self._verified.popitem(last=False)
        return token

    async def _key(self, conn: Connection, text: str) -> jwt.PyJWK:
        try:
            header = jwt.get_unverified_header(text)
        except jwt.InvalidTokenError:
            raise _not_valid() from None
        kid = header.get("kid")
        if not isinstance(kid, str) or header.get("alg") not in ALGORITHMS:
            raise _not_valid()
        if kid not in self._keys:
            async with self._fetching:
                # an unknown kid may be a new key, but a flood of made-up ones must not become a flood of queries
                if kid not in self._keys and (not self._keys or time.monotonic() - self._keys_fetched > REFETCH_SECONDS):
                    await self.fetch_keys(conn)
        if (key := self._keys.get(kid)) is None or key.algorithm_name != header["alg"]:
            raise _not_valid()
        return key

    async def fetch_keys(self, conn: Connection) -> list[keys.PublicKey]:
        """Reads the provider's public keys anew, and returns them."""
        found = await keys.public_keys(conn)
        self._keys = {key.kid: jwt.PyJWK(key.jwk) for key in found}
        self._keys_fetched = time.monotonic()
        return found

    def _read(self, text: str, key: jwt.PyJWK) -> Token:
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._settings.auth_issuer,
                options={"require": list(CLAIMS), "verify_aud": False},  # an access token names its client in client_id
            )
            use = claims["token_use"]
            client_id = claims.get("aud") if use == "id" else claims.get("client_id") if use == "access" else None
            if not isinstance(client_id, str) or client_id not in self._clients:
                raise _not_valid()
            customer = claims.get("custom:customerId")
            email = str(claims.get("email") or "")
            return Token(
                sub=UUID(claims["sub"]),
                use=use,
                client_id=client_id,
                email=email,
                name=str(claims.get("name") or email),
                # null is not absent: whoever wrote it meant something, and that is not "admin"
                role=(claims["custom:userRole"] or "") if "custom:userRole" in claims else None,
                customer_id=UUID(customer) if customer else None,
                expires=float(claims["exp"]),
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise _not_valid() from None


def bearer(header: str | None) -> str:
    """The token in an Authorization header, not verified yet. Raises BadRequest (401) without one."""
    scheme, _, text = (header or "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise BadRequest(401, "Send a bearer token: Authorization: Bearer TOKEN. ./stint token makes one.")
    if len(text) > MAX_TOKEN_BYTES:
        raise _not_valid()
    return text


def _says_more(claimed: str | None, customer_id: UUID | None, known: Known) -> bool:
    return (claimed is not None and claimed != known.role) or (customer_id is not None and customer_id != known.customer_id)


def _not_valid() -> BadRequest:
    return BadRequest(401, "The token is not valid here, or no longer; sign in again.")


class BearerAuth(AbstractAuthenticationMiddleware):
    """Puts the User on every request whose route does not say `public`."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        database: Database = connection.app.state.database
        authenticator: Authenticator = connection.app.state.authenticator
        token = bearer(connection.headers.get("authorization"))

        async def find_user() -> User:
            async with database.connection() as conn:
                return await authenticator.user(conn, token)

        return AuthenticationResult(user=await database.promptly(find_user()), auth=None)


async def internal(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: the firm's own people."""
    if not connection.user.is_internal:
        raise Forbidden("This is for the firm's own people.")


async def admin(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: admins."""
    if not connection.user.is_admin:
        raise Forbidden("This is for administrators.")
