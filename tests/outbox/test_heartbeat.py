"""Handler metrics survive an outage of Postgres."""

import asyncio

import psycopg
import pytest

from actors.runtime import heartbeat
from schemas.outbox.heartbeats import HandlerMetrics
from schemas.postgres.connection import connect
from schemas.settings import Settings
from tests.support.installation import SECRET_KEY, Installation


def test_metrics_that_were_counted_during_an_outage_are_stored_after_it(stint: Installation) -> None:
    known = Settings(database_url=stint.environment["DATABASE_URL"], secret_key=SECRET_KEY)
    metrics = HandlerMetrics()

    async def record_heartbeats() -> None:
        metrics["probe"].add(0.002, succeeded=True)
        conn = await connect(known)
        await conn.close()
        with pytest.raises(psycopg.OperationalError):
            await heartbeat.flush(conn, metrics)
        metrics["probe"].add(0.3, succeeded=False)
        async with await connect(known) as conn:
            await heartbeat.flush(conn, metrics)

    asyncio.run(record_heartbeats())

    [(handled, failed, buckets)] = stint.rows("SELECT handled, failed, buckets FROM handler_totals WHERE actor = 'probe'")
    assert (handled, failed, buckets[0], buckets[-1]) == (1, 1, 1, 2)
    assert not metrics
