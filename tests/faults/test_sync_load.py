"""A write whose transaction stays open during a client's sync arrives with the next sync, in whatever order they began."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.support.answers import Json
from tests.support.given import Given
from tests.support.installation import Installation
from tests.sync.clients import Store, TaskClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SECONDS = 20


def test_no_write_is_missed_in_20_seconds_of_load(given: Given, stint: Installation) -> None:
    """Each write leaves its number in a row; a client that has seen all of them sees, after it all, what a fresh one does."""
    by = given.person()
    customer = given.customer(by)
    tasks = [given.task(by, customer)["id"] for _ in range(12)]
    entries = [given.logged(by, {"id": tasks[0]}, start=f"2026-03-{day:02}T09:00:00Z")["id"] for day in range(1, 13)]
    given.settled()
    customers = [given.customer(by)["id"] for _ in range(4)]
    stores = [Store(by).sync() for _ in range(3)]
    lists = [TaskClient(by, customerId=customer["id"]) for _ in range(2)]
    end = time.monotonic() + SECONDS

    def write_slowly(seed: int) -> int:
        """Transactions that stay open for up to a second, over rows of all kinds. Each has rows of its own: nobody waits."""
        pick, count = random.Random(seed), 0
        while time.monotonic() < end:
            with stint.sql() as conn, conn.transaction():
                for table, rows, column in (("tasks", tasks, "title"), ("time_entries", entries, "notes")):
                    own = pick.choice(rows[seed::6])
                    statement = f"UPDATE {table} SET {column} = %s, version = version + 1 WHERE id = %s"
                    conn.execute(statement.encode(), (f"{seed} {count}", own))
                    count += 1
                if seed < 4:
                    conn.execute("UPDATE customers SET notes = %s WHERE id = %s", (str(count), customers[seed]))
                    count += 1
                time.sleep(pick.random() ** 3)
        return count

    def write_over_http(seed: int) -> int:
        pick, count = random.Random(seed), 0
        with httpx2.Client(base_url=stint.url, headers={"Authorization": f"Bearer {by.token}"}, timeout=30) as client:
            while time.monotonic() < end:
                task = {"title": f"{seed} {count}", "customerId": customer["id"]}
                assert client.post("/api/tasks", json=task).status_code == 201
                count += 1
                time.sleep(pick.random() * 0.2)
        return count

    def follow(client: Store | TaskClient, limit: int) -> int:
        syncs = 0
        while time.monotonic() < end:
            client.sync(limit)
            syncs += 1
            time.sleep(0.02)
        return syncs

    clients: list[Store | TaskClient] = [*stores, *lists]
    with ThreadPoolExecutor(16) as pool:
        slow = [pool.submit(write_slowly, seed) for seed in range(6)]
        fast = [pool.submit(write_over_http, seed) for seed in range(2)]
        following = [pool.submit(follow, client, limit) for client, limit in zip(clients, (1000, 7, 40, 1000, 5), strict=True)]
        written = sum(writer.result() for writer in [*slow, *fast])
        syncs = [follower.result() for follower in following]
    assert written > 100 and min(syncs) > 3, (written, syncs)

    whole = Store(by).sync()
    for store in stores:
        assert missed(store.sync(), whole) == {}
    now = {row_id: row for row_id, row in whole.rows["tasks"].items() if row["customerId"] == customer["id"]}
    for client in lists:
        client.sync()
        assert client.known == now


def missed(store: Store, whole: Store) -> dict[str, list[Json]]:
    """What is not in the one as it is in the other."""
    kinds = {
        kind: [row for row_id, row in {**whole.rows[kind], **rows}.items() if rows.get(row_id) != whole.rows[kind].get(row_id)]
        for kind, rows in store.rows.items()
    }
    return {kind: rows for kind, rows in kinds.items() if rows}
