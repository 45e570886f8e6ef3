"""What a worker and a relay wait for before they begin: a Postgres that has what this version needs."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import psycopg

from schemas.postgres import functions
from schemas.postgres.connection import connect
from schemas.postgres.migrate import pending
from schemas.postgres.server.failures import explain
from schemas.postgres.server.pooler import POOLED, is_pooled
from schemas.postgres.server.writes import check_writable
from schemas.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
LACKS_MIGRATIONS = "the database lacks migrations or SQL functions of this version: run ./stint migrate"


async def find_obstacle(settings: Settings) -> str | None:
    """Why work cannot begin. None if it can: then it is noted that the SQL functions of this version are needed."""
    try:
        async with await connect(settings) as conn:
            if await pending(conn):
                return LACKS_MIGRATIONS
            await check_writable(conn, disk=False)
            with suppress(psycopg.errors.InsufficientPrivilege):  # only their owner may write the comments of functions
                await functions.keep(conn)
        return POOLED if await is_pooled(lambda: connect(settings)) else None
    except psycopg.errors.ReadOnlySqlTransaction:
        return "Postgres is read-only"
    except psycopg.Error as error:
        return f"Postgres {explain(error, settings.database_url).state}"


async def wait_for_database(settings: Settings, is_stopping: Callable[[], bool] = lambda: False) -> bool:
    """True once Postgres has what this version needs, and it is noted that this version's SQL functions are needed. False if
    the process is stopped before that."""
    logged = None
    while (obstacle := await find_obstacle(settings)) is not None and not is_stopping():
        if obstacle != logged:
            logger.warning("waiting: %s", obstacle)
            logged = obstacle
        await asyncio.sleep(LOOK_SECONDS)
    return obstacle is None
