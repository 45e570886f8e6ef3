"""Applies the files schemas/migrations/NNNN_name.sql in their order, each once. The version before continues to work meanwhile.

Then it installs the SQL functions that the database lacks (schemas/postgres/functions.py).

A file is one transaction, unless its first line says something else:

- OUTSIDE_OF_A_TRANSACTION: its statements run one after another, each without a transaction. Each ends at the end of a line.
  This is for what Postgres refuses in a transaction, such as CREATE INDEX CONCURRENTLY.
- IN_BATCHES: it is one statement, which runs again and again, each time in a transaction of its own. It returns one row with
  one column: the last key that it has read, as text, and null at the end. Its parameter %(after)s is the key that the run
  before has returned, and null in the first run.

Both kinds run again from their beginning if `migrate` was killed meanwhile. tests/postgres/test_migration_files.py checks that
they can, and what else a file may contain.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection

from schemas.postgres import foreign_xids, functions
from schemas.postgres.connection import Connection
from schemas.settings import DEFAULT_LONG_HOURS

T = TypeVar("T")

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parents[1] / "migrations"
_NAMES = tuple(path.stem for path in MIGRATIONS.glob("*.sql"))  # when this process started: what its code needs
_LOCK = 7_474_611  # an advisory lock that nothing else takes: concurrent starts migrate one after another
OUTSIDE_OF_A_TRANSACTION = "-- Outside of a transaction."
IN_BATCHES = "-- In batches."
# While a migration waits for a lock on a table, all later statements on that table wait behind it. So it gives up early and
# tries again.
LOCK_SECONDS = 0.3
PAUSE_SECONDS = 0.7  # between two tries, for the statements that have waited
TRIES = 60
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
    """Applies the migrations and installs the SQL functions that the database lacks. Returns the names of both.

    In a restored dump, it also corrects the transaction ids, which are of the server that was dumped. `long_hours` is
    STINT_LONG_HOURS, which connections of other processes have, too.

    Raises WrongVersion, and changes nothing, if the database has migrations that this version lacks. Raises
    psycopg.errors.LockNotAvailable if another session locks a table for longer than about a minute. After an error, or if it is
    killed, the next call continues where it has stopped.
    """
    applied = []
    # leaving the connection waits, if a migration has changed who may do what
    async with await Connection.connect(database_url, autocommit=True, connect_timeout=10) as conn:
        conn.answer_timeout_seconds = STATEMENT_SECONDS
        # not pg_advisory_lock: a statement that waits has a snapshot, and CREATE INDEX CONCURRENTLY of the other waits for that
        while not await conn.value("SELECT pg_try_advisory_lock(%s)", (_LOCK,)):  # noqa: ASYNC110 - Postgres sends no event
            await asyncio.sleep(0.2)
        done = await _applied_names(conn)
        paths = sorted(folder.glob("*.sql"))  # noqa: ASYNC240 - nothing else runs on this loop
        _refuse_before_0_2_0(done)
        _refuse_unknown(done, {path.stem for path in paths})
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        await conn.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        with suppress(psycopg.errors.InsufficientPrivilege):
            # an autovacuum ends if a lock has waited for it that long, which by default is longer than LOCK_SECONDS
            await conn.execute("SET deadlock_timeout = '0.1s'")
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
    """Prepares a restored dump for sync, before clients send requests. Without this, a relay would do it while it runs."""
    async with await Connection.connect(database_url, autocommit=True) as conn:
        while await foreign_xids.correct(conn):
            pass


async def check_version(database_url: str) -> None:
    """Raises WrongVersion if a version before 0.2.0 made the database.

    The database of a newer version is accepted, because each migration works beside the version before it. One that cannot be
    reached is accepted, too, because the parts of Stint wait for their database.
    """
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


async def _apply(conn: Connection, path: Path) -> None:
    text = path.read_text()  # noqa: ASYNC240

    async def record() -> None:
        await conn.execute("INSERT INTO migrations (name) VALUES (%s)", (path.stem,))

    async def all_of_it() -> None:
        await conn.execute(text)
        await record()

    match text.partition("\n")[0]:
        case kind if kind == OUTSIDE_OF_A_TRANSACTION:
            await _apply_outside(conn, text)
            await record()
        case kind if kind == IN_BATCHES:
            await _apply_in_batches(conn, path.stem, text)
            await record()
        case _:
            await _when_unlocked(conn, path.stem, all_of_it)


async def _apply_outside(conn: Connection, text: str) -> None:
    """Runs the statements without a lock_timeout. Those that are allowed here wait for other sessions, but delay none."""
    await _drop_invalid_indexes(conn, text)
    await conn.execute("SET lock_timeout = 0")
    for statement in statements(text):
        *_, verb, name = statement.split()
        # After ANALYZE of an empty table, Postgres plans for one until the table is analyzed again.
        if verb != "ANALYZE" or await conn.value(f"SELECT EXISTS (SELECT FROM {name})"):
            await conn.execute(statement)
    await conn.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")


def statements(text: str) -> list[str]:
    """The statements of a file outside of a transaction, in order."""
    return [statement for statement in text.split(";\n") if statement.strip()]


async def _drop_invalid_indexes(conn: Connection, text: str) -> None:
    """Drops the invalid indexes of an interrupted CREATE INDEX CONCURRENTLY. IF NOT EXISTS would not create them again."""
    invalid = await conn.values(
        """
        SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE NOT i.indisvalid AND c.relname = ANY(%s) AND pg_table_is_visible(c.oid)
        """,
        (text.split(),),
    )
    for name in invalid:
        logger.warning("an index that was not finished is created again: index=%s", name)
        await conn.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


async def _apply_in_batches(conn: Connection, name: str, text: str) -> None:
    after: str | None = None
    while True:
        after = await _when_unlocked(conn, name, partial(conn.value, text, {"after": after}))
        if after is None:
            return


async def _when_unlocked(conn: Connection, name: str, step: Callable[[], Awaitable[T]]) -> T:
    """The result of `step`, which runs in a transaction. It runs again if it has waited too long for a lock."""
    for tries_left in reversed(range(TRIES)):
        try:
            async with conn.transaction():
                return await step()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if not tries_left:
                raise
            if tries_left % 10 == 0:
                logger.warning("a migration waits for others: migration=%s tries_left=%d error=%s", name, tries_left, error)
            await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("the last try returns or raises")
