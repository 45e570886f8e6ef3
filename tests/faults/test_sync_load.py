"""A write whose transaction stays open during a client's sync arrives with the next sync, in whatever order they began."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx2
import pytest

from tests.support.answers import Json
from tests.support.given import Given
from tests.support.installation import Installation, eventually
from tests.support.sizes import FULL
from tests.sync.clients import Store, TaskClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SECONDS, WRITERS = 20 if FULL else 8, 8


def test_no_write_is_missed_under_load(given: Given, stint: Installation) -> None:
    """Each write leaves its number in a row; a client that has seen all of them sees, after it all, what a fresh one does."""
    by = given.person()
    customer = given.customer(by)
    tasks = [given.task(by, customer)["id"] for _ in range(12)]
    entries = [given.logged(by, {"id": tasks[0]}, start=f"2026-03-{day:02}T09:00:00Z")["id"] for day in range(1, 13)]
    given.settled()
    customers = [given.customer(by)["id"] for _ in range(4)]
    stores = [Store(by).sync() for _ in range(3)]
    lists = [TaskClient(by, customerId=customer["id"]) for _ in range(2)]
    end, is_over = time.monotonic() + SECONDS, Event()
    written, syncs = [0] * WRITERS, [0] * (len(stores) + len(lists))

    def is_enough() -> bool:
        """Not before the seconds have passed, and on a busy machine, which manages less in them, not before this has."""
        return time.monotonic() > end and sum(written) > 100 and min(syncs) > 3

    def write_slowly(seed: int) -> None:
        """Transactions that stay open for up to a second, over rows of all kinds. Each has rows of its own: nobody waits."""
        pick = random.Random(seed)
        while not is_over.is_set():
            with stint.sql() as conn, conn.transaction():
                for table, rows, column in (("tasks", tasks, "title"), ("time_entries", entries, "notes")):
                    own = pick.choice(rows[seed::6])
                    statement = f"UPDATE {table} SET {column} = %s, version = version + 1 WHERE id = %s"
                    conn.execute(statement.encode(), (f"{seed} {written[seed]}", own))
                    written[seed] += 1
                if seed < 4:
                    conn.execute("UPDATE customers SET notes = %s WHERE id = %s", (str(written[seed]), customers[seed]))
                    written[seed] += 1
                time.sleep(pick.random() ** 3)

    def write_over_http(seed: int) -> None:
        pick = random.Random(seed)
        with httpx2.Client(base_url=stint.url, headers={"Authorization": f"Bearer {by.token}"}, timeout=30) as client:
            while not is_over.is_set():
                task = {"title": f"{seed} {written[seed]}", "customerId": customer["id"]}
                assert client.post("/api/tasks", json=task).status_code == 201
                written[seed] += 1
                time.sleep(pick.random() * 0.2)

    def follow(number: int, client: Store | TaskClient, limit: int) -> None:
        while not is_over.is_set():
            client.sync(limit)
            syncs[number] += 1
            time.sleep(0.02)

    clients: list[tuple[Store | TaskClient, int]] = list(zip([*stores, *lists], (1000, 7, 40, 1000, 5), strict=True))
    with ThreadPoolExecutor(16) as pool:
        running = [
            *(pool.submit(write_slowly, seed) for seed in range(6)),
            *(pool.submit(write_over_http, seed) for seed in range(6, WRITERS)),
            *(pool.submit(follow, number, client, limit) for number, (client, limit) in enumerate(clients)),
        ]
        try:
            eventually(lambda: is_enough() or any(one.done() for one in running), seconds=120, why="there was enough load")
        finally:
            is_over.set()
        for one in running:
            one.result()

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
