"""Readings of a user pool. They apply a change in the pool also where no token is needed: in Slack, in mails and in lists.

Such a change is that a user is disabled, is deleted, or gets another role.

One message, ReadUserPool, reads the whole pool again and again. The rescuer starts it if there is none. If the pool does not
answer, the reading has failed: nobody is removed, and `./stint doctor` says why.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.base import Row
from schemas.errors import Unavailable
from schemas.identity.accounts import Account, IdentityProvider
from schemas.messages import ReadUserPool
from schemas.outbox import outbox
from schemas.postgres.connection import Connection

LATE_SECONDS = 120.0  # `./stint doctor` reports a last reading that is older, and each reading that has failed
AGAIN_SECONDS = 10.0  # the longest time between a reading that has failed and the next one
MAX_CONFIRMED = 100  # how many users one reading looks up one by one, because the pool's list does not have them


class Reading(Row):
    """The last complete reading, and why readings have failed since."""

    age_seconds: float | None  # None: there was no complete reading yet
    error: str | None


class PoolReading:
    """One reading: when it began, and what the pool has answered."""

    def __init__(self, began_at: datetime) -> None:
        self.began_at = began_at
        self.accounts: list[Account] = []
        self.gone: list[UUID] = []  # users with access who have no account that is enabled

    async def read(self, conn: Connection, provider: IdentityProvider) -> None:
        """Reads all accounts, and looks up each user who is missing among them. Raises Unavailable."""
        self.accounts = await provider.list_accounts()
        for user_id in await self._missing(conn):
            if await provider.get_account(user_id) is None:  # the list may be older than the account
                self.gone.append(user_id)

    async def _missing(self, conn: Connection) -> list[UUID]:
        return await conn.values(
            """
            SELECT id FROM users
            WHERE revoked_at IS NULL AND NOT account_elsewhere AND created_at < %s AND id <> ALL(%s) ORDER BY id LIMIT %s
            """,
            (self.began_at, [account.id for account in self.accounts], MAX_CONFIRMED),
        )

    async def save(self, conn: Connection) -> list[str]:
        """Stores what the pool has answered. Returns the addresses of the users who have lost access.

        It revokes access, restores access that an earlier reading has revoked, and updates roles, customers, names and
        addresses of which nothing later is known.
        """
        changing = await self._lock_changing(conn)
        lost: list[str] = await conn.values(
            """
            UPDATE users SET revoked_at = now(), disabled_in_pool = true
            WHERE id = ANY(%(gone)s) AND id = ANY(%(changing)s) AND revoked_at IS NULL RETURNING email
            """,
            {"gone": self.gone, "changing": changing},
        )
        await conn.execute(
            f"""
            WITH pool AS ({_POOL})
            UPDATE users u SET revoked_at = NULL, disabled_in_pool = false
            FROM pool p WHERE u.id = p.id AND u.id = ANY(%(changing)s) AND {_RETURNS}
            """,
            self._pool | {"changing": changing},
        )
        await conn.execute(
            f"""
            WITH pool AS ({_POOL})
            UPDATE users u
            SET email = p.email, name = p.name, role = {_ROLE}, customer_id = p.customer_id, claims_at = %(began)s
            FROM pool p WHERE u.id = p.id AND u.id = ANY(%(changing)s) AND {_DIFFERS}
            """,
            self._pool | {"changing": changing},
        )
        await conn.execute("UPDATE user_pool_readings SET read_at = %s, error = NULL", (self.began_at,))
        return lost

    @property
    def _pool(self) -> dict[str, Any]:
        """The parameters of the SQL in `_POOL` and `_DIFFERS`."""
        profiles = [account.profile for account in self.accounts]
        return {
            "ids": [account.id for account in self.accounts],
            "emails": [profile.email for profile in profiles],
            "names": [profile.name for profile in profiles],
            "roles": [profile.role for profile in profiles],
            "customers": [profile.customer_id for profile in profiles],
            "began": self.began_at,
        }

    async def _lock_changing(self, conn: Connection) -> list[UUID]:
        """Locks the users that the reading changes, in the order of their ids, and returns the ids.

        The UPDATEs alone would lock rows in no defined order. They could deadlock with others that lock several users.
        """
        return await conn.values(
            f"""
            WITH pool AS ({_POOL})
            SELECT u.id FROM users u LEFT JOIN pool p ON p.id = u.id
            WHERE u.id = ANY(%(gone)s) AND u.revoked_at IS NULL OR p.id IS NOT NULL AND ({_RETURNS} OR {_DIFFERS})
            ORDER BY u.id FOR NO KEY UPDATE OF u
            """,
            self._pool | {"gone": self.gone},
        )


_POOL = """
    SELECT * FROM unnest(%(ids)s::uuid[], %(emails)s::text[], %(names)s::text[], %(roles)s::text[], %(customers)s::uuid[])
        AS a (id, email, name, role, customer_id)
"""
_RETURNS = "u.disabled_in_pool"  # not a user whom Stint removed
# A role that was removed in the pool is stored as an empty text. Null would mean that there never was one: a legacy admin.
_ROLE = "coalesce(p.role, CASE WHEN u.role IS NOT NULL THEN '' END)"
# SQL condition: the pool's answer differs from the stored user `u`, of whom nothing later is known.
_DIFFERS = f"""
    coalesce(u.claims_at, u.updated_at) <= %(began)s
    AND (u.email, u.name, u.role, u.customer_id) IS DISTINCT FROM (p.email, p.name, {_ROLE}, p.customer_id)
"""


async def begin(conn: Connection) -> PoolReading:
    """A reading that begins now."""
    return PoolReading(await conn.value("SELECT clock_timestamp()"))


async def record_failure(conn: Connection, error: Unavailable | TimeoutError) -> None:
    """Stores why the pool could not be read."""
    text = error.reason or error.detail if isinstance(error, Unavailable) else "the reading was not complete in time"
    await conn.execute("UPDATE user_pool_readings SET error = %s", (text,))


async def forget(conn: Connection) -> None:
    """Forgets the last reading. For an installation that has no pool any more: otherwise its last reading would be late."""
    await conn.execute("UPDATE user_pool_readings SET read_at = NULL, error = NULL")


async def last_reading(conn: Connection) -> Reading:
    """The last reading."""
    return await conn.one(
        "SELECT extract(epoch FROM clock_timestamp() - read_at)::float AS age_seconds, error FROM user_pool_readings",
        row=Reading,
    )


async def ensure_started(conn: Connection) -> None:
    """Enqueues the message that reads the pool, if there is none. It may be called concurrently.

    A message that is dead is replaced after a minute. So a worker of an older version does not cause one dead letter after
    another.
    """
    is_missing = """
        SELECT 1 FROM user_pool_readings r LEFT JOIN messages m ON m.id = r.message_id
        WHERE m.id IS NULL OR m.state = 'done'
           OR m.state IN ('dead', 'discarded') AND m.died_at < statement_timestamp() - interval '1 minute'
    """
    if await conn.maybe(is_missing) is None:
        return
    async with conn.transaction():
        await conn.execute("SELECT 1 FROM user_pool_readings FOR NO KEY UPDATE")
        if await conn.maybe(is_missing) is not None:
            message_id = await outbox.enqueue(conn, ReadUserPool())
            await conn.execute("UPDATE user_pool_readings SET message_id = %s", (message_id,))
