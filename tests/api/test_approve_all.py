"""Approving many bills in one transaction: only those that have not changed since they were read."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import OTHERS_SECONDS, Installation, eventually
from tests.support.sizes import BILLS, CONTENTION_SECONDS


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests write thousands of rows."""
    return stint_apart


def post_approval(admin: Person, body: Json) -> httpx2.Response:
    return admin.http.post("/api/time-bills/approve-all", json=body)


def approve(admin: Person, bills: list[Json], **more: Any) -> Json:
    answer = post_approval(admin, {"bills": [{"id": bill["id"], "version": bill["version"]} for bill in bills]} | more)
    assert answer.status_code == 200, answer.text
    result: Json = answer.json()
    assert [found["id"] for found in result["results"]] == [bill["id"] for bill in bills]
    assert result["approved"] + result["skipped"] == len(bills)
    assert result["approved"] == sum(found["result"] == "approved" for found in result["results"])
    return result


def approve_seen(admin: Person, seen: Json, **filters: str) -> dict[str, Json]:
    answer = post_approval(admin, {"filter": filters, "syncTimestamp": seen["syncTimestamp"]})
    assert answer.status_code == 200, answer.text
    return {found["id"]: found for found in answer.json()["results"]}


def get_bill(by: Person, bill: Json) -> Json:
    return by.get(f"/api/time-bills/{bill['id']}")


def read_list(stint: Installation, by: Person, whose: Person, **filters: Any) -> Json:
    """The list, read after all transactions have ended that started before its bills were written: while one of them runs, the
    cursor cannot tell that the bills were read, and they would be skipped."""
    newest = "SELECT max(changed_xid::text::numeric) FROM time_bills WHERE user_id = %s"

    def seen() -> Json | None:
        found = by.get("/api/time-bills", limit=1000, userId=whose.id, **filters)
        return found if int(found["syncTimestamp"].partition(".")[2]) > stint.value(newest, whose.id) else None

    found: Json = eventually(seen, seconds=OTHERS_SECONDS)
    return found


@pytest.fixture
def bills(given: Given) -> tuple[Person, Person, Json, list[Json]]:
    """A consultant, an admin, a task, and four pending bills of it, the oldest first."""
    by, admin = given.person(), given.admin()
    task = given.task(by)
    ids = given.many_bills(by, task, 4)
    return by, admin, task, [admin.get(f"/api/time-bills/{bill_id}") for bill_id in ids]


Bills = tuple[Person, Person, Json, list[Json]]


def test_unchanged_bills_are_approved(bills: Bills, stint: Installation) -> None:
    by, admin, _, seen = bills
    result = approve(admin, seen[::-1])
    expected = {"result": "approved", "reason": None, "current": None, "overlappingEntries": 0}
    assert result["results"] == [{"id": bill["id"], **expected} for bill in seen[::-1]]
    for bill in seen:
        now = get_bill(by, bill)
        expected = {"status": "approved", "approvedBy": admin.id, "version": bill["version"] + 1, "minutes": 60}
        assert {name: now[name] for name in expected} == expected and now["xero"]["status"] == "not_connected"
    again = approve(admin, [get_bill(by, bill) for bill in seen])
    assert {(found["result"], found["current"]["status"]) for found in again["results"]} == {("skipped", "approved")}
    assert all("approved" in found["reason"] for found in again["results"])
    stint.verify()


def test_changed_bills_and_those_that_cannot_be_approved_are_skipped_with_the_reason(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    ids = iter(given.many_bills(by, task, 7))
    kept, approved, rejected, changed, written, empty, running = (admin.get(f"/api/time-bills/{next(ids)}") for _ in range(7))
    admin.patch(f"/api/time-bills/{approved['id']}", {"status": "approved"})
    rejected = admin.patch(f"/api/time-bills/{rejected['id']}", {"status": "rejected", "rejectionNote": "no"})
    by.patch(f"/api/time-bills/{written['id']}", {"memo": "the mail server"})
    entries = {entry["timeBillId"]: entry for entry in by.get("/api/time-entries", userId=by.id)["items"]}
    by.patch(f"/api/time-entries/{entries[changed['id']]['id']}", {"duration": 1800})
    by.patch(f"/api/time-entries/{entries[empty['id']]['id']}", {"duration": 29})
    given.settled()
    empty = get_bill(by, empty)
    timer = by.http.put("/api/active-timers/me", json={"taskId": task["id"]}).json()
    with stint.sql() as conn:
        conn.execute("UPDATE timers SET start_time = %s WHERE id = %s", (f"{running['date']}T12:00:00Z", timer["id"]))
    unknown = {"id": given.new_id(), "version": 1}
    seen = [kept, approved, rejected, changed, written, empty, running, unknown]

    result = approve(admin, seen)

    assert (result["approved"], result["skipped"]) == (3, 5)
    found = dict(
        zip(
            ["kept", "approved", "rejected", "changed", "written", "empty", "running", "unknown"],
            result["results"],
            strict=True,
        )
    )
    assert {found.pop(name)["result"] for name in ("kept", "rejected", "empty")} == {"approved"}
    for name, bill in zip(found, [approved, changed, written, running, unknown], strict=True):
        assert found[name]["result"] == "skipped" and found[name]["reason"]
        assert found[name]["current"] == (get_bill(by, bill) if bill is not unknown else None), name
    words = {
        "approved": "is approved", "changed": "changed", "written": "changed", "running": "timer", "unknown": "no such",
    }  # fmt: skip
    assert all(word in found[name]["reason"] for name, word in words.items()), found
    assert found["changed"]["current"]["minutes"] == 30
    by.delete("/api/active-timers/me")
    again = approve(admin, [found["changed"]["current"], found["written"]["current"], running])
    assert again["approved"] == 3  # with the versions in `current`
    stint.verify()


@pytest.mark.parametrize("wrong", [False, True])
def test_a_stale_bill_is_recalculated_first_and_skipped_if_its_sum_changed(
    wrong: bool, bills: Bills, stint: Installation
) -> None:
    by, admin, _, seen = bills
    with stint.sql() as conn:  # no message will recalculate it
        conn.execute("UPDATE time_bills SET stale = true, seconds = seconds + %s WHERE id = %s", (60 * wrong, seen[0]["id"]))
    bill = get_bill(by, seen[0])
    result = approve(admin, [bill, seen[1]])
    if wrong:
        current = result["results"][0]["current"]
        assert (result["approved"], current["seconds"], current["version"]) == (1, 3600, bill["version"] + 1)
        assert current == get_bill(by, bill)
        assert approve(admin, [current])["approved"] == 1
    else:
        assert result["approved"] == 2
    stint.verify()


def test_a_list_is_approved_as_it_was_read(bills: Bills, given: Given, stint: Installation) -> None:
    by, admin, task, (first, second, third, fourth) = bills
    admin.patch(f"/api/time-bills/{fourth['id']}", {"status": "rejected", "rejectionNote": "no"})
    seen = read_list(stint, admin, by)
    by.patch(f"/api/time-bills/{second['id']}", {"memo": "a change"})
    admin.patch(f"/api/time-bills/{third['id']}", {"status": "approved"})
    late = given.logged(by, task, start="2019-05-05T09:00:00Z")  # a bill that is not in the list
    given.settled()

    results = approve_seen(admin, seen, userId=by.id)

    assert {bill_id: found["result"] for bill_id, found in results.items()} == {
        first["id"]: "approved", second["id"]: "skipped", third["id"]: "skipped", late["timeBillId"]: "skipped"
    }  # fmt: skip
    assert "changed" in results[second["id"]]["reason"] and results[second["id"]]["current"] == get_bill(by, second)
    assert "approved" in results[third["id"]]["reason"]
    assert [get_bill(by, bill)["status"] for bill in (first, second, third, fourth)] == [
        "approved", "pending", "approved", "rejected",
    ]  # fmt: skip
    results = approve_seen(admin, read_list(stint, admin, by), userId=by.id)
    assert {found["result"] for found in results.values()} == {"approved"} and len(results) == 2
    assert approve_seen(admin, read_list(stint, admin, by), userId=by.id) == {}
    stint.verify()


def test_the_filter_has_the_same_meaning_as_in_the_list(bills: Bills, given: Given, stint: Installation) -> None:
    by, admin, task, seen = bills
    other = given.task(by)
    given.many_bills(by, other, 1)
    for extra, expected in (
        ({"startDate": "2020-01-04"}, seen[3:]),
        ({"startDate": "2020-01-02", "endDate": "2020-01-02"}, seen[1:2]),
        ({"endDate": "2020-01-01", "customerId": task["customerId"]}, seen[:1]),
        ({"userId": given.new_id()}, []),
        ({"customerId": other["customerId"]}, None),
    ):
        filters = {"userId": by.id} | extra
        listed = read_list(stint, admin, by)
        pending = [item for item in admin.http.get("/api/time-bills", params={**filters, "status": "pending"}).json()["items"]]
        results = approve_seen(admin, listed, **filters)
        assert results.keys() == {bill["id"] for bill in pending}
        assert expected is None or results.keys() == {bill["id"] for bill in expected}
    assert {get_bill(by, bill)["status"] for bill in (seen[0], seen[1], seen[3])} == {"approved"}
    assert get_bill(by, seen[2])["status"] == "pending"


def test_a_list_that_was_read_during_a_change_approves_no_new_figures(bills: Bills, stint: Installation) -> None:
    by, admin, _, seen = bills
    with stint.sql() as conn, conn.transaction():
        conn.execute("UPDATE time_bills SET seconds = 60 WHERE id = %s", (seen[0]["id"],))
        time.sleep(2)
        listed = admin.get("/api/time-bills", userId=by.id)
        assert {item["seconds"] for item in listed["items"]} == {3600}
    results = approve_seen(admin, listed, userId=by.id)
    assert results[seen[0]["id"]]["result"] == "skipped"
    # a time is not accepted: it does not tell which transactions were uncommitted
    fast_clock = (datetime.now(UTC) + timedelta(minutes=4, seconds=59)).isoformat()
    for clock in (fast_clock, datetime.now(UTC).isoformat(), str(int(time.time() * 1000))):
        assert refused_fields(post_approval(admin, {"filter": {"userId": by.id}, "syncTimestamp": clock})) == ["syncTimestamp"]
    assert get_bill(by, seen[0])["status"] == "pending"
    with stint.sql() as conn:
        conn.execute("UPDATE time_bills SET seconds = 3600 WHERE id = %s", (seen[0]["id"],))


def test_only_admins_can_approve(bills: Bills, given: Given) -> None:
    by, _, task, seen = bills
    for person in (by, given.person("customer_admin", task["customerId"])):
        problem(post_approval(person, {"bills": [{"id": bill["id"], "version": bill["version"]} for bill in seen]}), 403)
        problem(post_approval(person, {"filter": {}, "syncTimestamp": by.get("/api/time-bills")["syncTimestamp"]}), 403)
    assert [get_bill(by, bill) for bill in seen] == seen


def test_many_bills_of_which_ten_changed(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    given.many_bills(by, task, BILLS)
    seen = admin.get("/api/time-bills", userId=by.id, limit=1000)["items"]
    assert len(seen) == BILLS
    changed = {bill["id"] for bill in random.Random(1).sample(seen, 10)}
    entries = {entry["timeBillId"]: entry for entry in by.get("/api/time-entries", userId=by.id, limit=1000)["items"]}
    for bill_id in changed:
        by.patch(f"/api/time-entries/{entries[bill_id]['id']}", {"duration": 1800})

    start = time.perf_counter()
    result = approve(admin, seen)
    print(f"\n{BILLS} bills: {time.perf_counter() - start:.2f} s")

    assert (result["approved"], result["skipped"]) == (BILLS - 10, 10)
    skipped = [found for found in result["results"] if found["result"] == "skipped"]
    assert {found["id"] for found in skipped} == changed
    given.settled()
    assert stint.rows(
        "SELECT count(*), count(DISTINCT changed_xid), min(seconds) FROM time_bills WHERE user_id = %s AND status = 'approved'",
        by.id,
    ) == [(BILLS - 10, 1, 3600)]
    stint.verify()


def test_more_than_a_thousand_are_refused(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    given.many_bills(by, task, 1001)
    listed = read_list(stint, admin, by)
    assert refused_fields(post_approval(admin, {"filter": {"userId": by.id}, "syncTimestamp": listed["syncTimestamp"]})) == [
        "filter"
    ]
    assert stint.value("SELECT count(*) FROM time_bills WHERE user_id = %s AND status = 'approved'", by.id) == 0
    results = approve_seen(admin, listed, userId=by.id, startDate="2020-01-02")
    assert len(results) == 1000 and {found["result"] for found in results.values()} == {"approved"}
    stint.verify()


def test_concurrent_approvals_of_the_same_bills_approve_each_once(given: Given, stint: Installation) -> None:
    by, admins = given.person(), given.people(4, "internal_admin")
    given.many_bills(by, given.task(by), 200)
    listed = read_list(stint, admins[0], by)
    seen = listed["items"]

    def act(number: int) -> list[Json]:
        if number == 3:
            return list(approve_seen(admins[3], listed, userId=by.id).values())
        results: list[Json] = approve(admins[number], random.Random(number).sample(seen, 200))["results"]
        return results

    with ThreadPoolExecutor(4) as pool:
        found = [item for results in pool.map(act, range(4)) for item in results]
    approved = [item["id"] for item in found if item["result"] == "approved"]
    assert sorted(approved) == sorted(bill["id"] for bill in seen)
    assert stint.rows(
        "SELECT count(*), min(version), max(version) FROM time_bills WHERE user_id = %s AND status = 'approved'", by.id
    ) == [(200, 2, 2)]
    stint.verify()


@pytest.mark.parametrize("kind", ["bills", "filter"])
def test_with_concurrent_changes_no_figure_is_approved_that_was_not_read(kind: str, given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    given.many_bills(by, given.task(by), 40)
    entries = by.get("/api/time-entries", userId=by.id)["items"]
    finished, end = threading.Event(), time.monotonic() + CONTENTION_SECONDS

    def edit(seed: int) -> set[int]:
        pick, answers = random.Random(seed), set()
        while not finished.is_set():
            body = {"duration": pick.randrange(60, 7200), "allowOverlap": True}
            answers.add(by.http.patch(f"/api/time-entries/{pick.choice(entries)['id']}", json=body).status_code)
        return answers

    shown: dict[str, list[Json]] = {}
    with ThreadPoolExecutor(4) as pool:
        editing = [pool.submit(edit, seed) for seed in range(3)]
        approved: set[str] = set()
        try:
            # while a transaction of another test runs, the filter skips bills; then this takes longer
            while time.monotonic() < end or not approved:
                listed = admin.http.get("/api/time-bills", params={"userId": by.id, "status": "pending", "limit": 1000}).json()
                for bill in listed["items"]:
                    shown.setdefault(bill["id"], []).append(bill)
                sample = random.Random(len(approved)).sample(listed["items"], min(5, len(listed["items"])))
                if not sample:
                    break
                if kind == "bills":
                    results = approve(admin, sample)["results"]
                else:
                    day = sample[0]["date"]
                    results = list(approve_seen(admin, listed, userId=by.id, startDate=day, endDate=day).values())
                for found in results:
                    assert found["result"] == "approved" or found["reason"]
                    approved |= {found["id"]} if found["result"] == "approved" else set()
        finally:
            finished.set()
        assert set().union(*(editor.result() for editor in editing)) <= {200, 409}
    given.settled(seconds=120)  # a message for each of hundreds of changes
    assert approved
    for bill_id in approved:
        last = shown[bill_id][-1]  # the list that was read last before the approval
        now = get_bill(by, last)
        assert (now["status"], now["seconds"], now["minutes"]) == ("approved", last["seconds"], last["minutes"])
        assert now["version"] == last["version"] + 1
    stint.verify()
