"""Random histories of writes, pulls and crashes: after the last pull, with its own cursors, each client has every row as the
database has it. A row may come twice; none is missing."""

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.clusters import Cluster, Clusters, clusters
from tests.support.given import Given, Json
from tests.support.installation import Installation
from tests.support.sizes import CRASH_HISTORIES
from tests.sync.clients import Store, first_load, pages
from tests.sync.test_restores import record_position

pytestmark = [pytest.mark.slow, pytest.mark.processes]
BREAKS = 5  # in each history


@pytest.fixture
def made() -> Iterator[Clusters]:
    with clusters() as made:
        yield made


class History:
    """A firm with four clients, one of which pauses between two pages."""

    def __init__(self, seed: int, made: Clusters, stint: Installation) -> None:
        self.random, self.made, self.stint = random.Random(seed), made, stint
        self.cluster = made.lead_to(made.new_with_stint("0"))
        stint.start("api").wait_until_ready()
        self.given = Given(stint)
        self.by = self.given.person()
        self.customer = self.given.customer(self.by)
        for _ in range(10):
            self.given.task(self.by, self.customer)
        self.clients = [first_load(self.by) for _ in range(4)]
        self.reading: Iterator[Json] | None = None  # of the last client: the pages that it has not read yet
        self.copy: Cluster | None = None
        self.late: psycopg.Connection[tuple[object, ...]] | None = None

    def run(self) -> None:
        for _ in range(BREAKS):
            for _ in range(self.random.randint(5, 25)):
                self.random.choice(
                    [self.write, self.write, self.refused, self.pull, self.pull_a_page, self.record, self.slow]
                )()
            self.random.choice([self.crash, self.crash, self.crash, self.restart, self.go_back])()
        self.commit()
        for client in self.clients:
            self.pull(client)
        whole = first_load(self.by)
        for client in self.clients:
            assert client.is_as(whole)

    def write(self) -> None:
        task = self.random.choice(sorted(first_load(self.by).rows["tasks"]) or [""])
        match self.random.randint(0, 4):
            case 0:
                self.given.task(self.by, self.customer)
            case 1:
                self.cluster_sql("UPDATE tasks SET deleted_at = now() WHERE id = %s AND deleted_at IS NULL", task)
            case _:
                self.by.http.put(f"/api/tasks/{task}", json={"title": f"Title {self.random.random()}"})

    def cluster_sql(self, statement: str, *parameters: str) -> None:
        with self.cluster.sql() as conn:
            conn.execute("SET lock_timeout = '100ms'")
            with contextlib.suppress(psycopg.errors.LockNotAvailable):
                conn.execute(statement.encode(), parameters)

    def refused(self) -> None:
        """Takes transaction ids; perhaps nothing flushes them from now on."""
        if self.random.random() < 0.5:
            for pid in self.cluster.processes("walwriter"):
                os.kill(pid, signal.SIGSTOP)
        task = self.random.choice(sorted(first_load(self.by).rows["tasks"]) or [""])
        for _ in range(self.random.randint(1, 8)):
            self.by.http.put(f"/api/tasks/{task}", json={"title": "Stale", "version": 999})

    def slow(self) -> None:
        """A transaction that began earlier commits, and another one begins."""
        self.commit()
        self.late = psycopg.connect(self.cluster.url)
        self.late.execute(
            b"""
            INSERT INTO customers (id, name, created_from, created_by)
            SELECT gen_random_uuid(), 'Late', '', id FROM users LIMIT 1
            """
        )

    def commit(self) -> None:
        if self.late is not None:
            with contextlib.suppress(psycopg.OperationalError):
                self.late.commit()
            self.late.close()
            self.late = None

    def pull(self, client: Store | None = None) -> None:
        client = client or self.random.choice(self.clients)
        if client is self.clients[-1]:
            for page in self.reading or ():
                client.store_page(page)
            self.reading = None
        client.sync(self.random.choice([2, 5, 1000]))

    def pull_a_page(self) -> None:
        client = self.clients[-1]
        if self.reading is None:
            self.reading = pages(self.by, client.since, 2)
            page = next(self.reading)
            client.store_page(page)
            client.since = page["syncTimestamp"]
        elif (following := next(self.reading, None)) is not None:
            client.store_page(following)
        else:
            self.reading = None

    def record(self) -> None:
        record_position(self.stint)

    def crash(self) -> None:
        self.cluster.crash()
        self._start()

    def restart(self) -> None:
        self.commit()
        for pid in self.cluster.processes("walwriter"):
            os.kill(pid, signal.SIGCONT)
        self.cluster.stop()
        self._start()

    def go_back(self) -> None:
        """The files of an earlier moment are restored."""
        self.cluster.crash()
        if self.copy is not None:
            self.cluster = self.made.lead_to(self.made.keep(self.copy))
            self.copy = None
        self._start()

    def _start(self) -> None:
        if self.copy is None and self.random.random() < 0.7:
            self.copy = self.cluster.copy(f"{int(self.cluster.data.name) + 1}")
        self.cluster.start()
        self.stint.wait_until_ready()


@pytest.mark.parametrize("seed", range(CRASH_HISTORIES))
def test_after_any_history_each_client_has_every_row(seed: int, made: Clusters, tmp_path: Path) -> None:
    stint = Installation(made.database_url, "amqp://127.0.0.1:1", tmp_path)
    try:
        history = History(seed, made, stint)
        history.run()
        history.given.close()
    finally:
        stint.stop()
