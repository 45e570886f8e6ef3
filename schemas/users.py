"""People: who a token speaks for, and the row that remembers them."""

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Row, Sql
from schemas.clients.identity import Subject
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
    """What the table remembers of a user: the role and the customer as last seen in a token, whether they ever came, and
    whether access is revoked."""

    email: str
    name: str
    role: str | None
    customer_id: UUID | None
    joined: bool
    revoked: bool


async def known(conn: Connection, user_id: UUID, customer_id: UUID | None) -> tuple[Known | None, bool]:
    """The remembered user, or None for one never seen; and whether the customer that their token names was deleted. It is asked
    for every request, so it is one statement."""
    cursor = await conn.execute(
        """
        SELECT u.id IS NOT NULL, u.email, u.name, u.role, u.customer_id, u.joined_at IS NOT NULL, u.revoked_at IS NOT NULL,
               EXISTS (SELECT FROM customers c WHERE c.id = %s AND c.deleted_at IS NOT NULL)
        FROM (VALUES (%s::uuid)) asked (id) LEFT JOIN users u ON u.id = asked.id
        """,
        (customer_id, user_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    found, email, name, role, last_customer_id, joined, revoked, customer_deleted = row
    if not found:
        return None, customer_deleted
    user = Known(email=email, name=name, role=role, customer_id=last_customer_id, joined=joined, revoked=revoked)
    return user, customer_deleted


async def remember(
    conn: Connection,
    user_id: UUID,
    *,
    email: str,
    name: str,
    role: str | None,
    customer_id: UUID | None,
    joins: bool = False,
) -> None:
    """Writes down what a token said, and with `joins` that they have come. A role once seen is never forgotten: its absence
    later must not mean legacy admin."""
    await conn.execute(
        """
        INSERT INTO users AS u (id, email, name, role, customer_id, joined_at)
        VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)
        ON CONFLICT (id) DO UPDATE
        SET email = excluded.email, name = excluded.name, role = coalesce(excluded.role, u.role),
            customer_id = coalesce(excluded.customer_id, u.customer_id), joined_at = coalesce(u.joined_at, excluded.joined_at)
        """,
        (user_id, email, name, role, customer_id, joins),
    )


async def remember_internal(conn: Connection, subjects: list[Subject]) -> None:
    """Writes down whom the provider names as the firm's own, so that they can be given tasks before they come. Only what
    differs is written; those without a role are left for their tokens to speak of."""
    known = [subject for subject in sorted(subjects, key=lambda subject: subject.id) if subject.person.role is not None]
    await conn.execute(
        """
        INSERT INTO users AS u (id, email, name, role)
        SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[])
        ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name, role = excluded.role
        WHERE (u.email, u.name, u.role) IS DISTINCT FROM (excluded.email, excluded.name, excluded.role)
        """,
        (
            [subject.id for subject in known],
            [subject.person.email for subject in known],
            [subject.person.name for subject in known],
            [subject.person.role for subject in known],
        ),
    )


async def internal_page(conn: Connection, page: Page, *, legacy: bool, among: list[UUID] | None = None) -> bytes:
    """The firm's own people whose access was not removed, those first whom Stint met last. With `legacy`, where an absent role
    can mean admin, those too who signed in without one. With `among`, only of these."""
    selection = Selection("user", InternalUser, "users", "u", Order("created_at", "timestamptz"))
    selection.where(f"u.revoked_at IS NULL AND {CONSULTANT if legacy else INTERNAL}")
    if among is not None:
        selection.where("u.id = ANY(%(among)s)", among=among)
    return await selection.page(conn, page)


async def is_revoked(conn: Connection, user_id: UUID) -> bool:
    """Whether that user's access was taken away."""
    cursor = await conn.execute("SELECT FROM users WHERE id = %s AND revoked_at IS NOT NULL", (user_id,))
    return await cursor.fetchone() is not None


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
