"""A pooler that assigns connections per transaction is refused, with what to do; in session mode Stint works behind it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from schemas.postgres.connection import connect
from schemas.postgres.server.pooler import is_pooled
from tests.support import servers
from tests.support.clusters import Cluster, clusters
from tests.support.given import Given
from tests.support.installation import Installation, emptied, eventually
from tests.support.pgbouncer import pgbouncer

pytestmark = [pytest.mark.slow, pytest.mark.processes]
REFUSED = "DATABASE_URL leads to a pooler that assigns connections per transaction"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters() as made:
        yield made.new_with_stint("pooled")


def installation(url: str, worker_id: str, directory: Path) -> Installation:
    return Installation(url, emptied(servers.addresses().amqp_urls[f"{worker_id}-own"]), directory)


def found_pooled(stint: Installation) -> bool:
    return asyncio.run(is_pooled(lambda: connect(stint.settings)))


def test_a_pooler_in_transaction_mode_is_refused(cluster: Cluster, database_url: str, worker_id: str, tmp_path: Path) -> None:
    with pgbouncer(cluster, mode="transaction") as url:
        stint = installation(url, worker_id, tmp_path)
        try:
            for command in (("api",), ("relay",), ("work", "--queues", "bills"), ("migrate",)):
                refused = stint.command(*command)
                assert (refused.returncode, refused.stdout) == (1, ""), command
                assert (
                    REFUSED in refused.stderr and "pool_mode = session" in refused.stderr and "Traceback" not in refused.stderr
                )
            doctor = stint.command("doctor").stdout
            assert "Postgres is behind a pooler that assigns connections per transaction." in doctor
            stint.start("api", "relay")  # without the check of the command line, as if Postgres had been away then
            eventually(lambda: REFUSED in stint.log("relay"))
            eventually(lambda: stint.answers("/health/live"))
            with closing(Given(stint)) as given:
                answer = given.client({}).get("/health/ready")
                assert answer.status_code == 503 and REFUSED in answer.json()["problems"][0]
            # however others use it at the same time, and with one connection for all
            with use(url, 12):
                assert [found_pooled(stint) for _ in range(10)] == [True] * 10
        finally:
            stint.stop()
    with pgbouncer(cluster, mode="transaction", size=1) as url:
        assert found_pooled(installation(url, worker_id, tmp_path))


class use:
    """Short transactions on some connections, until the block ends."""

    def __init__(self, url: str, count: int) -> None:
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url,)) for _ in range(count)]

    def _run(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            while not self._stopping.wait(0.002):
                conn.execute("SELECT 1", prepare=False)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def test_stint_works_behind_a_pooler_in_session_mode(
    cluster: Cluster, database_url: str, worker_id: str, tmp_path: Path
) -> None:
    with pgbouncer(cluster, mode="session", size=40) as url:
        stint = installation(url, worker_id, tmp_path)
        try:
            stint.start("api", "relay", "work").wait_until_ready()
            with closing(Given(stint)) as given, use(cluster.url, 4):
                person = given.person()
                given.stopped(person, given.task(person))
                assert not found_pooled(stint) and not found_pooled(installation(cluster.url, worker_id, tmp_path))
            limits = asyncio.run(session_limits(stint))
            assert limits == ("30s", "10s", "15s", "UTC", "43200.0"), "PgBouncer passes no settings on when a session begins"
        finally:
            stint.stop()


async def session_limits(stint: Installation) -> tuple[str, ...]:
    async with await connect(stint.settings) as conn:
        return await conn.one(
            """
            SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
                   current_setting('idle_in_transaction_session_timeout'), current_setting('timezone'),
                   current_setting('stint.long_seconds')
            """
        )
