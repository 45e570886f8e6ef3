"""Whether the server stores changes now. It may be read-only, for example a standby, or its disk may be full."""

import psycopg

from schemas.postgres.connection import Connection


async def check_writable(conn: Connection, *, disk: bool) -> None:
    """Raises ReadOnlySqlTransaction if Postgres would refuse a write on this connection, and with `disk` also DiskFull. It
    changes nothing: for the disk, Postgres writes about 3 MB of an intermediate result to a file that it deletes at once."""
    if await conn.value("SELECT current_setting('transaction_read_only')::bool"):
        raise psycopg.errors.ReadOnlySqlTransaction("the session is read-only")
    if disk:
        async with conn.transaction():
            await conn.execute("SET LOCAL work_mem = '64kB'")
            await conn.execute("SET LOCAL temp_tablespaces = ''")  # the disk of the database's own files
            await conn.execute("SELECT count(*) FROM generate_series(1, 100000)")
