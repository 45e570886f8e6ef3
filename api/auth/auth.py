"""Authenticates a request: from a bearer token to a User. Guards here check roles; SQL checks ownership.

Cognito's access tokens carry no custom attributes, and the contract allows legacy admins without any role. So an absent role
means admin only in an ID token, from one of the firm's own clients, for a user who was never seen with a role or a customer.
"""

import math
import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

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

# How often an unknown kid may cause a fetch of the keys from a provider outside. Keys in Postgres are read each time: that
# costs no more than any request, and a new key has to be known immediately.
MIN_REFETCH_SECONDS = 30.0
# In the `opt` of a route that ends access. Its 401 for a user whose access has ended says that this is done, so it is not sent
# before every process knows.
ENDS_ACCESS = "ends_access"
SIGN_IN_AGAIN = "Your access has changed since you signed in, or you were signed out; sign in again."


NO_ROLE = "Your account has no role that may use Stint; ask an administrator for one."
NOT_INTERNAL = "Only the firm's own people may do this."
NOT_USER_MANAGER = "Only the firm's own people and administrators of the customer may do this."
NOT_ADMIN = "Only administrators may do this."


class AccessEnded(BadRequest):
    """The user's access, or the token's session, has ended: perhaps just now."""

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
        self._changes_are_reported = False  # whether this database is known to report changes of access: migration 0035
        self._asked: OrderedDict[str, None] = OrderedDict()  # tokens that the provider was asked about

    async def authenticate(self, database: Database, text: str) -> Session:
        """The user of the token; what the token states is stored if it is news. Raises BadRequest (401) without access,
        Forbidden without a role."""
        token = await self._verifier.verify(text)  # before the connection is taken: it may need one itself
        if (leased := self.leases.find(token)) is not None:
            return leased
        async with database.connection() as conn:
            is_reported = await self._is_change_reported(conn)  # before the read: what changes after it has to wait
            read_at, began = self.leases.clock(), time.monotonic()
            found = await self._find_user(conn, token)
            if not self._is_unclear(token, found.user):
                session = _session(await self._load_user(conn, token, found), token, found, began)
                if is_reported and self._may_be_leased(token, found.user):
                    self.leases.keep(token, session, read_at=read_at, seconds_left=token.expires - found.now)
                return session
        account = await self._ask_provider(token)  # without a connection
        async with database.connection() as conn:
            began = time.monotonic()
            found = await self._find_user(conn, token)
            if account is not None:
                said = account.profile
                statement = Statement(said.email, said.name, said.role, said.customer_id, found.now)
                await users.save_statement(conn, token.sub, statement)
                conn.access_changed_before = True  # perhaps a concurrent request has stored the same
                found = await self._find_user(conn, token)
            return _session(await self._load_user(conn, token, found), token, found, began)

    async def current_role(self, database: Database, text: str) -> Role | None:
        """The present role of a user whom `authenticate` returned before; stores nothing. Raises BadRequest (401) if the token
        is no longer valid."""
        token = await self._verifier.verify(text)
        async with database.connection() as conn:
            found = await self._find_user(conn, token)
        return self._role_and_customer(token, found, is_news=self._is_news(token, found.user))[0]

    async def _find_user(self, conn: Connection, token: Token) -> FoundUser:
        """Raises BadRequest (401) if the token is not valid now, or was issued before the user's access changed."""
        found = await users.find_user(conn, token.sub, token.customer_id)
        token.check_times(found.now)
        if found.user is not None:
            if found.user.revoked:
                raise AccessEnded(users.REVOKED)
            if _is_too_old(token, found.user, clock_seconds=CLOCK_SECONDS if self._provider else 0.0):
                raise AccessEnded(SIGN_IN_AGAIN)
        return found

    def _may_be_leased(self, token: Token, stored: StoredUser | None) -> bool:
        """Whether the next request may be accepted as this one was. Not if this one has stored something; and a token without a
        role is only accepted while nothing is known of its user, which an INSERT ends without a wait."""
        return stored is not None and stored.joined and token.role is not None and not self._is_news(token, stored)

    async def _is_change_reported(self, conn: Connection) -> bool:
        """Whether transactions that change access learn that they have to wait. Asked until it is so: a process may run before
        its migrations do."""
        if not self._changes_are_reported:
            self._changes_are_reported = await users.changes_are_reported(conn)
        return self._changes_are_reported

    async def _load_user(self, conn: Connection, token: Token, found: FoundUser) -> User:
        stored, is_news = found.user, self._is_news(token, found.user)
        role, customer_id = self._role_and_customer(token, found, is_news=is_news)
        if is_news:
            conn.access_changed_before = stored is not None  # perhaps a concurrent request has stored the same
            await self._store_claims(conn, token, stored, has_role=role is not None)
        if role is not None and not (stored is not None and stored.joined):
            await users.save_first_request(conn, token.sub)
        if role is None:
            raise Forbidden(NO_ROLE)
        email, name = _email_and_name(token, stored) if is_news or stored is None else (stored.email, stored.name)
        return User(id=token.sub, email=email, name=name, role=role, customer_id=customer_id)

    def _is_news(self, token: Token, stored: StoredUser | None) -> bool:
        """Whether the token states something about its user that is later than what is stored. What a command, a reading of
        the user pool or a newer token has said since is never undone by an older token."""
        if stored is None:
            return True
        if token.access_version is not None or not _differs(token, stored):
            return False
        if stored.role is None and token.role is not None:  # the first role that is seen: it must not be lost
            return True
        return token.issued >= math.floor(stored.claims_at) + 1 + (CLOCK_SECONDS if self._provider else 0)

    def _is_unclear(self, token: Token, stored: StoredUser | None) -> bool:
        """Whether only the provider can tell if the token or the stored user is right: both are of about the same time, by
        clocks that may differ."""
        if self._provider is None or stored is None or repr(token) in self._asked or not _differs(token, stored):
            return False
        return not self._is_news(token, stored) and token.issued > stored.claims_at - CLOCK_SECONDS

    async def _ask_provider(self, token: Token) -> Account | None:
        """What the provider says of the user now; None if it does not know them, or does not answer: what is stored counts
        then, until the next reading of the user pool. Each token asks once."""
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
        """The user's role and customer: what the token states if that is news, else what is stored. Raises BadRequest (401)
        for a token of another customer than the user's present one, and for users of a deleted customer."""
        stored = found.user
        if not is_news and stored is not None:
            if _is_of_another_customer(token, stored):
                raise AccessEnded(SIGN_IN_AGAIN)
            if token.role is not None and stored.role is not None:
                token = replace(token, role=stored.role, customer_id=stored.customer_id)
        role, customer_id = self.resolve_role(token, stored)
        if users.is_customer_role(role) and customer_id in found.deleted_customers:
            raise AccessEnded("This customer was deleted, and its users have no access any more.")
        return role, customer_id

    def resolve_role(self, token: Token, stored: StoredUser | None) -> tuple[Role | None, UUID | None]:
        """The role, None for no role, and the customer whose data the user may see. Without a role this is still the customer
        that the token names, because it is stored."""
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
        claimed = _claimed_role(token)
        # a refused user without any claim of a role or a customer is not stored
        if stored is None and not has_role and claimed is None and token.customer_id is None:
            return
        email, name = _email_and_name(token, stored)
        await users.save_statement(conn, token.sub, Statement(email, name, claimed, token.customer_id, token.issued))


def _session(user: User, token: Token, found: FoundUser, began: float) -> Session:
    return Session(user, began + token.expires - found.now, token.started)


def _email_and_name(token: Token, stored: StoredUser | None) -> tuple[str, str]:
    # an access token carries neither: the stored values remain
    email = token.email or (stored.email if stored else "")
    return email, token.name or (stored.name if stored else email)


def _claimed_role(token: Token) -> str | None:
    # any claim, even an empty string, counts as a role: its absence later must not mean legacy admin
    return None if token.role is None else str(token.role)


def _differs(token: Token, stored: StoredUser) -> bool:
    """Whether the token states something else than what is stored."""
    claimed = _claimed_role(token)
    return (
        (stored.email, stored.name) != _email_and_name(token, stored)
        or (claimed is not None and claimed != stored.role)
        or ((token.customer_id is not None or users.is_customer_role(claimed)) and token.customer_id != stored.customer_id)
    )


def _is_too_old(token: Token, stored: StoredUser, *, clock_seconds: float) -> bool:
    """Whether the user's access has changed since the token was issued. A token of the local provider names the version of the
    access, which is exact. Other tokens have whole seconds: one of the very second in which the user was removed or signed out
    is too old, since it may be of before that."""
    if token.access_version is not None:
        return token.access_version != stored.access_version
    if stored.sessions_after is not None and token.started <= stored.sessions_after:
        return True
    # a user pool's answer says that the user has moved, but not when: a token of the last minute may be of after that
    return stored.access_since is not None and token.issued < math.floor(stored.access_since) - clock_seconds


def _is_of_another_customer(token: Token, stored: StoredUser) -> bool:
    """Whether the token is of a time when the user belonged to another customer, or to the firm instead of a customer, or the
    other way round."""
    if token.role is None:
        return False
    claimed = users.parse_role(token.role)
    if users.is_customer_role(claimed) != users.is_customer_role(stored.role):
        return claimed is not None
    return users.is_customer_role(claimed) and token.customer_id != stored.customer_id


def with_authentication(app: Application) -> Application:
    """Sets the User of each request, and its Session, except on routes with `exclude_from_auth`. It reads the scope itself: the
    framework's own middleware makes a request of it, whose headers nothing else needs."""

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
