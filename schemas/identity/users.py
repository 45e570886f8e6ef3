"""Users: their roles, and the row that the table `users` has of each user that Stint has met."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Row, Sql
from schemas.errors import Forbidden
from schemas.identity.accounts import AccountList
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Order, Page, Selection

# By how much the clocks of a user pool and of the database may differ. Of two times that are closer, neither counts as later.
CLOCK_SECONDS = 60.0
REVOKED = "This user's access was revoked."


class Role(StrEnum):
    """The roles that Stint knows. Several values of `custom:userRole` mean the same role: see `parse_role`."""

    admin = "admin"
    internal = "internal"
    customer_admin = "customer_admin"
    customer_user = "customer_user"


class User(Row):
    """The user that makes the request."""

    id: Annotated[UUID, Field(description="The token's `sub`")]
    email: str
    name: str
    role: Annotated[Role, Field(description="admin and internal: the firm's own people; the other two: a customer's")]
    customer_id: Annotated[
        UUID | None, Field(description="The customer whose data a customer's user may see; null for the firm's own people")
    ]

    @property
    def is_admin(self) -> bool:
        return self.role is Role.admin

    @property
    def is_internal(self) -> bool:
        return self.role in (Role.admin, Role.internal)


class InternalUser(Row):
    """One of the firm's own people, as the API returns it."""

    id: UUID
    email: str
    name: str
    role: Annotated[
        Literal["admin", "internal"],
        Sql("CASE WHEN coalesce({t}.role, 'internal_admin') = 'internal_admin' THEN 'admin' ELSE 'internal' END"),
    ]


# SQL conditions on users `u`. INTERNAL: those with an internal role. CONSULTANT: also those without role and customer, who may
# be legacy admins.
INTERNAL = "starts_with(u.role, 'internal_')"
CONSULTANT = f"({INTERNAL} OR u.role IS NULL AND u.customer_id IS NULL AND u.email <> '')"


@dataclass(frozen=True)
class StoredUser:
    """A user in the table `users`. Times are in seconds since 1970."""

    email: str
    name: str
    role: str | None  # as last stated by a token, a command or the provider
    customer_id: UUID | None  # as last stated
    joined: bool  # whether the user ever made a request
    revoked: bool  # whether the user's access is revoked
    claims_at: float = 0.0  # when role, customer, name and address were last stated
    access_version: int = 0  # of the local provider: a token with another version is too old
    sessions_after: float | None = None  # sessions that began at this time or before are ended
    access_since: float | None = None  # since when the user belongs to the firm or to this customer


@dataclass(frozen=True)
class FoundUser:
    """What `find_user` has read."""

    user: StoredUser | None  # None: no such user is stored
    deleted_customers: frozenset[UUID]  # those of the user's customer and the token's customer that are deleted
    now: float  # by the database's clock, in seconds since 1970


async def find_user(conn: Connection, user_id: UUID, customer_id: UUID | None) -> FoundUser:
    """The stored user, for a token that names this customer.

    It is one statement, because each request runs it whose token has no lease in its process.
    """
    is_stored, deleted_customers, now, *stored = await conn.one(
        """
        SELECT u.id IS NOT NULL,
               ARRAY(SELECT c.id FROM customers c WHERE c.id IN (%s::uuid, u.customer_id) AND c.deleted_at IS NOT NULL),
               extract(epoch FROM clock_timestamp())::float,
               u.email, u.name, u.role, u.customer_id, u.joined_at IS NOT NULL, u.revoked_at IS NOT NULL,
               extract(epoch FROM coalesce(u.claims_at, u.updated_at))::float, u.access_version,
               extract(epoch FROM u.sessions_after)::float, extract(epoch FROM u.access_since)::float
        FROM (VALUES (%s::uuid)) requested (id) LEFT JOIN users u ON u.id = requested.id
        """,
        (customer_id, user_id),
    )
    return FoundUser(StoredUser(*stored) if is_stored else None, frozenset(deleted_customers), now)


async def changes_are_reported(conn: Connection) -> bool:
    """Whether the triggers exist that report changes of what `find_user` reads, to the client whose transaction makes them."""
    return bool(await conn.value("SELECT count(*) = 3 FROM pg_trigger WHERE tgfoid = to_regproc('report_access_change')"))


@dataclass(frozen=True)
class Statement:
    """What an identity provider states about a user."""

    email: str
    name: str
    role: str | None  # None: it states no role
    customer_id: UUID | None  # None: it states no customer
    at: float  # when it stated this, in seconds since 1970


async def save_statement(conn: Connection, user_id: UUID, said: Statement) -> None:
    """Stores the statement, unless a later one with a role is stored.

    A stored role is never removed: a later token without a role must not make the user a legacy admin.
    """
    await conn.execute(
        """
        INSERT INTO users AS u (id, email, name, role, customer_id, claims_at) VALUES (%s, %s, %s, %s, %s, to_timestamp(%s))
        ON CONFLICT (id) DO UPDATE
        SET email = excluded.email, name = excluded.name, role = coalesce(excluded.role, u.role),
            customer_id = coalesce(excluded.customer_id, u.customer_id), claims_at = greatest(excluded.claims_at, u.claims_at)
        WHERE coalesce(u.claims_at, u.updated_at) <= excluded.claims_at OR u.role IS NULL
        """,
        (user_id, said.email, said.name, said.role, said.customer_id, said.at),
    )


async def save_first_request(conn: Connection, user_id: UUID) -> None:
    """Stores that the user has made a request."""
    await conn.execute("UPDATE users SET joined_at = now() WHERE id = %s AND joined_at IS NULL", (user_id,))


async def save_internal_users(conn: Connection, listed: AccountList) -> None:
    """Stores the provider's internal users, so that tasks can be assigned to them before their first request.

    It writes only rows that differ, and of which nothing later is known. It skips accounts without a role: only a token decides
    whether such a user is a legacy admin.
    """
    saved = [account for account in listed.accounts if account.profile.role is not None]
    saved.sort(key=lambda account: account.id)
    await conn.execute(
        """
        INSERT INTO users AS u (id, email, name, role, claims_at)
        SELECT *, clock_timestamp() - make_interval(secs => %s) FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[])
        ON CONFLICT (id) DO UPDATE
        SET email = excluded.email, name = excluded.name, role = excluded.role, claims_at = excluded.claims_at
        WHERE (u.email, u.name, u.role) IS DISTINCT FROM (excluded.email, excluded.name, excluded.role)
          AND coalesce(u.claims_at, u.updated_at) <= excluded.claims_at
        """,
        (
            listed.age_seconds,
            [account.id for account in saved],
            [account.profile.email for account in saved],
            [account.profile.name for account in saved],
            [account.profile.role for account in saved],
        ),
    )


async def list_internal_page(
    conn: Connection, page: Page, *, include_legacy_admins: bool, user_ids: list[UUID] | None = None
) -> bytes:
    """One page of the firm's own people who have access, newest first, as JSON.

    - `include_legacy_admins` adds users without role and customer. In some installations they are admins.
    - `user_ids`: only these users.
    """
    selection = Selection("user", InternalUser, "users", "u", Order("created_at", "timestamptz"))
    selection.where(f"u.revoked_at IS NULL AND {CONSULTANT if include_legacy_admins else INTERNAL}")
    if user_ids is not None:
        selection.where("u.id = ANY(%(user_ids)s)", user_ids=user_ids)
    return await selection.page(conn, page)


async def is_revoked(conn: Connection, user_id: UUID) -> bool:
    """Whether that user's access was revoked."""
    return bool(await conn.value("SELECT revoked_at IS NOT NULL FROM users WHERE id = %s", (user_id,)))


async def is_consultant(conn: Connection, user_id: UUID) -> bool:
    """Whether this is one of the firm's own people, who can log time and be assigned tasks.

    A user whose access was revoked counts, too, because an admin still manages the hours of such a user.
    """
    return await conn.value(f"SELECT 1 FROM users u WHERE u.id = %s AND {CONSULTANT}", (user_id,)) is not None


class LocalUser(Row):
    """One user of the local identity provider, as `./stint user list` shows it."""

    id: UUID
    email: str
    name: str
    role: str | None
    customer_id: UUID | None
    revoked: bool


async def list_local_users(conn: Connection, email: str | None = None) -> list[LocalUser]:
    """All users, or those with this address. Upper and lower case of the address do not matter.

    Users with access come first, then the oldest. The rows of invitations to an address that has another account are left out.
    """
    condition, parameters = ("AND email_key(email) = email_key(%s)", (email,)) if email is not None else ("", ())
    return await conn.all(
        f"""
        SELECT id, email, name, role, customer_id, revoked_at IS NOT NULL AS revoked
        FROM users WHERE NOT account_elsewhere {condition} ORDER BY revoked_at IS NOT NULL, created_at, id
        """,
        parameters,
        row=LocalUser,
    )


async def admin_emails(conn: Connection) -> list[str]:
    """The addresses of the firm's admins who have access."""
    return await conn.values(
        "SELECT email FROM users WHERE role = 'internal_admin' AND revoked_at IS NULL AND email <> '' ORDER BY id"
    )


async def end_sessions(conn: Connection, user_id: UUID, *, began_at: float = 0.0, ahead_seconds: float = 0.0) -> None:
    """Ends all sessions of the user: every token that was issued until now is refused.

    The clock of a user pool may be ahead of the database's. For such a pool, sessions are ended, too, that began

    - less than `ahead_seconds` from now;
    - at `began_at` or before, in seconds since 1970.
    """
    await conn.execute(
        """
        UPDATE users SET access_version = access_version + 1, sessions_after = greatest(
            sessions_after, clock_timestamp() + make_interval(secs => %s), to_timestamp(%s))
        WHERE id = %s
        """,
        (ahead_seconds, began_at, user_id),
    )


def is_customer_role(role: str | None) -> bool:
    """Whether the role belongs to a customer's user."""
    return role in (Role.customer_admin, Role.customer_user)


def parse_role(claim: Any) -> Role | None:
    """The role that a `custom:userRole` means; None for an unknown role, and for the empty string."""
    if not isinstance(claim, str):
        return None
    if claim == "internal_admin":
        return Role.admin
    if claim.startswith("internal_"):
        return Role.internal
    return Role(claim) if claim in (Role.customer_admin, Role.customer_user) else None


async def lock_user(conn: Connection, user_id: UUID) -> bool:
    """Locks the user's row until the transaction ends, and returns whether there is such a user.

    Every change of a user's time takes this lock first.
    """
    return await conn.value("SELECT id FROM users WHERE id = %s FOR NO KEY UPDATE", (user_id,)) is not None


async def lock_with_access(conn: Connection, user_id: UUID) -> None:
    """Locks the user's row before a timer of this user starts. Raises Forbidden if the user's access was revoked.

    The request was authorized before, but the access may have been revoked since. Nobody would stop the timer then.
    """
    revoked = await conn.value("SELECT revoked_at IS NOT NULL FROM users WHERE id = %s FOR NO KEY UPDATE", (user_id,))
    if revoked:
        raise Forbidden(REVOKED)


async def lock_users(conn: Connection, user_ids: Iterable[UUID]) -> None:
    """Locks the rows of several users, in the order of their ids."""
    await conn.execute("SELECT id FROM users WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", (list(set(user_ids)),))
