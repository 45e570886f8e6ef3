"""What handlers did is counted through outages of Postgres, too."""

import asyncio

import psycopg
import pytest

from actors import heart
from schemas.database import connect
from schemas.heartbeats import Tally
from schemas.settings import Settings
from tests.installation import SECRET_KEY, Installation


def test_what_was_counted_during_an_outage_is_written_down_after_it(stint: Installation) -> None:
    known = Settings(database_url=stint.environment["DATABASE_URL"], secret_key=SECRET_KEY)
    tally = Tally()

    async def beats() -> None:
        tally["probe"].add(0.002, well=True)
        conn = await connect(known)
        await conn.close()
        with pytest.raises(psycopg.OperationalError):
            await heart.write_down(conn, tally)
        tally["probe"].add(0.3, well=False)
        async with await connect(known) as conn:
            await heart.write_down(conn, tally)

    asyncio.run(beats())

    [(handled, failed, buckets)] = stint.rows("SELECT handled, failed, buckets FROM handler_totals WHERE actor = 'probe'")
    assert (handled, failed, buckets[0], buckets[-1]) == (1, 1, 1, 2)
    assert not tally
