"""lastSyncTimestamp: the rows that changed since. A row may come twice; none is missed, and no user gets rows of others."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.answers import refused_fields
from tests.support.given import Given
from tests.support.installation import Installation
from tests.sync.clients import TaskClient, ids, task_pages, wait_for_old_transactions


def test_only_changed_tasks_come(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    stays, changes = given.task(by, customer), given.task(by, customer)
    wait_for_old_transactions(stint)
    client = TaskClient(by, customerId=customer["id"])
    assert ids(client.sync()) == set()

    changed = by.put(f"/api/tasks/{changes['id']}", {"title": "Renamed"})
    new = given.task(by, customer)

    assert client.sync() == [changed, new]  # in the order in which they changed
    assert stays["id"] not in ids(client.sync())
    assert client.sees_everything()


def test_a_deleted_task_comes_as_a_tombstone(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    task = given.task(by, customer)
    clients = [TaskClient(person) for person in (by, given.person("customer_user", task["customerId"]))]
    with stint.sql() as conn:
        conn.execute("UPDATE tasks SET deleted_at = now() WHERE id = %s", (task["id"],))
    for client in clients:
        assert {"id": task["id"], "deleted": True} in client.sync()
        assert client.sees_everything()


def test_a_task_that_no_longer_matches_the_filter_comes_as_a_tombstone(given: Given) -> None:
    by, other = given.people(2)
    customer = given.customer(by)
    task = given.task(by, customer, assigneeId=by.id)
    mine, others = TaskClient(by, userId=by.id), TaskClient(by, userId=other.id)
    opened, whole = TaskClient(by, status="open", customer=customer["name"]), TaskClient(by, customerId=customer["id"])

    changed = by.put(f"/api/tasks/{task['id']}", {"assigneeId": other.id, "status": "done"})

    gone = {"id": task["id"], "deleted": True}
    assert gone in mine.sync() and mine.known == {}
    assert gone in opened.sync() and opened.known == {}
    assert changed in others.sync() and others.known == {task["id"]: changed}
    assert changed in whole.sync() and whole.known == {task["id"]: changed}


def test_a_task_that_leaves_a_customer_is_a_tombstone_for_its_users_and_does_not_come_again(
    given: Given, stint: Installation
) -> None:
    by = given.person()
    one, other = given.customer(by), given.customer(by)
    task, stays = given.task(by, one), given.task(by, one)
    wait_for_old_transactions(stint)  # else a task can come twice
    losing, getting = (TaskClient(given.person("customer_user", customer["id"])) for customer in (one, other))
    assert losing.known.keys() == {task["id"], stays["id"]} and getting.known == {}

    moved = by.put(f"/api/tasks/{task['id']}", {"customerId": other["id"], "title": "Secret"})
    wait_for_old_transactions(stint)

    assert losing.sync() == [{"id": task["id"], "deleted": True}]
    assert getting.sync() == [moved]
    again = by.put(f"/api/tasks/{task['id']}", {"title": "Secret, too"})
    assert losing.sync() == []  # not even that it changed
    assert getting.sync() == [again]

    back = by.put(f"/api/tasks/{task['id']}", {"customerId": one["id"]})
    wait_for_old_transactions(stint)
    assert losing.sync() == [back] and losing.known.keys() == {task["id"], stays["id"]}
    assert getting.sync() == [{"id": task["id"], "deleted": True}] and getting.known == {}
    assert losing.sync() == getting.sync() == []
    assert losing.sees_everything() and getting.sees_everything()


def test_a_task_may_move_there_and_back_between_two_syncs(given: Given) -> None:
    by = given.person()
    one, other, third = (given.customer(by) for _ in range(3))
    task = given.task(by, one)
    clients = [TaskClient(given.person("customer_admin", customer["id"])) for customer in (one, other, third)]
    for customer in (other, third, one, other, one):
        by.put(f"/api/tasks/{task['id']}", {"customerId": customer["id"], "title": customer["name"]})
    for client in clients:
        client.sync()
        assert client.sees_everything()
    assert [list(client.known) for client in clients] == [[task["id"]], [], []]


def test_a_customers_user_never_gets_tasks_of_other_customers(given: Given, stint: Installation) -> None:
    by = given.person()
    one, other = given.customer(by), given.customer(by)
    given.task(by, one)
    task = given.task(by, other)
    user = given.person("customer_user", one["id"])
    installation = stint.value("SELECT id FROM installation")
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    by.put(f"/api/tasks/{task['id']}", {"title": "Secret"})
    for since in (f"{installation}.0", hour_ago, "0", f"{given.new_id()}.0"):
        for filters in ({}, {"customerId": other["id"]}, {"customer": other["name"]}, {"userId": by.id}, {"status": "done"}):
            found = [item for page in task_pages(user, since, **filters) for item in page["items"]]
            assert task["id"] not in ids(found), (since, filters)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_paging_while_others_write_misses_nothing(limit: int, given: Given) -> None:
    by = given.person()
    customer, elsewhere = given.customer(by), given.customer(by)
    tasks = [given.task(by, customer)["id"] for _ in range(6)]
    clients = [
        TaskClient(by, customerId=customer["id"]),
        TaskClient(given.person("customer_user", customer["id"])),
        TaskClient(by, status="open", customer=customer["name"]),
    ]
    end = time.monotonic() + 2.5

    def write(seed: int) -> None:
        pick = random.Random(seed)
        while time.monotonic() < end:
            change = pick.choice([{"customerId": customer["id"]}, {"customerId": elsewhere["id"]}, {"status": "done"}, {}])
            by.put(f"/api/tasks/{pick.choice(tasks)}", {"title": f"{seed} {pick.random()}", "status": "open"} | change)

    with ThreadPoolExecutor(6) as pool:
        writing = [pool.submit(write, seed) for seed in range(3)]
        # page by page while rows change: each sync ends, because pages are read faster than rows change
        for client in clients * 3:
            client.sync(limit)
        for writer in writing:
            writer.result()
    for client in clients:
        client.sync(limit)
        assert client.sees_everything()


def test_a_transaction_that_started_before_a_sync_and_commits_after_it_comes_with_the_next(
    given: Given, stint: Installation
) -> None:
    by = given.person()
    customer = given.customer(by)
    slow, fast = given.task(by, customer), given.task(by, customer)
    clients = [TaskClient(by, customerId=customer["id"]), TaskClient(given.person("customer_user", customer["id"]))]
    with stint.sql() as conn, conn.transaction():
        conn.execute("UPDATE tasks SET title = 'Late', version = version + 1 WHERE id = %s", (slow["id"],))
        for number in range(2):  # the cursor moves on, but not past the open transaction
            changed = by.put(f"/api/tasks/{fast['id']}", {"title": f"Fast {number}"})
            for client in clients:
                assert changed in client.sync()
                assert client.known[slow["id"]]["title"] == slow["title"]
    for client in clients:
        assert "Late" in [item.get("title") for item in client.sync()]
        assert client.sees_everything()


def test_a_transaction_that_commits_between_two_pages_is_not_missed(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    tasks = [given.task(by, customer) for _ in range(4)]
    client = TaskClient(by, customerId=customer["id"])
    with stint.sql() as conn:
        conn.execute("BEGIN")
        conn.execute("UPDATE tasks SET title = 'Late' WHERE id = %s", (tasks[0]["id"],))  # the first in the order of changes
        for task in tasks[1:]:
            by.put(f"/api/tasks/{task['id']}", {"title": "Fast"})
        rest = task_pages(by, client.since, customerId=customer["id"], limit=1)
        next(rest), next(rest)
        conn.execute("COMMIT")
        *_, last = rest
    client.since = last["syncTimestamp"]
    client.known = {}
    assert "Late" in [item.get("title") for item in client.sync()]


@pytest.mark.parametrize("form", ["iso", "offset", "milliseconds"])
def test_a_plain_time_is_accepted_with_five_minutes_of_overlap(form: str, given_idle: Given) -> None:
    by = given_idle.person()
    customer = given_idle.customer(by)
    old, before, late = (given_idle.task(by, customer)["id"] for _ in range(3))
    now = datetime.now(UTC)
    with given_idle.stint.sql() as conn:
        conn.execute("ALTER TABLE tasks DISABLE TRIGGER touch")
        for minutes, task in ((70, old), (64, before)):
            conn.execute("UPDATE tasks SET updated_at = %s WHERE id = %s", (now - timedelta(minutes=minutes), task))
        conn.execute("ALTER TABLE tasks ENABLE TRIGGER touch")
    hour_ago = now - timedelta(hours=1)
    since = {
        "iso": hour_ago.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "offset": hour_ago.astimezone().isoformat(),
        "milliseconds": str(int(hour_ago.timestamp() * 1000)),
    }[form]
    found = [item for page in task_pages(by, since, customerId=customer["id"], limit=1) for item in page["items"]]
    assert ids([item for item in found if "deleted" not in item]) == {before, late}
    assert not any("reset" in page for page in task_pages(by, since))


def test_a_timestamp_that_is_too_old_or_of_another_database_means_to_start_over(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    kept, gone = given.task(by, customer), given.task(by, customer)
    with stint.sql() as conn:
        conn.execute("UPDATE tasks SET deleted_at = now() WHERE id = %s", (gone["id"],))
    more = [given.task(by, customer) for _ in range(3)]
    ours, now = stint.value("SELECT id::text FROM installation"), datetime.now(UTC)
    far = [f"{ours}.{2**64}", f"{ours}.{2**63}", f"{ours}.{'9' * 20}", f"{given.new_id()}.5", "0", "99999999999999"]
    times = [now - timedelta(days=91), now + timedelta(days=1), now + timedelta(days=365_000)]
    for since in [*far, *(moment.isoformat() for moment in times), *(str(int(moment.timestamp() * 1000)) for moment in times)]:
        found = list(task_pages(by, since, customerId=customer["id"], limit=2))
        assert [page["reset"] for page in found] == [True, True], since
        assert [item["id"] for page in found for item in page["items"]] == [kept["id"], *(task["id"] for task in more)]
        assert len({page["syncTimestamp"] for page in found}) == 1
        following = list(task_pages(by, found[-1]["syncTimestamp"]))  # from here on as usual
        assert not any("reset" in page for page in following)
    for since in ((now - timedelta(days=89)).isoformat(), f"{ours}.0"):
        found = list(task_pages(by, since, customerId=customer["id"]))
        assert {"id": gone["id"], "deleted": True} in [item for page in found for item in page["items"]]
        assert not any("reset" in page for page in found)


def test_the_timestamp_of_any_answer_can_be_sent(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    answers = [
        by.get("/api/tasks", limit=1),
        *task_pages(by, "0", limit=1000),
        by.get("/api/time-bills"),
        by.get("/api/customers"),
    ]
    task = given.task(by, customer)
    for answer in answers:
        assert task in [item for page in task_pages(by, answer["syncTimestamp"]) for item in page["items"]]


def test_a_cursor_of_a_sync_is_refused_by_a_list(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    for _ in range(3):
        given.task(by, customer)
    ours = by.get("/api/tasks")["syncTimestamp"].partition(".")[0] + ".0"
    plain = by.get("/api/tasks", limit=1)["nextCursor"]
    synced = by.get("/api/tasks", limit=1, lastSyncTimestamp=ours)["nextCursor"]
    reset = by.get("/api/tasks", limit=1, lastSyncTimestamp="0")["nextCursor"]
    assert refused_fields(by.http.get("/api/tasks", params={"cursor": plain, "lastSyncTimestamp": ours})) == ["cursor"]
    for cursor in (synced, reset):
        assert refused_fields(by.http.get("/api/tasks", params={"cursor": cursor})) == ["cursor"]
