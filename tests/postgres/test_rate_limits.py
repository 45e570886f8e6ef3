"""Rate limits are exact, also for requests at the same time: they are rows in Postgres."""

import asyncio
from datetime import datetime

import pytest

from schemas import rate_limits
from schemas.errors import RateLimited
from schemas.postgres.connection import Connection
from schemas.rate_limits import Limit, rate_limited
from tests.outbox.rows import over
from tests.support.installation import new_database

HOURLY = Limit("hourly", burst=3, seconds=3600)


@pytest.fixture(scope="module")
def url(database_url: str) -> str:
    return new_database(database_url)


def test_a_burst_is_allowed_and_no_use_more(url: str) -> None:
    async def use(conn: Connection) -> list[bool]:
        return [await rate_limits.try_consume(conn, HOURLY, "burst") for _ in range(5)]

    assert over(url, use) == [True, True, True, False, False]


def test_a_refused_use_says_when_to_try_again_and_counts_nothing(url: str) -> None:
    async def use(conn: Connection) -> list[int]:
        for _ in range(3):
            await rate_limits.consume(conn, HOURLY, "refused")
        seconds = []
        for _ in range(2):
            with pytest.raises(RateLimited) as refused:
                await rate_limits.consume(conn, HOURLY, "refused")
            seconds.append(refused.value.seconds)
        return seconds

    for seconds in over(url, use):
        assert 3590 < seconds <= 3600


def test_one_use_is_free_again_after_its_time(url: str) -> None:
    async def use(conn: Connection) -> list[bool]:
        for _ in range(3):
            await rate_limits.consume(conn, HOURLY, "later")
        await conn.execute("UPDATE rate_limits SET refilled_at = refilled_at - interval '1 hour' WHERE key LIKE '%later'")
        return [await rate_limits.try_consume(conn, HOURLY, "later") for _ in range(2)]

    assert over(url, use) == [True, False]


def test_each_key_and_each_limit_has_its_own_uses(url: str) -> None:
    async def use(conn: Connection) -> list[bool]:
        for _ in range(3):
            await rate_limits.consume(conn, HOURLY, "one")
        other = Limit("other", burst=1, seconds=60)
        return [
            await rate_limits.try_consume(conn, HOURLY, "two"),
            await rate_limits.try_consume(conn, other, "one"),
            await rate_limits.try_consume(conn, HOURLY, "one"),
        ]

    assert over(url, use) == [True, True, False]


def test_uses_at_the_same_time_do_not_exceed_the_burst(url: str) -> None:
    """The second one passes the first check, waits for the row, and finds the last use taken."""

    async def use(conn: Connection) -> bool:
        for _ in range(2):
            await rate_limits.consume(conn, HOURLY, "together")
        async with await Connection.connect(url, autocommit=True) as other:
            async with other.transaction():
                await rate_limits.consume(other, HOURLY, "together")
                waiting = asyncio.ensure_future(rate_limits.try_consume(conn, HOURLY, "together"))
                await asyncio.sleep(0.2)
                assert not waiting.done()
            return await waiting

    assert over(url, use) is False


def test_reserved_times_are_one_interval_apart(url: str) -> None:
    async def reserve(conn: Connection) -> list[datetime]:
        return [await rate_limits.reserve(conn, HOURLY, "slots") for _ in range(3)]

    first, second, third = over(url, reserve)
    assert round((second - first).total_seconds()) == round((third - second).total_seconds()) == 3600


@pytest.mark.parametrize(("pauses", "expected"), [((60, 5), 60), ((5, 60), 60)])
def test_the_longest_pause_counts(pauses: tuple[int, int], expected: int, url: str) -> None:
    limit = Limit(f"paused-{pauses}", burst=1, seconds=1)

    async def pause(conn: Connection) -> float:
        for seconds in pauses:
            await rate_limits.pause(conn, limit, seconds=seconds)
        wait = "SELECT extract(epoch FROM refilled_at - clock_timestamp())::float FROM rate_limits WHERE key = %s"
        return float(await conn.value(wait, (f"{limit.name}:",)))

    assert expected - 2 < over(url, pause) <= expected


def test_a_pause_stops_a_burst_too(url: str) -> None:
    limit = Limit("paused-burst", burst=60, seconds=0.6)

    async def refused(conn: Connection) -> int:
        await rate_limits.pause(conn, limit, seconds=30)
        with pytest.raises(RateLimited) as raised:
            await rate_limits.consume(conn, limit)
        return raised.value.seconds

    assert over(url, refused) in (29, 30)


@pytest.mark.parametrize(("seconds", "wait"), [(1, "1 second"), (119, "119 seconds"), (121, "3 minutes")])
def test_the_error_says_when_to_try_again(seconds: int, wait: str) -> None:
    assert rate_limited(seconds).detail.endswith(f"try again in {wait}.")
