"""Applies schemas/migrations/NNNN_….sql in order, each once, forward only, under an advisory lock."""

from pathlib import Path

import psycopg
from psycopg import AsyncConnection

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_474_611  # any number that nobody else takes: several starts at once queue up here


async def migrate(database_url: str) -> list[str]:
    """Brings the database up to date and returns the names of what it applied, each in a transaction of its own."""
    applied = []
    async with await AsyncConnection.connect(database_url, autocommit=True, connect_timeout=10) as conn:
        await conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor = await conn.execute("SELECT name FROM migrations")
        done = {name for (name,) in await cursor.fetchall()}
        for path in sorted(MIGRATIONS.glob("*.sql")):
            if path.stem not in done:
                async with conn.transaction():
                    await conn.execute(path.read_bytes())
                    await conn.execute("INSERT INTO migrations (name) VALUES (%s)", (path.stem,))
                applied.append(path.stem)
    return applied


async def pending(conn: AsyncConnection[tuple[object, ...]]) -> bool:
    """Whether the database lacks a migration that this code brings. One statement."""
    names = [path.stem for path in MIGRATIONS.glob("*.sql")]
    try:
        cursor = await conn.execute("SELECT count(*) FROM migrations WHERE name = ANY(%s)", (names,))
    except psycopg.errors.UndefinedTable:
        return True
    row = await cursor.fetchone()
    return row is None or row[0] != len(names)
