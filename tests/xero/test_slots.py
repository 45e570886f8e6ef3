"""Xero's rate limits, call by call: each has a slot, and counts until a minute and a day after its end."""

import asyncio
from typing import Any
from uuid import UUID

from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.xero import rate_limits
from schemas.xero.client_errors import RateLimited
from schemas.xero.rate_limits import NoSlot
from tests.outbox.rows import connected, over

TENANT = "tenant"


def settings(**more: Any) -> Settings:
    limits = {"xero_calls_at_once": 3, "xero_calls_per_minute": 6, "xero_calls_per_day": 50} | more
    return Settings(database_url="", secret_key="0123456789abcdef", **limits)


async def begin(
    conn: Connection, *, seconds: float = 10, known: Settings | None = None, skip_queue: bool = True
) -> UUID | NoSlot:
    await conn.execute("INSERT INTO xero_tenants (tenant_id) VALUES (%s) ON CONFLICT DO NOTHING", (TENANT,))
    async with conn.transaction():
        return await rate_limits.acquire(conn, TENANT, known or settings(), seconds=seconds, skip_queue=skip_queue)


async def begin_and_end(conn: Connection, known: Settings | None = None) -> bool:
    slot = await begin(conn, known=known)
    if isinstance(slot, NoSlot):
        return False
    await rate_limits.release(conn, slot)
    return True


async def later(conn: Connection, interval: str) -> None:
    """As if everything had happened that much earlier."""
    await conn.execute("UPDATE xero_calls SET ends_at = ends_at - %s::interval", (interval,))
    await conn.execute("UPDATE xero_tenants SET paused_until = paused_until - %s::interval", (interval,))
    await conn.execute("UPDATE xero_tenants SET reserved_until = reserved_until - %s::interval", (interval,))


def test_no_more_calls_run_at_once_than_xero_allows(url: str) -> None:
    async def call(conn: Connection) -> list[bool]:
        slots = [await begin(conn) for _ in range(4)]
        running = [isinstance(slot, UUID) for slot in slots]
        assert isinstance(slots[0], UUID)
        await rate_limits.release(conn, slots[0])
        return [*running, isinstance(await begin(conn), UUID), isinstance(await begin(conn), UUID)]

    assert over(url, call) == [True, True, True, False, True, False]


def test_a_call_counts_for_a_minute_from_its_end(url: str) -> None:
    async def call(conn: Connection) -> list[bool]:
        six = [await begin_and_end(conn) for _ in range(7)]
        await later(conn, "59 seconds")
        just_before = await begin_and_end(conn)
        await later(conn, "2 seconds")
        return [*six, just_before, await begin_and_end(conn)]

    assert over(url, call) == [*[True] * 6, False, False, True]


def test_a_call_that_was_never_ended_counts_from_its_deadline(url: str) -> None:
    async def call(conn: Connection) -> list[bool]:
        known = settings(xero_calls_per_minute=1)
        first = await begin(conn, seconds=30, known=known)
        await later(conn, "61 seconds")
        before = await begin(conn, known=known)
        await later(conn, "30 seconds")
        return [isinstance(slot, UUID) for slot in (first, before, await begin(conn, known=known))]

    assert over(url, call) == [True, False, True]


def test_a_call_counts_for_a_day(url: str) -> None:
    async def call(conn: Connection) -> list[bool]:
        known = settings(xero_calls_per_day=2)
        found = []
        for interval in ("2 minutes", "2 minutes", "23 hours 50 minutes", "20 minutes"):
            found.append(await begin_and_end(conn, known))
            await later(conn, interval)
        return [*found, await begin_and_end(conn, known)]

    assert over(url, call) == [True, True, False, False, True]


def test_a_pause_stops_all_calls_and_is_not_shortened(url: str) -> None:
    async def call(conn: Connection) -> list[bool]:
        await begin_and_end(conn)
        await rate_limits.pause(conn, TENANT, RateLimited("day", seconds=100, limit="day"))
        await rate_limits.pause(conn, TENANT, RateLimited("minute", seconds=5, limit="minute"))
        found = []
        for interval in ("0 seconds", "50 seconds", "51 seconds"):
            await later(conn, interval)
            found.append(await begin_and_end(conn))
        return found

    assert over(url, call) == [False, False, True]


def test_calls_of_another_organisation_do_not_count(url: str) -> None:
    async def call(conn: Connection) -> bool:
        for _ in range(6):
            await begin_and_end(conn)
        await conn.execute("INSERT INTO xero_tenants (tenant_id) VALUES ('other')")
        slot = await rate_limits.acquire(conn, "other", settings(), seconds=1)
        return isinstance(slot, UUID)

    assert over(url, call) is True


def test_waiting_callers_get_one_slot_after_the_other_and_new_ones_come_behind_them(url: str) -> None:
    async def call(conn: Connection) -> tuple[list[float], bool]:
        for _ in range(6):
            await begin_and_end(conn)
        waits = [await begin(conn, skip_queue=False) for _ in range(3)]
        await later(conn, "61 seconds")
        newcomer = await begin(conn, skip_queue=False)
        return [wait.seconds for wait in waits if isinstance(wait, NoSlot)], isinstance(newcomer, NoSlot)

    (first, second, third), newcomer_waits = over(url, call)
    assert 60 < first < 75 and round(second - first) == round(third - second) == 10
    assert newcomer_waits


def test_two_callers_wait_for_each_other(url: str) -> None:
    """Each counts the other's call."""

    async def call(conn: Connection) -> list[bool]:
        known = settings(xero_calls_at_once=1)
        await begin_and_end(conn)
        async with connected(url) as other:
            async with other.transaction():
                first = await rate_limits.acquire(other, TENANT, known, seconds=10)
                waiting = asyncio.ensure_future(begin(conn, known=known))
                await asyncio.sleep(0.1)
                assert not waiting.done()
            return [isinstance(slot, UUID) for slot in (first, await waiting)]

    assert over(url, call) == [True, False]
