"""Connections to Postgres: one type (async, autocommit), made in one place, each with limits on how long it can hold anything.

Functions of this floor take `conn` first and never commit: the caller owns the transaction (`async with conn.transaction()`).
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from schemas.errors import Unavailable
from schemas.settings import Settings
from schemas.watch import Watch

# connections that one API process uses, beside one that listens and one that watches: for most requests, and for those that
# can't wait in line with them
POOL_SIZE, APART_SIZE = 16, 8
BUSY_SECONDS = 5.0  # that a request waits for one while others have them all and Postgres is well
TURN_SECONDS = 20  # that a request of many transactions waits for its turn
MARGIN_SECONDS = 3.0  # for the way there and back, beside what a statement may take

Result = TypeVar("Result")


class Connection(AsyncConnection[tuple[Any, ...]]):
    """A connection that gives Postgres so long for each answer, and then hangs up. TCP's own limits do not help when something
    on the way, a proxy say, has lost the server and goes on acknowledging."""

    patience_seconds = 30 + MARGIN_SECONDS

    async def wait(self, gen: PQGen[Result], *arguments: Any, **named: Any) -> Result:
        alarm = asyncio.get_running_loop().call_later(self.patience_seconds, self.hang_up)
        try:
            return await super().wait(gen, *arguments, **named)
        finally:
            alarm.cancel()

    def hang_up(self) -> None:
        """Ends the connection at once, without asking: whoever waits for an answer on it gets psycopg.OperationalError."""
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(self.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def is_cut(self) -> bool:
        """Whether the other end has hung up, as far as that is known here: what makes an idle line readable is its end."""
        waiting = select.poll()
        waiting.register(self.fileno(), select.POLLIN)
        return bool(waiting.poll(0))


# Postgres is not there, or hung up: worth waiting for, and nothing that the caller did wrong. A statement that ran into its
# time limit is an OperationalError too, but is the statement's own fault.
UNREACHABLE: tuple[type[Exception], ...] = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed)
ITS_OWN_FAULT: tuple[type[Exception], ...] = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ProgramLimitExceeded,
)


def is_unreachable(error: BaseException) -> bool:
    """Whether the error says that Postgres is away, rather than that a statement failed."""
    return isinstance(error, UNREACHABLE) and not isinstance(error, ITS_OWN_FAULT)


def connection_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for psycopg: no connection can hold a row for long, whatever happens to the process behind it."""
    milliseconds = int(settings.stint_statement_seconds * 1000)
    return {
        "autocommit": True,
        "prepare_threshold": 1,
        "connect_timeout": 5,
        "application_name": "stint",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "options": " ".join(
            f"-c {name}={value}"
            for name, value in {
                "timezone": "UTC",
                "statement_timeout": milliseconds,
                "lock_timeout": min(10_000, milliseconds),
                # a process frozen in mid-transaction loses the transaction, not everybody else's rows
                "idle_in_transaction_session_timeout": 15_000,
                "client_connection_check_interval": 2_000,
                # Postgres looks after us likewise: what a session that is no more has locked is free again within seconds
                "tcp_keepalives_idle": 5,
                "tcp_keepalives_interval": 2,
                "tcp_keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            }.items()
        ),
    }


async def connect(settings: Settings) -> Connection:
    """A connection of one's own, for a worker thread or a command. Raises psycopg.OperationalError when Postgres is away."""
    conn = await Connection.connect(settings.database_url, **connection_options(settings))
    conn.patience_seconds = settings.stint_statement_seconds + MARGIN_SECONDS
    return conn


class Database:
    """The connections of one API process. A request that can't have one within `stint_connect_seconds` gets PoolTimeout, unless
    Postgres is only busy; one that has one is told within two seconds when Postgres falls silent."""

    def __init__(self, settings: Settings, *, size: int = POOL_SIZE) -> None:
        self._settings = settings
        self._all: WeakSet[Connection] = WeakSet()
        self._lent_out = 0
        self._watch = Watch(lambda: connect(settings), self._all, are_lent=lambda: self._lent_out > 0)
        self._pool, self._apart = self._new_pool(2, size), self._new_pool(1, APART_SIZE)
        self._prompt_seconds = settings.stint_connect_seconds + 0.4
        self._long_turns = asyncio.Semaphore(max(1, size // 4))
        self._checking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Starts connecting; does not wait, so that the API starts while Postgres is away."""
        await self._pool.open(wait=False)
        await self._apart.open(wait=False)
        self._watch.open()

    async def close(self) -> None:
        await self._watch.close()
        await asyncio.gather(self._pool.close(timeout=2), self._apart.close(timeout=2))

    def _new_pool(self, least: int, most: int) -> AsyncConnectionPool[Connection]:
        return AsyncConnectionPool(
            self._settings.database_url,
            connection_class=Connection,
            kwargs=connection_options(self._settings),
            configure=self._enlist,
            min_size=least,
            max_size=most,
            # come back within seconds of Postgres, not on the far end of an exponential wait
            reconnect_timeout=3,
            max_waiting=1_000,
            open=False,
        )

    async def _enlist(self, conn: Connection) -> None:
        conn.patience_seconds = self._settings.stint_statement_seconds + MARGIN_SECONDS
        self._all.add(conn)

    @asynccontextmanager
    async def connection(self, *, patient: bool = True) -> AsyncIterator[Connection]:
        """One connection, in autocommit: a single statement needs no transaction. Who is not patient does not stand in line
        behind those who are."""
        try:
            with self._watch.over():  # also over the wait, which lasts for as long as Postgres is heard
                async with self._patiently() if patient else self._at_once() as conn:
                    yield conn
        except UNREACHABLE as error:
            if not isinstance(error, ITS_OWN_FAULT):
                self._replace_the_dead()
            raise

    @asynccontextmanager
    async def _patiently(self) -> AsyncIterator[Connection]:
        try:
            async with self._watch.while_heard(self._settings.stint_connect_seconds):
                conn = await _alive(self._pool, BUSY_SECONDS)
        except TimeoutError:
            raise PoolTimeout("Postgres is not heard") from None
        self._lent_out += 1
        try:
            yield conn
        finally:
            self._lent_out -= 1
            await self._pool.putconn(conn)

    @asynccontextmanager
    async def _at_once(self) -> AsyncIterator[Connection]:
        conn = await _alive(self._apart, self._settings.stint_connect_seconds)
        try:
            yield conn
        finally:
            await self._apart.putconn(conn)

    @asynccontextmanager
    async def long_connection(self) -> AsyncIterator[Connection]:
        """One connection for a request of many transactions: at most a quarter of all are lent so, and who waits for a turn
        holds none, so that short requests go on meanwhile. Raises Unavailable when the turn does not come."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._long_turns.acquire()
        except TimeoutError:
            raise Unavailable("Very much is being synchronized just now; send the same again in a moment.") from None
        try:
            async with self.connection() as conn:
                yield conn
        finally:
            self._long_turns.release()

    @asynccontextmanager
    async def transaction(self, *, patient: bool = True) -> AsyncIterator[Connection]:
        """One connection inside a transaction: committed at the end, rolled back on any exception."""
        async with self.connection(patient=patient) as conn, conn.transaction():
            yield conn

    async def promptly(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a short piece of work, or PoolTimeout within two seconds even when Postgres is frozen: a time limit
        that the server keeps does not help then, and cancelling waits for it, too."""
        task = asyncio.create_task(work)
        done, _ = await asyncio.wait({task}, timeout=self._prompt_seconds)
        if not done:
            task.cancel()
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise PoolTimeout("Postgres does not answer")
        return task.result()

    def _replace_the_dead(self) -> None:
        # a restarted Postgres leaves every idle connection dead: find out at once instead of one request after another
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())

    async def _check(self) -> None:
        await asyncio.gather(self._pool.check(), self._apart.check())


async def _alive(pool: AsyncConnectionPool[Connection], seconds: float) -> Connection:
    """One that is alive, as far as is known: those that were idle when Postgres was restarted are nobody's failure. Raises
    PoolTimeout."""
    ends = time.monotonic() + seconds
    conn = await pool.getconn(seconds)
    while conn.closed or conn.is_cut():
        await conn.close()
        await asyncio.shield(pool.putconn(conn))  # which makes another in its place; a wait cut short must not lose that
        conn = await pool.getconn(max(0.01, ends - time.monotonic()))
    return conn


async def one_json(conn: Connection, query: str, parameters: Any = None) -> bytes | None:
    """The first row's first column as the bytes that Postgres sent, or None: for JSON that only passes through."""
    async with conn.cursor(binary=True) as cursor:
        await cursor.execute(query.encode(), parameters)  # bytes: the text is ours, the parameters are bound
        result = cursor.pgresult
        return bytes(value) if result and result.ntuples and (value := result.get_value(0, 0)) is not None else None
