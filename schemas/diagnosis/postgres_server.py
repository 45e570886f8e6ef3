"""What keeps Stint from working with a Postgres that lets it in: it stores nothing, or a pooler is in between."""

import psycopg

from schemas.postgres.connection import Connection, connect
from schemas.postgres.server.failures import Failure
from schemas.postgres.server.pooler import is_pooled
from schemas.postgres.server.writes import check_writable
from schemas.settings import Settings

STANDBY_CURE = (
    "if the primary is lost, promote this one (pg_ctl promote); else let DATABASE_URL lead to the primary, and restart Stint; "
    "with several hosts: postgresql://…@one,other/name?target_session_attrs=read-write"
)
# by where default_transaction_read_only is set, as pg_settings.source has it: what ends it, in psql
READ_ONLY_CURES = {
    "database": "ALTER DATABASE {database} RESET default_transaction_read_only",
    "user": "ALTER ROLE {role} RESET default_transaction_read_only",
    "database user": "ALTER ROLE {role} IN DATABASE {database} RESET default_transaction_read_only",
    "configuration file": "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()",
}


async def find_problem(conn: Connection, settings: Settings) -> Failure | None:
    """What is wrong with the server of this connection, and what to do. None if it works."""
    try:
        await check_writable(conn, disk=True)
    except psycopg.errors.ReadOnlySqlTransaction:
        return await _read_only(conn)
    except psycopg.errors.DiskFull:
        return await _full(conn)
    if await is_pooled(lambda: connect(settings)):
        return Failure(
            "is behind a pooler that assigns connections per transaction",
            "set pool_mode = session in the pooler, or let DATABASE_URL lead to Postgres itself, and restart Stint",
        )
    return None


async def _read_only(conn: Connection) -> Failure:
    is_standby, source, database, role = await conn.one(
        """
        SELECT pg_is_in_recovery(), source, quote_ident(current_database()), quote_ident(current_user)
        FROM pg_settings WHERE name = 'default_transaction_read_only'
        """
    )
    if is_standby:
        return Failure("is read-only: it is a standby", STANDBY_CURE)
    state = f"is read-only: default_transaction_read_only is on ({source})"
    if source not in READ_ONLY_CURES:  # the command line of the server, DATABASE_URL, PGOPTIONS
        return Failure(state, "remove default_transaction_read_only there, and restart what has it")
    cure = READ_ONLY_CURES[source].format(database=database, role=role)
    return Failure(
        state,
        "find out why: some services do that when the disk is nearly full. Remove it from postgresql.conf if it is there. "
        f"Then, in psql: SET default_transaction_read_only = off; {cure}",
    )


async def _full(conn: Connection) -> Failure:
    kept = await conn.value(
        """
        SELECT pg_size_pretty(sum(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)))
        FROM pg_replication_slots WHERE NOT active
        """
    )
    where = await conn.value("SELECT current_setting('data_directory', true)") if await _may_see_settings(conn) else None
    slots = f" (replication slots that nobody reads keep {kept} of WAL: pg_drop_replication_slot)" if kept else ""
    return Failure(
        f"has a full disk: no space is left{f' at {where}' if where and not where.startswith('/proc/') else ''}",
        f"free space on that disk{slots}, or enlarge it; if Postgres has ended, start it. Nothing else has to be done",
    )


async def _may_see_settings(conn: Connection) -> bool:
    return bool(await conn.value("SELECT pg_has_role('pg_read_all_settings', 'USAGE')"))
