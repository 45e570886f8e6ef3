"""Sessions that others wait for: one has locked a table or rows, and its transaction does not end."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.postgres.connection import Connection
from schemas.postgres.server.failures import Failure

LONG_SECONDS = 10.0  # a session that blocks others for longer is reported; Stint's own statements take less
WAITS_FOR_LOCK_SECONDS = 2  # of a command that looks what is wrong


@dataclass(frozen=True)
class Blocker:
    """A session or a prepared transaction that others wait for, `what` in words. `seconds`: for how long its transaction is
    open, or for how long others wait for it, if that is longer. `tables`: those that others wait for; none, if they wait for
    rows. `cure`: what ends it."""

    what: str
    seconds: float
    waiting: int
    tables: str | None
    cure: str

    @property
    def words(self) -> str:
        """Continues a sentence whose subject is Postgres."""
        of = f" of {self.tables}" if self.tables else " of rows"
        return (
            f"is blocked: {self.what} keeps locks{of} for {self.seconds:,.0f} s, and "
            f"{self.waiting} {'session waits' if self.waiting == 1 else 'sessions wait'} for it"
        )


_WHAT = """
    CASE WHEN b.pid IS NULL THEN 'a prepared transaction'
         ELSE 'the process ' || b.pid || ' ('
              || concat_ws(', ', coalesce(nullif(b.application_name, ''), b.usename::text), b.state) || ')'
    END AS what
"""
_CURE = """
    CASE WHEN b.pid IS NULL THEN 'SELECT gid, prepared FROM pg_prepared_xacts shows it; ROLLBACK PREPARED ''GID'' ends it'
         ELSE 'SELECT pg_terminate_backend(' || b.pid || ')'
    END AS cure
"""


async def read(conn: Connection) -> list[Blocker]:
    """Those that sessions of this database wait for now, and that wait for none themselves; the oldest first, three at most."""
    return await conn.all(
        f"""
        WITH waits AS MATERIALIZED (
            SELECT pid, query_start, unnest(pg_blocking_pids(pid)) AS blocker FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
        )
        SELECT {_WHAT},
               greatest(extract(epoch FROM clock_timestamp() - b.xact_start),
                        max(extract(epoch FROM clock_timestamp() - w.query_start)), 0)::float AS seconds,
               count(DISTINCT w.pid) AS waiting,
               (SELECT string_agg(DISTINCT l.relation::regclass::text, ', ') FROM pg_locks l
                WHERE l.pid = ANY(array_agg(w.pid)) AND NOT l.granted AND l.locktype = 'relation') AS tables,
               {_CURE}
        FROM waits w LEFT JOIN pg_stat_activity b ON b.pid = w.blocker
        WHERE w.blocker NOT IN (SELECT pid FROM waits)
        GROUP BY w.blocker, b.pid, b.application_name, b.usename, b.state, b.xact_start
        ORDER BY seconds DESC LIMIT 3
        """,
        row=Blocker,
    )


async def _readers_blocked_by(conn: Connection) -> list[Blocker]:
    """Those that let nobody read a table."""
    return await conn.all(
        f"""
        SELECT {_WHAT}, coalesce(extract(epoch FROM clock_timestamp() - b.xact_start), 0)::float AS seconds, 1 AS waiting,
               string_agg(DISTINCT l.relation::regclass::text, ', ') AS tables, {_CURE}
        FROM pg_locks l LEFT JOIN pg_stat_activity b ON b.pid = l.pid JOIN pg_class c ON c.oid = l.relation
        WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p')
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        GROUP BY b.pid, b.application_name, b.usename, b.state, b.xact_start
        ORDER BY seconds DESC LIMIT 3
        """,
        row=Blocker,
    )


async def failure(conn: Connection) -> Failure:
    """Why a statement could not get its lock within WAITS_FOR_LOCK_SECONDS."""
    found = await read(conn) or await _readers_blocked_by(conn)
    if not found:
        return Failure("is blocked: a table that ./stint doctor reads was locked", "run ./stint doctor again")
    return Failure(found[0].words, cure_of(found[0]))


def cure_of(blocker: Blocker) -> str:
    """What to do about it."""
    return (
        "find out whose it is (pg_stat_activity): a migration, a VACUUM FULL or a REINDEX ends automatically; end what was "
        f"forgotten: {blocker.cure}"
    )


def lines(blockers: Sequence[Blocker]) -> list[str]:
    """The metric, in Prometheus's text format."""
    seconds = max((each.seconds for each in blockers), default=0.0)
    return ["# TYPE stint_postgres_blocked_seconds gauge", f"stint_postgres_blocked_seconds {seconds:.1f}"]
