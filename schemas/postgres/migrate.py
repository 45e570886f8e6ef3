"""Applies schemas/migrations/NNNN_name.sql in order: each once, forward only, in a transaction of its own. Then installs the
SQL functions that the database lacks (schemas/postgres/functions.py)."""

import asyncio
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import AsyncConnection

from schemas.postgres import foreign_xids, functions
from schemas.postgres.connection import Connection
from schemas.settings import DEFAULT_LONG_HOURS

MIGRATIONS = Path(__file__).parents[1] / "migrations"
_NAMES = tuple(path.stem for path in MIGRATIONS.glob("*.sql"))  # when this process started: what its code needs
_LOCK = 7_474_611  # an advisory lock that nothing else takes: concurrent starts migrate one after another
# While a migration waits for a lock on a table, all later statements on that table wait behind it. So it gives up early and
# tries again.
LOCK_SECONDS = 3
TRIES = 20
STATEMENT_SECONDS = 24 * 3600  # for one statement of a migration: building an index may take long
# The errors of a statement that needs what this database lacks; a mistake in the statement has the same. See `pending`.
UNDEFINED = (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)
CHECK_SECONDS = 2  # for the look at the database before a process starts; then it starts anyway, and waits for Postgres

_BEFORE_0_2_0 = "0001_foundation"  # the first of the thirteen migrations that became 0001_schema in version 0.2.0
_WAY_OUT = (
    "start with an empty database (another DATABASE_URL, or ./stint up --state NEW_DIRECTORY), "
    "or delete the old one (./stint up keeps it in .stint, or in the directory of --state)"
)


class WrongVersion(Exception):
    """Another version of Stint, or another program, made this database; the text says so and what to do."""


async def migrate(database_url: str, *, folder: Path = MIGRATIONS, long_hours: float = DEFAULT_LONG_HOURS) -> list[str]:
    """Applies the migrations and installs the SQL functions that the database lacks, and returns the names of both. In a
    restored dump it also corrects the transaction ids of the server that it comes from. `long_hours` is STINT_LONG_HOURS, as
    for connections of other processes.

    Raises WrongVersion, and changes nothing, when the database has migrations that this version lacks; raises
    psycopg.errors.LockNotAvailable when another session locks a table for longer than about a minute.
    """
    applied = []
    # leaving the connection waits, if a migration has changed who may do what
    async with await Connection.connect(database_url, autocommit=True, connect_timeout=10) as conn:
        conn.answer_timeout_seconds = STATEMENT_SECONDS
        await conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        done = await _applied_names(conn)
        paths = sorted(folder.glob("*.sql"))  # noqa: ASYNC240 - nothing else runs on this loop
        _refuse_before_0_2_0(done)
        _refuse_unknown(done, {path.stem for path in paths})
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await conn.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'".encode())
        await conn.execute("SELECT set_config('stint.long_seconds', %s, false)", (str(long_hours * 3600),))
        for path in paths:
            if path.stem not in done:
                await _apply(conn, path)
                applied.append(path.stem)
        if folder == MIGRATIONS:
            async with conn.transaction():
                applied += await functions.install(conn)
            await _correct_xids(database_url)
    return applied


async def _correct_xids(database_url: str) -> None:
    """Prepares a restored dump for sync before clients come; a relay would do the same, while it runs."""
    async with await Connection.connect(database_url, autocommit=True) as conn:
        while await foreign_xids.correct(conn):
            pass


async def check_version(database_url: str) -> None:
    """Raises WrongVersion when a version before 0.2.0 made the database. Accepts a newer version's database, since each
    migration works beside the version before it, and an unreachable one, since the parts of Stint wait for their database."""
    with suppress(psycopg.Error, TimeoutError):
        async with asyncio.timeout(CHECK_SECONDS):
            async with await AsyncConnection.connect(database_url, autocommit=True) as conn:
                _refuse_before_0_2_0(await _applied_names(conn))


async def pending(conn: AsyncConnection[tuple[object, ...]]) -> bool:
    """Whether the database lacks a migration or a SQL function of this version. One statement."""
    installed = [function.name for function in functions.sql_functions().values()]
    try:
        cursor = await conn.execute(
            """
            SELECT (SELECT count(*) FROM migrations WHERE name = ANY(%s)),
                   (SELECT count(*) FROM pg_proc WHERE proname = ANY(%s) AND pg_function_is_visible(oid))
            """,
            (list(_NAMES), installed),
        )
    except psycopg.errors.UndefinedTable:
        return True
    return await cursor.fetchone() != (len(_NAMES), len(installed))


async def unknown_migrations(conn: AsyncConnection[tuple[object, ...]]) -> list[str]:
    """The migrations that the database has and this version lacks, in order."""
    return sorted(await _applied_names(conn) - set(_NAMES))


async def _applied_names(conn: AsyncConnection[tuple[object, ...]]) -> set[str]:
    try:
        cursor = await conn.execute("SELECT name::text FROM migrations")
    except psycopg.errors.UndefinedTable:
        return set()
    except psycopg.errors.UndefinedColumn:
        raise WrongVersion(
            f"This database has a table migrations that is not Stint's, so another program uses it: {_WAY_OUT}."
        ) from None
    return {str(name) for (name,) in await cursor.fetchall()}


def _refuse_before_0_2_0(applied: set[str]) -> None:
    if _BEFORE_0_2_0 in applied:
        raise WrongVersion(f"A Stint before version 0.2.0 made this database, which cannot be upgraded: {_WAY_OUT}.")


def _refuse_unknown(applied: set[str], known: set[str]) -> None:
    if not (unknown := sorted(applied - known)):
        return
    if applied & known:
        raise WrongVersion(
            f"A newer Stint has changed this database (its migration {unknown[-1]} is unknown to this version): "
            f"start that version or a later one, or {_WAY_OUT}."
        )
    raise WrongVersion(
        f"The table migrations of this database names {unknown[0]}, which is not a migration of Stint, "
        f"so another program uses it: {_WAY_OUT}."
    )


async def _apply(conn: AsyncConnection[tuple[object, ...]], path: Path) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            async with conn.transaction():
                await conn.execute(path.read_bytes())  # noqa: ASYNC240
                await conn.execute("INSERT INTO migrations (name) VALUES (%s)", (path.stem,))
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if not tries_left:
                raise
            await asyncio.sleep(0.5)
