"""Databases of one server: a new one beside the database of DATABASE_URL, and its change of place with that."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ops.errors import CommandError
from schemas.postgres.connection import Connection

LONGEST_NAME = 63 - 30  # of Postgres's names, less what is added here
SWITCH_SECONDS = 60.0
FIRST_ID = 16_384  # of what was not made by initdb
MARK = "made by ./stint restore, which deletes it or puts it in its place"  # the comment on a new database


class Server:
    """The server of a database, and a connection to another database of it."""

    def __init__(self, conn: Connection, database_url: str) -> None:
        self.conn = conn
        self._url = database_url
        self.database = name_of(database_url)

    def url_of(self, database: str) -> str:
        return make_conninfo(self._url, dbname=database)

    async def exists(self, database: str) -> bool:
        return await self.conn.maybe("SELECT 1 FROM pg_database WHERE datname = %s", (database,)) is not None

    async def foreign_owner(self) -> str | None:
        """The owner of the database, unless this role has an owner's rights. None also if there is no database."""
        found: str | None = await self.conn.value(
            """
            SELECT (SELECT pg_get_userbyid(datdba)::text FROM pg_database
                    WHERE datname = %s AND NOT pg_has_role(datdba, 'USAGE'))
            """,
            (self.database,),
        )
        return found

    async def is_empty(self, database: str) -> bool:
        """Whether the database has no tables, in no schema, or does not exist."""
        if not await self.exists(database):
            return True
        async with self._connected(database) as conn:
            return await conn.maybe("SELECT FROM pg_class WHERE oid >= %s", (FIRST_ID,)) is None

    @asynccontextmanager
    async def new_database(self, suffix: str) -> AsyncIterator[str]:
        """The name of a new, empty database with the encoding and the locale of the present one. At the end it is deleted,
        unless it has another name then."""
        name = f"{self.database[:LONGEST_NAME]}_{suffix}"
        await self._drop_leftovers()
        await self._lock(name)
        try:
            await self._run("CREATE DATABASE {} TEMPLATE template0", name, await self._locale())
            await self._run("COMMENT ON DATABASE {} IS", name, sql.Literal(MARK))
        except psycopg.errors.InsufficientPrivilege as error:
            raise CommandError(
                "The role of DATABASE_URL may not create databases, and a restore needs a second one: ALTER ROLE … CREATEDB "
                f"({error})."
            ) from error
        try:
            yield name
        finally:
            await asyncio.shield(self.drop(name))

    async def drop(self, name: str) -> None:
        await self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    async def put_in_place(self, new: str, at: datetime) -> str | None:
        """Gives the database its place: other processes find it under the name of the present one at their next connection.
        Returns under which name the present one is kept; None: there was none."""
        if not await self.exists(self.database):
            async with self.conn.transaction():
                await self._put(new)
            return None
        kept = f"{self.database[:LONGEST_NAME]}_before_{at:%Y%m%dT%H%M%S}"
        async with self._without_sessions(new, self.database):
            await self._rename_both(new, kept)
        await self._end_epoch(kept)
        return kept

    async def _put(self, new: str) -> None:
        await self._run("COMMENT ON DATABASE {} IS NULL", new)
        await self._run("ALTER DATABASE {} RENAME TO {}", new, self.database)

    async def _drop_leftovers(self) -> None:
        """Deletes the databases of restores that were killed: nobody holds their locks, and nobody is connected to them. Of one
        that this role may not delete it says so."""
        found = await self.conn.values(
            """
            SELECT datname::text FROM pg_database d
            WHERE shobj_description(oid, 'pg_database') = %s AND starts_with(datname, %s) ORDER BY datname
            """,
            (MARK, f"{self.database[:LONGEST_NAME]}_"),
        )
        for name in found:
            if not await self._lock(name):
                continue  # a restore runs
            try:
                await self._run("DROP DATABASE {}", name)
            except psycopg.errors.ObjectInUse:  # pg_restore may outlive the command for a while
                continue
            except psycopg.errors.InsufficientPrivilege:
                print(f'stint: a restore that was killed has left the database {name}: DROP DATABASE "{name}"', file=sys.stderr)
            else:
                print(f"stint: deleted the database {name}, which a restore has left that was killed", file=sys.stderr)

    async def _lock(self, name: str) -> bool:
        """Whether this connection has the new database of that name for itself, until it ends."""
        has: bool = await self.conn.value("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,))
        return has

    async def _end_epoch(self, database: str) -> None:
        """If the database gets its name back, clients and Xero have seen another one meanwhile: without the marker it begins a
        sync epoch then (decision 23)."""
        async with self._connected(database) as conn:
            if await conn.value("SELECT to_regclass('sync_epoch_marker') IS NOT NULL"):
                await conn.execute("DELETE FROM sync_epoch_marker")

    async def _rename_both(self, new: str, kept: str) -> None:
        """A rename lets nobody connect, and waits some seconds until nobody is connected."""
        ends = asyncio.get_running_loop().time() + SWITCH_SECONDS
        while True:
            try:
                async with self.conn.transaction():
                    await self._run("ALTER DATABASE {} RENAME TO {}", self.database, kept)
                    await self._put(new)
                return
            except psycopg.errors.ObjectInUse as error:
                if asyncio.get_running_loop().time() > ends:
                    raise CommandError(f"Nothing was replaced: {error}. Stop what is connected, and try again.") from error

    @asynccontextmanager
    async def _without_sessions(self, *databases: str) -> AsyncIterator[None]:
        """Ends the sessions of these databases again and again, if this role may end them. Autovacuum, which belongs to no
        role, is ended by a rename itself."""
        async with self._connected(self.conn.info.dbname) as conn:

            async def end_sessions() -> None:
                while True:
                    await conn.execute(
                        """
                        SELECT pg_terminate_backend(s.pid) FROM pg_stat_activity s JOIN pg_roles r ON r.oid = s.usesysid
                        WHERE s.datname = ANY(%s) AND (
                            pg_has_role(r.oid, 'USAGE') OR (pg_has_role('pg_signal_backend', 'USAGE') AND NOT r.rolsuper))
                        """,
                        (list(databases),),
                    )
                    await asyncio.sleep(0.2)

            ending = asyncio.create_task(end_sessions())
            try:
                yield
            finally:
                ending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(ending)

    @asynccontextmanager
    async def _connected(self, database: str) -> AsyncIterator[Connection]:
        async with await Connection.connect(self.url_of(database), autocommit=True, connect_timeout=10) as conn:
            yield conn

    async def _locale(self) -> sql.Composable:
        """The options of CREATE DATABASE for the encoding and locale of the present database; none if it does not exist."""
        row = await self.conn.maybe(
            """
            SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, datlocprovider::text,
                   coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')
            FROM pg_database d WHERE datname = %s
            """,
            (self.database,),
        )
        if row is None:
            return sql.SQL("")
        encoding, collate, ctype, provider, locale = row
        options = sql.SQL(" ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(*map(sql.Literal, (encoding, collate, ctype)))
        if provider == "b":
            options += sql.SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(sql.Literal(locale))
        if provider == "i":
            options += sql.SQL(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(locale))
        return options

    async def _run(self, command: str, *parts: str | sql.Composable) -> None:
        """Runs a command with these names in their places, and other parts at its end."""
        names = [sql.Identifier(part) for part in parts if isinstance(part, str)]
        rest = [part for part in parts if not isinstance(part, str)]
        query = sql.Composed([sql.SQL(command).format(*names), *rest])
        await self.conn.execute(query.as_bytes(self.conn))


def name_of(database_url: str) -> str:
    """The database that a URL names; without one it is called like its user."""
    parameters = conninfo_to_dict(database_url)
    name = parameters.get("dbname") or parameters.get("user")
    if not name:
        raise CommandError("DATABASE_URL names no database.")
    return str(name)


@asynccontextmanager
async def server_of(database_url: str) -> AsyncIterator[Server]:
    """The server of the database, which itself may be lost."""
    other = "postgres" if name_of(database_url) != "postgres" else "template1"
    async with await Connection.connect(make_conninfo(database_url, dbname=other), autocommit=True, connect_timeout=10) as conn:
        conn.answer_timeout_seconds = 3600
        yield Server(conn, database_url)
