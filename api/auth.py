"""Who makes the request: from a bearer token to a User. Roles are checked by guards here, ownership in SQL.

Cognito's access tokens carry no custom attributes, and the contract lets legacy admins have no role at all. So an absent role
means admin only in an ID token, from one of the firm's own clients, for somebody who was never seen with a role.
"""

from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from api.key_ring import KeyRing
from api.problems import BadRequest
from api.tokens import Token, Verifier, bearer
from schemas import users
from schemas.clients.identity import Identity
from schemas.database import Connection, Database
from schemas.errors import Forbidden
from schemas.settings import Settings, listed
from schemas.users import Known, Role, User

# Between two readings of keys at an outside provider, for kids that it did not name. In Postgres a look costs as much as any
# request does, and a new key has to be known at once.
REST_SECONDS = 30.0


class Authenticator:
    """Turns tokens into users."""

    def __init__(self, settings: Settings, identity: Identity) -> None:
        self._legacy_clients = listed(settings.internal_client_ids) if settings.legacy_unset_role == "on" else frozenset()
        self.keys = KeyRing(identity.public_keys, rest_seconds=REST_SECONDS if settings.people_are_outside else 0.0)
        self._verifier = Verifier(settings, self.keys)

    async def verified(self, text: str) -> Token:
        """What the token says, if it is good. Raises BadRequest (401)."""
        return await self._verifier.verified(text)

    async def user(self, conn: Connection, token: Token) -> User:
        """The user that the token speaks for. Raises BadRequest (401), or Forbidden without a role."""
        known = await self._known(conn, token)
        role, customer_id = self.standing(token, known)
        await self._remember(conn, token, known, role, customer_id)
        if role is None:
            raise Forbidden("Your account has no role that may use Stint; ask an administrator for one.")
        # an access token says nothing of either: what is known stays
        email, name = token.email or (known.email if known else ""), token.name or (known.name if known else "")
        return User(id=token.sub, email=email, name=name, role=role, customer_id=customer_id)

    async def role(self, conn: Connection, token: Token) -> Role | None:
        """What a user whom `user` has let in may do now: nothing that they tell of themselves is remembered anew. Raises
        BadRequest (401) when their access was removed."""
        return self.standing(token, await self._known(conn, token))[0]

    async def _known(self, conn: Connection, token: Token) -> Known | None:
        known, customer_deleted = await users.known(conn, token.sub, token.customer_id)
        if known is not None and known.revoked:
            raise BadRequest(401, "This user's access was revoked.")
        if customer_deleted and isinstance(token.role, str) and users.is_a_customers(token.role):
            raise BadRequest(401, "This customer was deleted, and with it the access of its users.")
        return known

    def standing(self, token: Token, known: Known | None) -> tuple[Role | None, UUID | None]:
        """The role that the token gives somebody of whom this is known, None for no role, and whose data they may see. Without
        a role the customer is still what the token names, to be remembered."""
        role = users.role_of(token.role) if token.role is not None else self._legacy_role(token, known)
        if role is None:
            return None, token.customer_id
        if not users.is_a_customers(role):
            return role, None
        return (role if token.customer_id is not None else None), token.customer_id

    def _legacy_role(self, token: Token, known: Known | None) -> Role | None:
        is_legacy = (
            token.use == "id"
            and token.client_id in self._legacy_clients
            and token.customer_id is None
            and (known is None or (known.role is None and known.customer_id is None))
        )
        return Role.admin if is_legacy else None

    async def _remember(
        self, conn: Connection, token: Token, known: Known | None, role: Role | None, customer_id: UUID | None
    ) -> None:
        # whatever stood there, even the empty string, was a role: its absence later must not mean legacy admin
        claimed = None if token.role is None else str(token.role)
        # whoever was refused without saying anything of a role is nobody to remember
        if known is None and role is None and claimed is None and customer_id is None:
            return
        email, name = token.email or (known.email if known else ""), token.name or (known.name if known else "")
        joins = role is not None and not (known is not None and known.joined)
        if known is None or joins or (known.email, known.name) != (email, name) or _says_more(claimed, customer_id, known):
            await users.remember(conn, token.sub, email=email, name=name, role=claimed, customer_id=customer_id, joins=joins)


def _says_more(claimed: str | None, customer_id: UUID | None, known: Known) -> bool:
    return (claimed is not None and claimed != known.role) or (customer_id is not None and customer_id != known.customer_id)


class BearerAuth(AbstractAuthenticationMiddleware):
    """Puts the User on every request whose route does not say `public`."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        database: Database = connection.app.state.database
        authenticator: Authenticator = connection.app.state.authenticator
        token = await authenticator.verified(bearer(connection.headers))

        async with database.connection() as conn:
            return AuthenticationResult(user=await authenticator.user(conn, token), auth=None)


async def internal(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: the firm's own people."""
    if not connection.user.is_internal:
        raise Forbidden("This is for the firm's own people.")


async def sees_to_users(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: the firm's own people, and customers' administrators."""
    if not connection.user.is_internal and connection.user.role is not Role.customer_admin:
        raise Forbidden("This is for the firm's own people, and administrators of the customer.")


async def admin(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: admins."""
    if not connection.user.is_admin:
        raise Forbidden("This is for administrators.")
