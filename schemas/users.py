"""People: who a token speaks for, and the row that remembers them."""

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Row, Sql
from schemas.database import Connection
from schemas.listing import Order, Page, Selection


class Role(StrEnum):
    """What `custom:userRole` comes down to."""

    admin = "admin"
    internal = "internal"
    customer_admin = "customer_admin"
    customer_user = "customer_user"


class User(Row):
    """Whoever makes the request, as the token says."""

    id: Annotated[UUID, Field(description="The token's `sub`")]
    email: str
    name: str
    role: Annotated[Role, Field(description="admin and internal are the firm's own people; the others are a customer's")]
    customer_id: Annotated[UUID | None, Field(description="Whose data a customer's user may see; null for the firm's own")]

    @property
    def is_admin(self) -> bool:
        return self.role is Role.admin

    @property
    def is_internal(self) -> bool:
        return self.role in (Role.admin, Role.internal)


class InternalUser(Row):
    """One of the firm's own people, as answered."""

    id: UUID
    email: str
    name: str
    role: Annotated[
        Literal["admin", "internal"],
        Sql("CASE WHEN coalesce({t}.role, 'internal_admin') = 'internal_admin' THEN 'admin' ELSE 'internal' END"),
    ]


# Conditions on users `u`: the firm's own people by their role, or also those who never showed one.
INTERNAL = "starts_with(u.role, 'internal_')"
CONSULTANT = f"({INTERNAL} OR u.role IS NULL AND u.customer_id IS NULL AND u.email <> '')"


class Known(Row):
    """What the table remembers of a user: the role and the customer as last seen in a token, and whether access is revoked."""

    email: str
    name: str
    role: str | None
    customer_id: UUID | None
    revoked: bool


async def known(conn: Connection, user_id: UUID) -> Known | None:
    """The remembered user, or None for one never seen."""
    cursor = await conn.execute(
        "SELECT email, name, role, customer_id, revoked_at IS NOT NULL FROM users WHERE id = %s", (user_id,)
    )
    row = await cursor.fetchone()
    return None if row is None else Known(email=row[0], name=row[1], role=row[2], customer_id=row[3], revoked=row[4])


async def remember(
    conn: Connection, user_id: UUID, *, email: str, name: str, role: str | None, customer_id: UUID | None
) -> None:
    """Writes down what a token said. A role once seen is never forgotten: its absence later must not mean legacy admin."""
    await conn.execute(
        """
        INSERT INTO users AS u (id, email, name, role, customer_id) VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (id) DO UPDATE
        SET email = excluded.email, name = excluded.name, role = coalesce(excluded.role, u.role),
            customer_id = coalesce(excluded.customer_id, u.customer_id)
        """,
        (user_id, email, name, role, customer_id),
    )


async def internal_page(conn: Connection, page: Page, *, legacy: bool) -> bytes:
    """The firm's own people whose access was not removed, those first whom Stint met last. With `legacy`, where an absent role
    can mean admin, those too who signed in without one."""
    selection = Selection("user", InternalUser, "users", "u", Order("created_at", "timestamptz"))
    selection.where(f"u.revoked_at IS NULL AND {CONSULTANT if legacy else INTERNAL}")
    return await selection.page(conn, page)


async def internal_addresses(conn: Connection) -> list[str]:
    """Where the firm's own people who have access read mail: each address once."""
    cursor = await conn.execute(
        f"""
        SELECT DISTINCT ON (lower(u.email)) u.email FROM users u
        WHERE u.revoked_at IS NULL AND u.email <> '' AND {CONSULTANT} ORDER BY lower(u.email), u.created_at
        """.encode()
    )
    return [email for (email,) in await cursor.fetchall()]


async def is_consultant(conn: Connection, user_id: UUID) -> bool:
    """Whether this is one of the firm's own people, who log time and get tasks; also one whose access was removed, since an
    admin has to see to what they have left."""
    cursor = await conn.execute(f"SELECT 1 FROM users u WHERE u.id = %s AND {CONSULTANT}".encode(), (user_id,))
    return await cursor.fetchone() is not None


class Account(Row):
    """One user of the local identity provider, as `./stint user list` shows it."""

    id: UUID
    email: str
    name: str
    role: str | None
    customer_id: UUID | None
    revoked: bool


async def accounts(conn: Connection, email: str | None = None) -> list[Account]:
    """Everyone, or everyone with that address in any case; those with access first, then by age."""
    condition, parameters = ("AND lower(email) = lower(%s)", (email,)) if email is not None else ("", ())
    cursor = await conn.execute(
        f"SELECT id, email, name, role, customer_id, revoked_at IS NOT NULL FROM users WHERE NOT elsewhere {condition}"
        " ORDER BY revoked_at IS NOT NULL, created_at, id",
        parameters,
    )
    names = tuple(Account.model_fields)
    return [Account(**dict(zip(names, row, strict=True))) for row in await cursor.fetchall()]


async def set_revoked(conn: Connection, user_id: UUID, revoked: bool) -> None:
    """Takes or gives back access, from the next request on."""
    await conn.execute("UPDATE users SET revoked_at = CASE WHEN %s THEN now() END WHERE id = %s", (revoked, user_id))


def is_a_customers(role: str | None) -> bool:
    return role in (Role.customer_admin, Role.customer_user)


def role_of(claim: Any) -> Role | None:
    """The role that a `custom:userRole` stands for, or None for one that opens no door (the empty string included)."""
    if not isinstance(claim, str):
        return None
    if claim == "internal_admin":
        return Role.admin
    if claim.startswith("internal_"):
        return Role.internal
    return Role(claim) if claim in (Role.customer_admin, Role.customer_user) else None
