"""Who gets direct messages in Slack: users whose access is not revoked, by their e-mail address."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from schemas.identity.users import CONSULTANT, INTERNAL
from schemas.postgres.connection import Connection
from schemas.settings import Settings


@dataclass(frozen=True)
class Recipient:
    """A user with an e-mail address, and when Stint first knew them."""

    id: UUID
    email: str
    created_at: datetime


# Users `u` of the firm, whose address no customer's user has: such a person counts as the customer's user
# (schemas/slack/members.py).
_OF_THE_FIRM = f"""
    {CONSULTANT} AND u.revoked_at IS NULL AND u.email <> '' AND NOT u.account_elsewhere
    AND NOT EXISTS (
        SELECT FROM users o WHERE email_key(o.email) = email_key(u.email) AND o.revoked_at IS NULL AND NOT o.account_elsewhere
            AND o.customer_id IS NOT NULL
    )
"""
_COLUMNS = "u.id, u.email, u.created_at"
# a user without a role may be a legacy admin
_ADMIN = f"{_OF_THE_FIRM} AND (u.role = 'internal_admin' OR u.role IS NULL AND %(legacy)s)"


async def list_admins(conn: Connection, *, settings: Settings) -> list[Recipient]:
    """All admins, one for each e-mail address."""
    return await conn.all(
        f"""
        SELECT DISTINCT ON (email_key(u.email)) {_COLUMNS} FROM users u WHERE {_ADMIN}
        ORDER BY email_key(u.email), u.created_at DESC
        """,
        {"legacy": bool(settings.legacy_client_ids)},
        row=Recipient,
    )


async def list_consultants(conn: Connection, *, settings: Settings) -> list[Recipient]:
    """All of the firm's own people, one for each e-mail address."""
    return await conn.all(
        f"""
        SELECT DISTINCT ON (email_key(u.email)) {_COLUMNS} FROM users u
        WHERE {_OF_THE_FIRM} AND ({INTERNAL} OR u.role IS NULL AND %(legacy)s)
        ORDER BY email_key(u.email), u.created_at DESC
        """,
        {"legacy": bool(settings.legacy_client_ids)},
        row=Recipient,
    )


async def find_admin(conn: Connection, user_id: UUID, *, settings: Settings) -> Recipient | None:
    """The user, if they are an admin."""
    query = f"SELECT {_COLUMNS} FROM users u WHERE u.id = %(id)s AND {_ADMIN}"
    return await conn.maybe(query, {"id": user_id, "legacy": bool(settings.legacy_client_ids)}, row=Recipient)


async def find_consultants(conn: Connection, user_ids: Collection[UUID]) -> dict[UUID, Recipient]:
    """Those of the users who are the firm's."""
    query = f"SELECT {_COLUMNS} FROM users u WHERE u.id = ANY(%(ids)s) AND {_OF_THE_FIRM}"
    return {found.id: found for found in await conn.all(query, {"ids": list(user_ids)}, row=Recipient)}
