"""Connects Xero: exchanges the code for tokens, reads the organisations, and stores the connection.

A code works once. So an attempt that has begun continues to its end, even if its request was answered before: the client
polls GET /api/xero/status. A step that fails is tried again as long as Xero may accept the code.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from schemas.errors import Conflict, Invalid, StintError, Unavailable
from schemas.identity.users import User
from schemas.postgres.connection import Connection, is_unreachable
from schemas.postgres.pool import Database
from schemas.settings import Settings
from schemas.xero import connection, oauth
from schemas.xero.client_errors import Refused, XeroError
from schemas.xero.connection import Callback
from schemas.xero.oauth import Organisation, Tokens

Result = TypeVar("Result")

TOTAL_SECONDS = 60.0
CALL_SECONDS = 20.0  # of one call to Xero
RETRY_SECONDS = 1.0
REFUSED = "Xero refused to connect, so it is still connected as before; try again at auth-url in a minute."
TOO_LATE = "Xero did not answer in time, so it is still connected as before; start again at auth-url."
LOST = "The API process that was connecting Xero has ended, so it is still connected as before; start again at auth-url."


async def begin(conn: Connection, callback: Callback, *, by: User) -> UUID:
    """Uses up the state, and returns the id of the new attempt to connect.

    Raises Invalid for a state that is of another user, has expired, or was used before.
    """
    await connection.consume_state(conn, callback.state, by=by)
    attempt_id: UUID = await conn.value(
        """
        UPDATE xero_connection SET connect_attempt_id = gen_random_uuid(), connect_error = NULL,
            connecting_until = clock_timestamp() + make_interval(secs => %s)
        RETURNING connect_attempt_id
        """,
        (TOTAL_SECONDS + RETRY_SECONDS,),
    )
    return attempt_id


async def finish(
    database: Database, settings: Settings, callback: Callback, attempt_id: UUID, *, by: User
) -> StintError | None:
    """Connects the organisation that the code gives access to. Returns None, or why that failed; the status shows this, too.

    - Invalid: Xero does not accept the code, or gives no access to the organisation.
    - Conflict: Xero does not accept this app's credentials.
    - Unavailable: Xero refuses for another reason, or does not answer for TOTAL_SECONDS.
    """
    try:
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                tokens = await _retried(lambda: _exchange(settings, callback.code))
                organisations = await _retried(lambda: _organisations(settings, tokens))
                organisation = connection.choose_organisation(organisations, callback.tenant_id)
                await _retried(lambda: _store(database, settings, tokens, organisation, by=by))
        except TimeoutError:
            raise Unavailable(TOO_LATE, seconds=5) from None
    except StintError as error:
        await _record_error(database, attempt_id, error.detail)
        return error
    return None


async def _retried(work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `work`, which is tried again while Xero or Postgres does not answer."""
    while True:
        try:
            return await work()
        except Exception as error:
            if isinstance(error, Refused) or not (isinstance(error, XeroError) or is_unreachable(error)):
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _exchange(settings: Settings, code: str) -> Tokens:
    try:
        return await oauth.exchange_code(settings, code, seconds=CALL_SECONDS)
    except Refused as error:
        match str(error):
            case "invalid_grant" | "invalid_request":
                raise Invalid("code", "Xero does not accept this code, or no longer; start again at auth-url.") from None
            case "invalid_client" | "unauthorized_client":
                raise Conflict(connection.UNKNOWN_APP) from None
        raise Unavailable(REFUSED, seconds=5) from None  # for example by a proxy


async def _organisations(settings: Settings, tokens: Tokens) -> list[Organisation]:
    try:
        return await oauth.list_organisations(settings, tokens.access, seconds=CALL_SECONDS)
    except Refused:
        raise Unavailable(REFUSED, seconds=5) from None


async def _store(database: Database, settings: Settings, tokens: Tokens, organisation: Organisation, *, by: User) -> None:
    async with database.transaction() as conn:
        await connection.connect(conn, tokens, organisation, by=by, settings=settings)


async def _record_error(database: Database, attempt_id: UUID, error: str) -> None:
    async with database.transaction() as conn:
        await conn.execute(
            """
            UPDATE xero_connection SET connect_attempt_id = NULL, connecting_until = NULL, connect_error = %s
            WHERE connect_attempt_id = %s
            """,
            (error, attempt_id),
        )
