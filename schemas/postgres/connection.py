"""Connections to Postgres: one class (async, autocommit), with time limits on statements, locks and idle transactions.

Functions of `schemas/` take `conn` first and never commit: the caller owns the transaction (`async with conn.transaction()`).
"""

import asyncio
import os
import select
import socket
import struct
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar, overload
from weakref import ref

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.abc import Params, PQGen
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row
from psycopg_pool import PoolClosed, PoolTimeout

from schemas import tracing
from schemas.servers.postgres_hosts import Host, hosts_of
from schemas.servers.postgres_refusals import WRITES_REFUSED, refuses_writes
from schemas.settings import Settings

MARGIN_SECONDS = 3.0  # added to the statement timeout, for the network
STANDBY_WAIT = "SyncRepWaitForLSN"  # the function of Postgres that warns of it; the warning itself is in the server's language
ACCESS_CHANGED = "ST001"  # the SQLSTATE by which a trigger reports it: schemas/migrations/0035_report_access_changes.sql
LEASE_SECONDS = 1.0  # how long after a commit that changes access an API process may still use what it read before
# How the kernel closes a socket (SO_LINGER), also that of a killed process. Otherwise it continues to send what was written:
# what was answered with 503 during an interruption of the network would be executed after it, perhaps behind newer statements.
_RESET, _IN_ORDER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)

Result = TypeVar("Result")
Model = TypeVar("Model")


class Connection(AsyncConnection[tuple[Any, ...]]):
    """A connection that aborts itself if Postgres does not answer within `answer_timeout_seconds`.

    The timeouts of TCP are not enough. A proxy, for example, may have lost the server and still acknowledge packets.
    """

    answer_timeout_seconds = 30 + MARGIN_SECONDS
    access_changed = False  # whether a statement has changed what requests are authorized by, and nobody has waited for it yet
    # Whether a statement has found that another transaction has made such a change: perhaps just now, and the client
    # that made it still waits. A rollback does not undo that.
    access_changed_before = False
    # Whether the current statement has committed, and somebody cancelled its wait for the synchronous standby.
    _is_unreplicated = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._close_with(_RESET)
        self.add_notice_handler(partial(_read_notice, ref(self)))  # a reference to itself would keep it until a collection

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """psycopg's `connect`. Of several hosts, it first tries those that could be used lately.

        Raises psycopg.OperationalError if no host can be used, and its subclass ConnectionTimeout if none answers.
        """
        known = hosts_of(conninfo)
        in_order = await known.in_order()
        if not in_order:
            return await super().connect(conninfo, **options)
        failures: list[psycopg.OperationalError] = []
        for host in in_order:
            try:
                conn = await super().connect(conninfo, **options | known.options() | host.options())
            except psycopg.OperationalError as error:
                known.failures.failed(host)
                failures.append(error)
            else:
                known.failures.worked(host)
                return conn
        silent = all(isinstance(failure, psycopg.errors.ConnectionTimeout) for failure in failures)
        error_class = psycopg.errors.ConnectionTimeout if silent else psycopg.OperationalError
        raise error_class("; ".join(_describe(*pair) for pair in zip(in_order, failures, strict=True)))

    def take_must_wait(self) -> bool:
        """Whether `wait_for_leases` is needed before anybody is answered. False afterwards."""
        must_wait = self.access_changed or self.access_changed_before
        self.access_changed = self.access_changed_before = False
        return must_wait

    async def __aexit__(self, *raised: Any) -> None:
        """Closes the connection. After a change of access it also waits for the leases (`wait_for_leases`)."""
        await super().__aexit__(*raised)
        if self.take_must_wait():
            await wait_for_leases()

    async def wait(self, gen: PQGen[Result], *arguments: Any, **named: Any) -> Result:
        timer = asyncio.get_running_loop().call_later(self.answer_timeout_seconds, self.abort)
        self._is_unreplicated = False
        try:
            result = await super().wait(gen, *arguments, **named)
        finally:
            timer.cancel()
        if self._is_unreplicated:  # Postgres reports success, with a warning
            self.abort()
            raise psycopg.OperationalError("the wait for the synchronous standby was cancelled, which may not have the commit")
        return result

    async def execute(  # type: ignore[override]  # psycopg accepts more types of query, which Stint does not use
        self, query: str | bytes, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> AsyncCursor[tuple[Any, ...]]:
        """psycopg's `execute`, which here accepts SQL that was composed at run time, too.

        Compose SQL only of Stint's own text, and never of a client's. Values are always bound as `params`.
        """
        return await super().execute(_as_query(query), params, prepare=prepare, binary=binary)

    async def close(self) -> None:
        """psycopg's `close`. It does not suspend. While a statement has no answer, what was not sent of it is discarded."""
        if self.pgconn.transaction_status not in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN):
            self._close_with(_IN_ORDER)
        await super().close()

    def _close_with(self, linger: bytes) -> None:
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(self.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    @overload
    async def all(self, query: str | bytes, params: Params | None = None) -> list[tuple[Any, ...]]: ...
    @overload
    async def all(self, query: str | bytes, params: Params | None = None, *, row: type[Model]) -> list[Model]: ...
    async def all(self, query: str | bytes, params: Params | None = None, *, row: type[Any] | None = None) -> list[Any]:
        """All rows as tuples. With `row`, as instances of this class, whose fields have the names of the columns."""
        return await (await self._rows(query, params, row)).fetchall()

    @overload
    async def maybe(self, query: str | bytes, params: Params | None = None) -> tuple[Any, ...] | None: ...
    @overload
    async def maybe(self, query: str | bytes, params: Params | None = None, *, row: type[Model]) -> Model | None: ...
    async def maybe(self, query: str | bytes, params: Params | None = None, *, row: type[Any] | None = None) -> Any | None:
        """The first row, or None. `row` as in `all`."""
        return await (await self._rows(query, params, row)).fetchone()

    @overload
    async def one(self, query: str | bytes, params: Params | None = None) -> tuple[Any, ...]: ...
    @overload
    async def one(self, query: str | bytes, params: Params | None = None, *, row: type[Model]) -> Model: ...
    async def one(self, query: str | bytes, params: Params | None = None, *, row: type[Any] | None = None) -> Any:
        """The first row of a statement that always returns one. `row` as in `all`. Raises RuntimeError if there is no row."""
        first = await (await self._rows(query, params, row)).fetchone()
        if first is None:
            raise RuntimeError("the statement returned no row, and must return one; use maybe() if it may return none")
        return first

    async def value(self, query: str | bytes, params: Params | None = None) -> Any:
        """The first column of the first row; None if there is no row."""
        first = await (await self.execute(query, params)).fetchone()
        return None if first is None else first[0]

    async def values(self, query: str | bytes, params: Params | None = None) -> list[Any]:
        """The first column of all rows."""
        return [first for first, *_ in await (await self.execute(query, params)).fetchall()]

    async def _rows(self, query: str | bytes, params: Params | None, row: type[Any] | None) -> AsyncCursor[Any]:
        if row is None:
            return await self.execute(query, params)
        cursor = self.cursor(row_factory=class_row(row))
        return await cursor.execute(_as_query(query), params)

    def abort(self) -> None:
        """Reads nothing more. A statement that waits for an answer raises psycopg.OperationalError immediately."""
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(self.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RD)  # not for writing, which would send the rest; the close resets the connection

    def is_closed_by_server(self) -> bool:
        """Whether the kernel knows that the server has closed the connection: an idle socket becomes readable then."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))


def _describe(host: Host, failure: Exception) -> str:
    return f"{host.name}{f' ({host.address})' if host.address else ''}: {' '.join(str(failure).split())}"


def _read_notice(conn: "ref[Connection]", notice: Diagnostic) -> None:
    if (found := conn()) is None:
        return
    if notice.sqlstate == ACCESS_CHANGED:
        found.access_changed = True
    elif notice.source_function == STANDBY_WAIT:
        found._is_unreplicated = True


def _as_query(query: str | bytes) -> bytes:
    return query if isinstance(query, bytes) else query.encode()  # psycopg's types accept str only as a literal


class PoolBusy(PoolTimeout):
    """All connections of this process are in use, and Postgres answers: waiting helps soon."""


# Errors that mean that Postgres is not reachable, or stores nothing: waiting may help. Some subclasses of OperationalError mean
# something else; see STATEMENT_FAILED.
UNREACHABLE: tuple[type[Exception], ...] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    PoolClosed,
    *WRITES_REFUSED,
)
# Errors of one statement: a timeout, a lock, a deadlock, a limit. Postgres is reachable.
STATEMENT_FAILED: tuple[type[Exception], ...] = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ProgramLimitExceeded,
)


def is_unreachable(error: BaseException) -> bool:
    """Whether the error means that Postgres is not reachable or stores nothing, and not that a statement failed."""
    return (isinstance(error, UNREACHABLE) and not isinstance(error, STATEMENT_FAILED)) or refuses_writes(error)


# psycopg's keyword arguments for each connection
CONNECTION_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": 1,
    "connect_timeout": 5,
    "application_name": "stint",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


async def begin_session(conn: Connection, settings: Settings, **more: int) -> None:
    """Limits how long a new connection keeps its locks, even if its process hangs or its machine is gone. Also sets `more`.

    It is a statement, because PgBouncer refuses connections with these settings in their startup message.
    """
    conn.answer_timeout_seconds = settings.stint_statement_seconds + MARGIN_SECONDS
    milliseconds = int(settings.stint_statement_seconds * 1000)
    session = {
        "timezone": "UTC",
        "stint.long_seconds": settings.stint_long_hours * 3600,  # for the trigger that sets the flags of time entries
        "statement_timeout": milliseconds,
        "lock_timeout": min(10_000, milliseconds),
        # a process that is frozen inside a transaction loses it, instead of keeping its locks
        "idle_in_transaction_session_timeout": 15_000,
        "client_connection_check_interval": 2_000,
        # the server's side: the locks of a client that is gone are released within seconds
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        **more,
    }
    await conn.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS settings (name, value)",
        (list(session), [str(value) for value in session.values()]),
        prepare=False,
    )


async def connect(settings: Settings) -> Connection:
    """A connection outside the pool, for a worker thread or a command. Raises psycopg.OperationalError if Postgres is away."""
    conn = await Connection.connect(settings.database_url, **CONNECTION_OPTIONS)
    try:
        await begin_session(conn, settings)
    except BaseException:
        await conn.close()  # it does not suspend
        raise
    return conn


async def trace(conn: Connection) -> None:
    """Sets the trace of the messages that this session writes to the present span. Without traces it executes no statement."""
    if tracing.is_on():
        await conn.execute("SELECT set_config('stint.traceparent', %s, false)", (tracing.traceparent() or "",))


async def wait_for_leases() -> None:
    """Waits until no API process uses what it has read of users and customers before now.

    Call it after a change of access was committed, or was found to be committed, and before the request is answered. The end of
    a block with a connection of `connect`, or of `Database`, calls it.
    """
    await asyncio.sleep(LEASE_SECONDS)


async def one_json(conn: Connection, query: str, parameters: Any = None, *, prepare: bool | None = None) -> bytes | None:
    """The first column of the first row as the bytes that Postgres has sent, or None. For JSON that is not parsed here."""
    async with conn.cursor(binary=True) as cursor:
        await cursor.execute(_as_query(query), parameters, prepare=prepare)
        result = cursor.pgresult
        return bytes(value) if result and result.ntuples and (value := result.get_value(0, 0)) is not None else None
