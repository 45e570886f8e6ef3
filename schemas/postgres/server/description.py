"""The server of Postgres, as a page about it shows it."""

from dataclasses import dataclass

from schemas.postgres.connection import Connection


@dataclass(frozen=True)
class Server:
    """The version of Postgres, and the size of the database in bytes."""

    version: str
    size_bytes: int


async def describe(conn: Connection) -> Server:
    """The server of this connection."""
    return await conn.one(
        """
        SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
               pg_database_size(current_database()) AS size_bytes
        """,
        row=Server,
    )
