"""Tokens as `./stint token` prints them, without a process, and with one connection for all tokens of an installation."""

import asyncio
import weakref
from contextlib import suppress

import psycopg

from schemas.identity import local_accounts
from schemas.identity.local_accounts import NewAccount
from schemas.postgres.connection import Connection, connect, wait_for_leases
from schemas.settings import Settings
from tests.support.apart import run_apart


class Tokens:
    """Issues the tokens of one installation. The connection is made with the first one, and again when it was lost."""

    def __init__(self) -> None:
        self._conn: Connection | None = None
        self._url = ""
        self._one_issues = asyncio.Lock()

    def issue(self, new: NewAccount, settings: Settings) -> str:
        """A token for the user with that address, who is created if there is none."""
        return run_apart(self._issue(new, settings))

    def close(self) -> None:
        if self._conn is not None:
            self._conn.pgconn.finish()
            self._conn = None

    async def _issue(self, new: NewAccount, settings: Settings) -> str:
        async with self._one_issues:
            if self._conn is not None and self._url == settings.database_url:
                with suppress(psycopg.OperationalError):  # lost since the last token
                    return await self._issue_over(self._conn, new, settings)
            self.close()
            self._conn, self._url = await connect(settings), settings.database_url
            weakref.finalize(self, self._conn.pgconn.finish)
            return await self._issue_over(self._conn, new, settings)

    async def _issue_over(self, conn: Connection, new: NewAccount, settings: Settings) -> str:
        async with conn.transaction():
            token = await local_accounts.issue_token(conn, new, settings)
        if conn.take_must_wait():
            await wait_for_leases()
        return token
