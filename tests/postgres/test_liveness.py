"""Whether Postgres answers, as far as one process can tell."""

import asyncio
import time
from weakref import WeakSet

from pydantic import SecretStr

from ops.up.processes import until
from schemas.postgres.connection import connect
from schemas.postgres.liveness import LivenessMonitor
from schemas.settings import Settings

WINDOW_SECONDS, STALL_SECONDS = 0.8, 1.5


def test_a_process_that_is_busy_itself_does_not_take_postgres_for_unreachable(database_url: str) -> None:
    settings = Settings(database_url=database_url, amqp_url="", secret_key=SecretStr("x" * 32))

    async def check() -> None:
        monitor = LivenessMonitor(lambda: connect(settings), WeakSet(), any_checked_out=lambda: False)
        monitor.open()
        try:
            with monitor.asking():
                await until(lambda: monitor.answered_since(time.monotonic() - WINDOW_SECONDS))
                time.sleep(STALL_SECONDS)  # noqa: ASYNC251 - the event loop is as busy as one that computes
                assert monitor.answered_since(time.monotonic() - WINDOW_SECONDS)
        finally:
            await monitor.close()

    asyncio.run(check())
