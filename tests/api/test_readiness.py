"""Many probes at once: they share one check of Postgres, and see soon whether it is there."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.faults.proxy import Proxy, target_of, through
from tests.support.installation import Installation, eventually

PROBES = 40


def test_a_flood_of_probes_takes_one_connection(own: Installation) -> None:
    own.start("api").wait_until_ready()
    with ThreadPoolExecutor(PROBES) as pool, own.sql() as conn:
        with conn.transaction():
            conn.execute("LOCK TABLE migrations IN ACCESS EXCLUSIVE MODE")
            time.sleep(1)  # the last result is not used any more
            probes = [pool.submit(httpx2.get, f"{own.url}/health/ready", timeout=20) for _ in range(PROBES)]
            eventually(own.blocked, why="a check waits for the lock")
            counts = set()
            while not all(probe.done() for probe in probes):
                counts.add(own.blocked())
                time.sleep(0.05)
        assert max(counts) == 1
        assert {probe.result().status_code for probe in probes} == {503}
    eventually(lambda: httpx2.get(f"{own.url}/health/ready").status_code == 200, seconds=3, why="the next check")


def test_probes_see_within_about_two_seconds_that_postgres_is_away_and_that_it_is_back(own: Installation) -> None:
    proxy = Proxy(target_of(own.database_url)).start()
    own.environment["DATABASE_URL"] = through(proxy, own.database_url)
    try:
        own.start("api").wait_until_ready()
        for fail in (proxy.blackhole, proxy.refuse):
            seconds_until(own, 200)
            fail()
            assert seconds_until(own, 503) < 3
            proxy.heal()
        seconds_until(own, 200)
    finally:
        own.stop()
        proxy.stop()


@pytest.mark.slow
def test_an_api_is_ready_soon_after_a_long_time_without_postgres(own: Installation) -> None:
    proxy = Proxy(target_of(own.database_url)).start()
    own.environment["DATABASE_URL"] = through(proxy, own.database_url)
    try:
        own.start("api").wait_until_ready()
        proxy.refuse()
        seconds_until(own, 503)
        time.sleep(18)  # attempts with doubled pauses between them would be 1, 2, 4, 8 and 16 s apart
        proxy.heal()
        assert seconds_until(own, 200) < 5
    finally:
        own.stop()
        proxy.stop()


def seconds_until(api: Installation, status: int) -> float:
    began = time.monotonic()
    eventually(lambda: httpx2.get(f"{api.url}/health/ready", timeout=10).status_code == status, seconds=10, why=f"{status}")
    return time.monotonic() - began
