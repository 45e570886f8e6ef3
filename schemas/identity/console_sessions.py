"""Sessions of the console. A session is a row that says which user has a random token. Postgres stores only the token's hash.

Each request reads the session with its user, in one statement. So a session ends in all processes at once: when it expires, or
when its row is deleted. A trigger deletes the row when the user's access, role or customer changes.
"""

import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from schemas.identity import users
from schemas.identity.users import User
from schemas.postgres.connection import Connection

SESSION_HOURS = 12
LINK_MINUTES = 10


@dataclass(frozen=True)
class ConsoleSession:
    """A user who is signed in to the console. `seconds_left`: until the session expires."""

    user: User
    seconds_left: float


async def start(conn: Connection, user_id: UUID) -> str | None:
    """Begins a session of the user, and returns its token. None: the user has no access, or no role.

    The caller has verified who the user is.
    """
    token = secrets.token_urlsafe(32)
    is_started = await conn.value(
        """
        INSERT INTO console_sessions (token_hash, user_id, access_version, role, customer_id, expires_at)
        SELECT %s, id, access_version, role, customer_id, clock_timestamp() + make_interval(hours => %s)
        FROM users WHERE id = %s AND revoked_at IS NULL AND role IS NOT NULL
        RETURNING true
        """,
        (_hash(token), SESSION_HOURS, user_id),
    )
    if not is_started:
        return None
    await users.save_first_request(conn, user_id)
    return token


async def find(conn: Connection, token: str) -> ConsoleSession | None:
    """The session of that token; None if there is none, or if it has ended."""
    found = await conn.maybe(
        """
        SELECT u.id, u.email, u.name, u.role, u.customer_id,
               extract(epoch FROM s.expires_at - clock_timestamp())::float
        FROM console_sessions s JOIN users u ON u.id = s.user_id
        WHERE s.token_hash = %s AND s.expires_at > clock_timestamp()
          AND u.revoked_at IS NULL AND u.access_version = s.access_version
          AND u.role = s.role AND u.customer_id IS NOT DISTINCT FROM s.customer_id
          AND NOT EXISTS (SELECT FROM customers c WHERE c.id = u.customer_id AND c.deleted_at IS NOT NULL)
        """,
        (_hash(token),),
    )
    if found is None:
        return None
    user_id, email, name, stored_role, customer_id, seconds_left = found
    role = users.parse_role(stored_role)
    if role is None or (users.is_customer_role(role) and customer_id is None):
        return None
    shown_customer = customer_id if users.is_customer_role(role) else None
    user = User(id=user_id, email=email, name=name or email, role=role, customer_id=shown_customer)
    return ConsoleSession(user, seconds_left)


async def end(conn: Connection, token: str) -> None:
    """Ends the session of that token, if there is one."""
    await conn.execute("DELETE FROM console_sessions WHERE token_hash = %s", (_hash(token),))


async def create_link(conn: Connection, user_id: UUID) -> str:
    """The token of a link that signs the user in once, within ten minutes."""
    token = secrets.token_urlsafe(32)
    await conn.execute(
        """
        INSERT INTO sign_in_links (token_hash, user_id, access_version, expires_at)
        SELECT %s, id, access_version, clock_timestamp() + make_interval(mins => %s) FROM users WHERE id = %s
        """,
        (_hash(token), LINK_MINUTES, user_id),
    )
    return token


async def find_link(conn: Connection, token: str) -> str | None:
    """The address of the user whom the link with that token would sign in. None: the link was used, or has expired."""
    found: str | None = await conn.value(
        """
        SELECT u.email FROM sign_in_links l JOIN users u ON u.id = l.user_id
        WHERE l.token_hash = %s AND l.expires_at > clock_timestamp() AND u.access_version = l.access_version
        """,
        (_hash(token),),
    )
    return found


async def use_link(conn: Connection, token: str) -> str | None:
    """Begins the session for the link with that token, and returns the token of the session. A link works once.

    None: the link was used, or has expired, or its user has lost access since.
    """
    user_id = await conn.value(
        """
        DELETE FROM sign_in_links l USING users u
        WHERE l.token_hash = %s AND l.expires_at > clock_timestamp()
          AND u.id = l.user_id AND u.access_version = l.access_version
        RETURNING u.id
        """,
        (_hash(token),),
    )
    return await start(conn, user_id) if user_id is not None else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
