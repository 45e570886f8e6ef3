"""GET /api/sync: all rows that changed since the last sync; none is missed, and of bills and entries only one's own come."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.answers import problem, refused_fields
from tests.support.given import Given
from tests.support.installation import Installation
from tests.sync.clients import KINDS, Store, first_load, pages, wait_for_old_transactions


def test_a_first_load_is_all_rows_with_ones_own_bills_and_entries(given: Given) -> None:
    by, other = given.people(2)
    task = given.task(by)
    mine, others = given.entry(by, task), given.entry(other, task)
    timer = by.post(f"/api/tasks/{task['id']}/start")
    gone = given.logged(by, task, start="2026-03-04T09:00:00Z")
    by.delete(f"/api/time-entries/{gone['id']}")

    store = first_load(by)

    assert not any("reset" in page for page in store.pages)
    assert store.rows["tasks"][task["id"]] == task
    assert store.rows["customers"][task["customerId"]] == by.get(f"/api/customers/{task['customerId']}")
    assert store.rows["pillars"][task["pillarId"]]["customerId"] == task["customerId"]
    assert store.rows["timeEntries"] == {mine["id"]: mine}
    assert mine["timeBillId"] in store.rows["timeBills"] and others["timeBillId"] not in store.rows["timeBills"]
    assert store.timer == {name: timer[name] for name in store.timer or {}}
    assert first_load(other).timer is None


def test_only_changed_rows_come(given: Given, stint: Installation) -> None:
    by = given.person()
    task, entry = given.task(by), given.entry(by)
    wait_for_old_transactions(stint)
    store = first_load(by)
    assert [page for page in store.sync().pages if any(page[kind] for kind in KINDS)] == []

    renamed = by.put(f"/api/tasks/{task['id']}", {"title": "Renamed"})
    noted = by.post(f"/api/time-entries/{entry['id']}/notes", {"append": "a line"}, status=200)
    pillar = by.post(f"/api/customers/{task['customerId']}/pillars", {"name": "Hosting"})

    store.sync()
    assert (store.received("tasks"), store.received("timeEntries"), store.received("pillars")) == ([renamed], [noted], [pillar])
    assert store.received("customers") == store.received("timeBills") == []


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_many_pages_contain_the_same_rows_as_a_single_page(limit: int, given: Given) -> None:
    by = given.person()
    store = first_load(by)
    since = store.since
    task = given.task(by)
    for day in range(1, 5):
        given.entry(by, task, start=f"2026-03-0{day}T09:00:00Z")
    whole, paged = Store(by), Store(by)
    for each, rows in ((whole, 1000), (paged, limit)):
        each.since = since
        each.sync(rows)
    assert len(paged.pages) > 10 // limit and len(whole.pages) == 1
    assert all(sum(len(page[kind]) for kind in KINDS) == limit for page in paged.pages[:-1])
    assert whole.is_as(paged)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_first_load_of_many_pages_contains_all_of_ones_own_entries(limit: int, given: Given) -> None:
    by = given.person()
    task = given.task(by)
    logged = {given.logged(by, task, start=f"2026-03-02T0{hour}:00:00Z")["id"] for hour in range(5)}
    given.settled()
    # starts at one's own bills, because the pages before them contain the rows of other tests
    first = by.get("/api/sync", limit=1)
    of, _, _, sync = json.loads(base64.urlsafe_b64decode(first["nextCursor"] + "=="))
    parts = [of.replace("sync.0", "sync.3"), "0", given.new_id(), sync]
    cursor = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")

    received: set[str] = set()
    while cursor is not None:
        page = by.get("/api/sync", limit=limit, cursor=cursor)
        received |= {row["id"] for row in page["timeEntries"]}
        cursor = page["nextCursor"]

    assert received == logged


def test_entries_come_again_over_many_pages_when_their_bill_is_approved(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    for hour in range(4):
        given.logged(by, task, start=f"2026-03-02T0{hour}:00:00Z")
    given.settled()
    wait_for_old_transactions(stint)
    store = first_load(by)
    (bill_id,) = store.rows["timeBills"]

    admin.patch(f"/api/time-bills/{bill_id}", {"status": "approved"})

    store.sync(limit=1)
    assert [row["locked"] for row in store.rows["timeEntries"].values()] == [True] * 4
    assert store.is_as(first_load(by))


def test_a_deleted_row_comes_as_a_tombstone(given: Given) -> None:
    by, admin = given.person(), given.admin()
    entry = given.logged(by)
    customer = given.customer(by)
    pillar = by.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    task = given.task(by, customer)
    given.settled()
    store = first_load(by)

    by.delete(f"/api/time-entries/{entry['id']}")
    admin.delete(f"/api/customers/{customer['id']}")
    given.settled()  # the bill is deleted by a message

    store.sync()
    bill = {"id": entry["timeBillId"]}
    for kind, row in (
        ("timeEntries", entry), ("timeBills", bill), ("customers", customer), ("pillars", pillar), ("tasks", task)
    ):  # fmt: skip
        assert {"id": row["id"], "deleted": True} in store.received(kind)
    assert store.is_as(first_load(by))


def test_an_entry_comes_again_when_its_bill_is_approved_or_reopened(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    entry = given.entry(by, task)
    bill = f"/api/time-bills/{entry['timeBillId']}"
    wait_for_old_transactions(stint)
    store = first_load(by)

    by.patch(bill, {"memo": "mine"})  # does not concern its entries
    assert store.sync().received("timeEntries") == []

    for status, locked in (("approved", True), ("pending", False), ("approved", True)):
        admin.patch(bill, {"status": status})
        store.sync(limit=1)
        assert store.rows["timeEntries"][entry["id"]]["locked"] is locked
        assert store.rows["timeEntries"][entry["id"]]["version"] == entry["version"]
        assert store.is_as(first_load(by))


def test_entries_of_others_do_not_come_when_their_bill_is_approved_or_reopened(given: Given) -> None:
    by, other, admin = given.person(), given.person(), given.admin()
    bill = f"/api/time-bills/{given.entry(other, given.task(by))['timeBillId']}"
    store = first_load(by)
    for status in ("approved", "pending"):
        admin.patch(bill, {"status": status})
        assert store.sync().received("timeEntries") == []
        assert store.received("timeBills") == []
    assert store.is_as(first_load(by))


def test_a_bill_that_is_merged_into_a_reopened_one_becomes_a_tombstone(given: Given) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    bill = given.approved_bill(by, admin, task)
    late = given.logged(by, task, start="2026-03-02T12:00:00Z")
    given.settled()
    store = first_load(by)
    assert {bill["id"], late["timeBillId"]} <= set(store.rows["timeBills"])

    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "pending"})

    store.sync()
    assert {"id": late["timeBillId"], "deleted": True} in store.received("timeBills")
    assert store.rows["timeEntries"][late["id"]]["timeBillId"] == bill["id"]
    assert store.is_as(first_load(by))


def test_the_running_timer_is_in_every_answer(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    store = first_load(by)
    for notes in ("one", "two"):
        by.http.put("/api/active-timers/me", json={"taskId": task["id"], "notes": notes})
        assert all(page["activeTimer"]["notes"] == notes for page in store.sync(limit=1).pages)
    by.delete("/api/active-timers/me")
    assert store.sync().timer is None


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_client_with_an_unusable_timestamp_starts_over(limit: int, given: Given, stint: Installation) -> None:
    by = given.person()
    entry = given.entry(by)
    whole = first_load(by)
    ours = stint.value("SELECT id::text FROM installation")
    old, soon = datetime.now(UTC) - timedelta(days=91), datetime.now(UTC) + timedelta(days=1)
    for since in (f"{ours}.{2**63}", f"{given.new_id()}.5", "0", old.isoformat(), soon.isoformat()):
        store = Store(by)
        store.rows["timeEntries"]["forgotten"] = {}
        store.since = since
        if limit == 1:  # two pages are enough
            walk = pages(by, since, 1)
            assert next(walk)["reset"] is True and "reset" not in next(walk)
            continue
        store.sync(limit)
        assert [page.get("reset") for page in store.pages] == [True] + [None] * (len(store.pages) - 1)
        assert store.rows["timeEntries"] == {entry["id"]: entry} == whole.rows["timeEntries"]
        assert "reset" not in store.sync().pages[0]


def test_a_plain_time_is_accepted(given_idle: Given) -> None:
    by, admin = given_idle.person(), given_idle.admin()
    task = given_idle.task(by)
    [bill_id] = given_idle.many_bills(by, task, 1)
    bill = admin.patch(f"/api/time-bills/{bill_id}", {"status": "approved"})
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    for limit in (3, 1000):
        rows = [row for page in pages(by, hour_ago, limit) for kind in KINDS for row in page[kind]]
        assert {task["id"], bill["id"]} <= {row["id"] for row in rows}
        assert {row["locked"] for row in rows if "locked" in row} == {True}


def test_a_cursor_is_valid_for_one_sync_only(given: Given, stint: Installation) -> None:
    by = given.person()
    for _ in range(2):
        given.task(by)
    ours = stint.value("SELECT id::text FROM installation") + ".0"
    times = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    since = {"xid": ours, "time": times, "full": None}
    cursors = {how: next(pages(by, value, 1))["nextCursor"] for how, value in since.items()}
    assert all(cursors.values())
    for how, wrong in (("xid", "time"), ("time", "xid"), ("full", "xid"), ("full", "time")):
        sent = {"cursor": cursors[wrong]} | ({"lastSyncTimestamp": since[how]} if since[how] else {})
        assert refused_fields(by.http.get("/api/sync", params=sent)) == ["cursor"], (how, wrong)
    of_a_list = by.get("/api/tasks", limit=1, lastSyncTimestamp=ours)["nextCursor"]
    for cursor in (of_a_list, cursors["xid"][:-4], "5", "a" * 900):
        sent = {"cursor": cursor, "lastSyncTimestamp": ours}
        assert refused_fields(by.http.get("/api/sync", params=sent)) == ["cursor"]
    sent = {"cursor": cursors["xid"], "lastSyncTimestamp": ours}
    assert refused_fields(by.http.get("/api/tasks", params=sent)) == ["cursor"]


def test_a_row_that_changes_between_two_pages_is_not_missed(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    entries = [given.logged(by, task, start=f"2026-03-0{day}T09:00:00Z") for day in range(1, 6)]
    given.settled()
    store = first_load(by)
    for entry in entries:
        by.post(f"/api/time-entries/{entry['id']}/notes", {"append": "a line"}, status=200)
    by.put(f"/api/tasks/{task['id']}", {"title": "Before"})
    rest = pages(by, store.since, 2)
    with stint.sql() as conn:
        conn.execute("BEGIN")
        conn.execute("UPDATE time_entries SET notes = 'late' WHERE id = %s", (entries[4]["id"],))
        first = next(rest)
        by.put(f"/api/tasks/{task['id']}", {"title": "After"})  # of a kind whose pages were read already
        by.post(f"/api/time-entries/{entries[3]['id']}/notes", {"append": "again"}, status=200)
        store.store_page(first)
        store.store_page(next(rest))
        conn.execute("COMMIT")
    for page in rest:
        store.store_page(page)
    store.since = first["syncTimestamp"]
    assert store.sync().is_as(first_load(by))
    assert store.rows["tasks"][task["id"]]["title"] == "After"
    assert store.rows["timeEntries"][entries[4]["id"]]["notes"] == "late"


def test_customers_users_are_refused(given: Given) -> None:
    customer = given.customer(given.person())
    for role in ("customer_admin", "customer_user"):
        user = given.person(role, customer["id"])
        problem(user.http.get("/api/sync"), 403)
        problem(user.http.post("/api/sync", json={"operations": []}), 403)
