"""Authenticates a request: turns its bearer token into a User. Guards here check roles. SQL checks ownership.

Cognito's access tokens contain no role, and the contract allows legacy admins, who have no role either. So a token without a
role means admin only if all of these are true:

- it is an ID token;
- its client is one of the firm's own;
- no role and no customer was ever stored for the user.
"""

import math
import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.auth import claims
from api.auth.key_cache import KeyCache
from api.auth.leases import Leases, Session
from api.auth.tokens import CACHED_TOKENS, Token, Verifier, bearer_token
from api.http.cors import Application, Receive, Scope, Send
from api.http.problems import BadRequest
from schemas.errors import Forbidden, Unavailable
from schemas.identity import users
from schemas.identity.accounts import Account, IdentityProvider
from schemas.identity.users import CLOCK_SECONDS, FoundUser, Role, Statement, StoredUser, User
from schemas.postgres.connection import Connection, wait_for_leases
from schemas.postgres.pool import Database
from schemas.settings import Settings

# The shortest time between two fetches of an external provider's keys because of a token with an unknown key id. The local
# provider's keys are in Postgres and are read each time: this costs no more than any request, and a new key is valid at once.
MIN_REFETCH_SECONDS = 30.0
# Set in the `opt` of a route that ends access. If the access has ended already, such a route answers 401. The client takes this
# answer as success, so it is sent only when every process refuses the user.
ENDS_ACCESS = "ends_access"
SIGN_IN_AGAIN = "Your access has changed since you signed in, or you were signed out; sign in again."


NO_ROLE = "Your account has no role that may use Stint; ask an administrator for one."
NOT_INTERNAL = "Only the firm's own people may do this."
NOT_USER_MANAGER = "Only the firm's own people and administrators of the customer may do this."
NOT_ADMIN = "Only administrators may do this."


class AccessEnded(BadRequest):
    """The user's access, or the session of the token, has ended. This may have happened just before the request."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail)


class Authenticator:
    """Turns tokens into users."""

    def __init__(self, settings: Settings, provider: IdentityProvider) -> None:
        self._legacy_clients = settings.legacy_client_ids
        self._provider = provider if settings.uses_external_identity else None
        min_refetch_seconds = MIN_REFETCH_SECONDS if settings.uses_external_identity else 0.0
        self.keys = KeyCache(provider.public_keys, min_refetch_seconds=min_refetch_seconds)
        self._verifier = Verifier(settings, self.keys)
        self.leases = Leases()
        self._changes_are_reported = False  # whether the triggers of migration 0035 are known to exist
        self._asked: OrderedDict[str, None] = OrderedDict()  # the tokens about which the provider was asked, oldest first

    async def authenticate(self, database: Database, text: str) -> Session:
        """The session of the token's user. What the token states is stored if it is news.

        Raises BadRequest (401) if the user has no access, and Forbidden if the user has no role.
        """
        token = await self._verifier.verify(text)  # before the connection is taken: the verifier may need one itself
        if (leased := self.leases.find(token)) is not None:
            return leased
        async with database.connection() as conn:
            is_reported = await self._is_change_reported(conn)  # before the read: a later change waits for the leases
            read_at = self.leases.clock()
            began = time.monotonic()
            found = await self._find_user(conn, token)
            if not self._is_unclear(token, found.user):
                session = _session(await self._load_user(conn, token, found), token, found, began)
                if is_reported and self._may_be_leased(token, found.user):
                    self.leases.keep(token, session, read_at=read_at, seconds_left=token.expires - found.now)
                return session
        account = await self._ask_provider(token)  # no connection is held during this call
        async with database.connection() as conn:
            return await self._authenticate_with_account(conn, token, account)

    async def _authenticate_with_account(self, conn: Connection, token: Token, account: Account | None) -> Session:
        """As `authenticate`, after the provider was asked. What the account states is stored before the user is read."""
        began = time.monotonic()
        found = await self._find_user(conn, token)
        if account is not None:
            profile = account.profile
            statement = Statement(profile.email, profile.name, profile.role, profile.customer_id, found.now)
            await users.save_statement(conn, token.sub, statement)
            conn.access_changed_before = True  # a concurrent request may have stored the same
            found = await self._find_user(conn, token)
        return _session(await self._load_user(conn, token, found), token, found, began)

    async def current_role(self, database: Database, text: str) -> Role | None:
        """The present role of a user that `authenticate` returned before. It stores nothing.

        Raises BadRequest (401) if the token is no longer valid.
        """
        token = await self._verifier.verify(text)
        async with database.connection() as conn:
            found = await self._find_user(conn, token)
        role, _ = self._role_and_customer(token, found, is_news=self._is_news(token, found.user))
        return role

    async def _find_user(self, conn: Connection, token: Token) -> FoundUser:
        """The stored user of the token. Raises BadRequest (401) if the token has expired, or if the user's access was revoked
        or has changed since the token was issued."""
        found = await users.find_user(conn, token.sub, token.customer_id)
        token.check_times(found.now)
        if found.user is not None:
            if found.user.revoked:
                raise AccessEnded(users.REVOKED)
            if claims.is_too_old(token, found.user, clock_seconds=CLOCK_SECONDS if self._provider else 0.0):
                raise AccessEnded(SIGN_IN_AGAIN)
        return found

    def _may_be_leased(self, token: Token, stored: StoredUser | None) -> bool:
        """Whether the next request with this token may be accepted without reading its user.

        Not if this request has stored something. Not for a token without a role either: it is accepted only while no role is
        stored for its user, and the INSERT of a role does not wait for the leases of other processes.
        """
        return stored is not None and stored.joined and token.role is not None and not self._is_news(token, stored)

    async def _is_change_reported(self, conn: Connection) -> bool:
        """Whether transactions that change access learn that they have to wait for leases.

        A process may start before the migration that adds this, so Postgres is asked until the answer is yes.
        """
        if not self._changes_are_reported:
            self._changes_are_reported = await users.changes_are_reported(conn)
        return self._changes_are_reported

    async def _load_user(self, conn: Connection, token: Token, found: FoundUser) -> User:
        """The token's user. Stores the claims if they are news, and that the user has made a request. Raises as `authenticate`
        does."""
        stored = found.user
        is_news = self._is_news(token, stored)
        role, customer_id = self._role_and_customer(token, found, is_news=is_news)
        if is_news:
            conn.access_changed_before = stored is not None  # a concurrent request may have stored the same
            await self._store_claims(conn, token, stored, has_role=role is not None)
        if role is not None and not (stored is not None and stored.joined):
            await users.save_first_request(conn, token.sub)
        if role is None:
            raise Forbidden(NO_ROLE)
        email, name = claims.email_and_name(token, stored) if is_news or stored is None else (stored.email, stored.name)
        return User(id=token.sub, email=email, name=name, role=role, customer_id=customer_id)

    def _is_news(self, token: Token, stored: StoredUser | None) -> bool:
        """Whether the token states something about its user that differs from what is stored, and is later.

        So an older token never undoes what a command, a reading of the user pool or a newer token has stored.
        """
        if stored is None:
            return True
        if token.access_version is not None or not claims.differs(token, stored):
            return False
        if stored.role is None and token.role is not None:  # the user's first role: always stored
            return True
        return token.issued >= math.floor(stored.claims_at) + 1 + (CLOCK_SECONDS if self._provider else 0)

    def _is_unclear(self, token: Token, stored: StoredUser | None) -> bool:
        """Whether only the provider knows if the token or the stored user is right.

        This is so if they differ and are of about the same time, because the clocks of the provider and of the database may
        differ by CLOCK_SECONDS.
        """
        if self._provider is None or stored is None or repr(token) in self._asked or not claims.differs(token, stored):
            return False
        return not self._is_news(token, stored) and token.issued > stored.claims_at - CLOCK_SECONDS

    async def _ask_provider(self, token: Token) -> Account | None:
        """The provider's account of the user now. None if it has no such account, or does not answer: then the stored user
        counts until the next reading of the user pool.

        The provider is asked once for each token, or again if it did not answer.
        """
        assert self._provider is not None
        self._asked[repr(token)] = None
        if len(self._asked) > CACHED_TOKENS:
            self._asked.popitem(last=False)
        try:
            return await self._provider.get_account(token.sub)
        except Unavailable:
            self._asked.pop(repr(token), None)
            return None

    def _role_and_customer(self, token: Token, found: FoundUser, *, is_news: bool) -> tuple[Role | None, UUID | None]:
        """The user's role and customer: what the token states if that is news, else what is stored.

        Raises BadRequest (401) for a token of another customer than the user's present one, and for a user of a deleted
        customer.
        """
        stored = found.user
        if not is_news and stored is not None:
            if claims.is_of_another_customer(token, stored):
                raise AccessEnded(SIGN_IN_AGAIN)
            if token.role is not None and stored.role is not None:
                token = replace(token, role=stored.role, customer_id=stored.customer_id)
        role, customer_id = self.resolve_role(token, stored)
        if users.is_customer_role(role) and customer_id in found.deleted_customers:
            raise AccessEnded("This customer was deleted, and its users have no access any more.")
        return role, customer_id

    def resolve_role(self, token: Token, stored: StoredUser | None) -> tuple[Role | None, UUID | None]:
        """The role, and the customer whose data the user may see. The role is None if the user has none.

        Without a role, the customer is still the one that the token names, because it is stored.
        """
        role = users.parse_role(token.role) if token.role is not None else self._legacy_role(token, stored)
        if role is None:
            return None, token.customer_id
        if not users.is_customer_role(role):
            return role, None
        return (role if token.customer_id is not None else None), token.customer_id

    def _legacy_role(self, token: Token, stored: StoredUser | None) -> Role | None:
        is_legacy = (
            token.use == "id"
            and token.client_id in self._legacy_clients
            and token.customer_id is None
            and (stored is None or (stored.role is None and stored.customer_id is None))
        )
        return Role.admin if is_legacy else None

    async def _store_claims(self, conn: Connection, token: Token, stored: StoredUser | None, *, has_role: bool) -> None:
        claimed = claims.claimed_role(token)
        states_nothing = claimed is None and token.customer_id is None
        if stored is None and not has_role and states_nothing:
            return  # the request is refused, and there is nothing to remember of its user
        email, name = claims.email_and_name(token, stored)
        await users.save_statement(conn, token.sub, Statement(email, name, claimed, token.customer_id, token.issued))


def _session(user: User, token: Token, found: FoundUser, began: float) -> Session:
    return Session(user, began + token.expires - found.now, token.started)


def with_authentication(app: Application) -> Application:
    """Middleware that sets the User and the Session of each request, except on routes with `exclude_from_auth`.

    It reads the ASGI scope directly. The framework's own middleware would make a request object and parse all headers, which
    costs time and which nothing else needs.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        options = scope["route_handler"].opt
        if not options.get("exclude_from_auth"):
            context = scope["litestar_app"].state.context
            try:
                session = await context.authenticator.authenticate(context.database, bearer_token(scope["headers"]))
            except AccessEnded:
                if options.get(ENDS_ACCESS):
                    await wait_for_leases()
                raise
            scope["user"], scope["auth"] = session.user, session
        await app(scope, receive, send)

    return wrapped


async def require_internal(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: only the firm's own people."""
    if not connection.user.is_internal:
        raise Forbidden(NOT_INTERNAL)


async def require_user_manager(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: only the firm's own people and customers' administrators."""
    if not connection.user.is_internal and connection.user.role is not Role.customer_admin:
        raise Forbidden(NOT_USER_MANAGER)


async def require_admin(connection: ASGIConnection[Any, User, Any, Any], _: BaseRouteHandler) -> None:
    """Guard: only admins."""
    if not connection.user.is_admin:
        raise Forbidden(NOT_ADMIN)
