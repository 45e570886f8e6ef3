"""Applies schemas/migrations/NNNN_….sql in order, each once, forward only, under an advisory lock."""

import asyncio
from pathlib import Path

import psycopg
from psycopg import AsyncConnection

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_474_611  # any number that nobody else takes: several starts at once queue up here
# Whoever waits for a table has all others wait behind it: rather give way, and try again.
LOCK_SECONDS = 3
TRIES = 20


async def migrate(database_url: str) -> list[str]:
    """Brings the database up to date and returns the names of what it applied, each in a transaction of its own. Raises
    psycopg.errors.LockNotAvailable when others hold a table for a minute."""
    applied = []
    async with await AsyncConnection.connect(database_url, autocommit=True, connect_timeout=10) as conn:
        await conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await conn.execute("SELECT name FROM migrations")
        done = {name for (name,) in await cursor.fetchall()}
        await conn.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'".encode())
        for path in sorted(MIGRATIONS.glob("*.sql")):
            if path.stem not in done:
                await _apply(conn, path)
                applied.append(path.stem)
    return applied


async def _apply(conn: AsyncConnection[tuple[object, ...]], path: Path) -> None:
    for left in reversed(range(TRIES)):
        try:
            async with conn.transaction():
                await conn.execute(path.read_bytes())  # noqa: ASYNC240 - a small file, and nobody else on this loop
                await conn.execute("INSERT INTO migrations (name) VALUES (%s)", (path.stem,))
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if not left:
                raise
            await asyncio.sleep(0.5)


async def pending(conn: AsyncConnection[tuple[object, ...]]) -> bool:
    """Whether the database lacks a migration that this code brings. One statement."""
    names = [path.stem for path in MIGRATIONS.glob("*.sql")]
    try:
        cursor = await conn.execute("SELECT count(*) FROM migrations WHERE name = ANY(%s)", (names,))
    except psycopg.errors.UndefinedTable:
        return True
    row = await cursor.fetchone()
    return row is None or row[0] != len(names)
