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

# how far the clocks of a user pool and of the database may differ before "later" means nothing
CLOCK_SECONDS = 60.0
REVOKED = "This user's access was revoked."


class Role(StrEnum):
    """The roles that Stint knows. Several values of `custom:userRole` mean the same role: see `parse_role`."""

    admin = "admin"
    internal = "internal"
    customer_admin = "customer_admin"
    customer_user = "customer_user"


class User(Row):
    """The user that makes the request, by the claims of the token."""

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


# Conditions on users `u`: INTERNAL are those with an internal role. CONSULTANT are in addition those without role and customer,
# who may be legacy admins.
INTERNAL = "starts_with(u.role, 'internal_')"
CONSULTANT = f"({INTERNAL} OR u.role IS NULL AND u.customer_id IS NULL AND u.email <> '')"


@dataclass(frozen=True)
class StoredUser:
    """A user in the table `users`: role and customer as they were last stated, whether the user ever made a request, whether
    access is revoked, and what decides whether a token is too old. Times are in seconds since 1970."""

    email: str
    name: str
    role: str | None
    customer_id: UUID | None
    joined: bool
    revoked: bool
    claims_at: float = 0.0
    access_version: int = 0
    sessions_after: float | None = None
    access_since: float | None = None


@dataclass(frozen=True)
class FoundUser:
    """The stored user, None if there is none; which of the user's customer and the token's customer are deleted; and the time
    of the database's clock, in seconds since 1970."""

    user: StoredUser | None
    deleted_customers: frozenset[UUID]
    now: float


async def find_user(conn: Connection, user_id: UUID, customer_id: UUID | None) -> FoundUser:
    """The user, for a token that names this customer. Each request whose token has no lease in its process runs this, so it is
    one statement."""
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
    """Whether the triggers are there that report each change of what `find_user` reads to the client of the transaction."""
    return bool(await conn.value("SELECT count(*) = 3 FROM pg_trigger WHERE tgfoid = to_regproc('report_access_change')"))


@dataclass(frozen=True)
class Statement:
    """What a provider said of a user at `at`, in seconds since 1970. `role` None and `customer_id` None: nothing of these."""

    email: str
    name: str
    role: str | None
    customer_id: UUID | None
    at: float


async def save_statement(conn: Connection, user_id: UUID, said: Statement) -> None:
    """Stores the statement, unless a later one with a role is stored. A stored role is never removed: a token without a role
    must not make that user a legacy admin later."""
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
    """Stores the provider's internal users, so that tasks can be assigned to them before their first request. Writes only rows
    that differ and of which nothing later is known, and skips accounts without a role: only tokens decide who is a legacy
    admin."""
    saved = [account for account in sorted(listed.accounts, key=lambda account: account.id) if account.profile.role is not None]
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
    """The firm's own people with access, newest first. `include_legacy_admins`: also users without role and customer, for
    installations where that can mean admin. `user_ids`: only these."""
    selection = Selection("user", InternalUser, "users", "u", Order("created_at", "timestamptz"))
    selection.where(f"u.revoked_at IS NULL AND {CONSULTANT if include_legacy_admins else INTERNAL}")
    if user_ids is not None:
        selection.where("u.id = ANY(%(user_ids)s)", user_ids=user_ids)
    return await selection.page(conn, page)


async def is_revoked(conn: Connection, user_id: UUID) -> bool:
    """Whether that user's access was revoked."""
    return bool(await conn.value("SELECT revoked_at IS NOT NULL FROM users WHERE id = %s", (user_id,)))


async def is_consultant(conn: Connection, user_id: UUID) -> bool:
    """Whether this is one of the firm's own people, who can log time and be assigned tasks. Users whose access was revoked
    count, because an admin has to manage the hours that they left."""
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
    """All users, or those with that address in any case: users with access first, then by age. Without the placeholder rows of
    invitations to an address that has another account."""
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
    """The addresses of the firm's admins, for mails that each of them gets."""
    return await conn.values(
        "SELECT email FROM users WHERE role = 'internal_admin' AND revoked_at IS NULL AND email <> '' ORDER BY id"
    )


async def end_sessions(conn: Connection, user_id: UUID, *, began_at: float = 0.0, ahead_seconds: float = 0.0) -> None:
    """Ends all sessions of the user: every token that was issued until now is refused, from the next request on. A user pool's
    clock may be ahead: sessions that began at `began_at` or before, or less than `ahead_seconds` from now, are ended, too."""
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
    """Locks the user's row until the transaction ends. Every change of a user's time takes this lock first. False if there is
    no such user."""
    return await conn.value("SELECT id FROM users WHERE id = %s FOR NO KEY UPDATE", (user_id,)) is not None


async def lock_with_access(conn: Connection, user_id: UUID) -> None:
    """Locks the user's row, before a timer of theirs starts that only they would stop. Raises Forbidden if their access was
    revoked, which a process that has just read them may not know yet."""
    revoked = await conn.value("SELECT revoked_at IS NOT NULL FROM users WHERE id = %s FOR NO KEY UPDATE", (user_id,))
    if revoked:
        raise Forbidden(REVOKED)


async def lock_users(conn: Connection, user_ids: Iterable[UUID]) -> None:
    """Locks the rows of several users, in the order of their ids."""
    await conn.execute("SELECT id FROM users WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", (list(set(user_ids)),))
