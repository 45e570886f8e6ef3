"""Approving many bills at once: what is still as it was seen, all in one transaction; never a figure that nobody has seen."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.api.answers import Json, problem, refused_fields
from tests.given import Given, Person
from tests.installation import OTHERS_SECONDS, Installation, eventually


def ask(admin: Person, body: Json) -> httpx.Response:
    return admin.http.post("/api/time-bills/approve-all", json=body)


def approve(admin: Person, bills: list[Json], **more: Any) -> Json:
    answer = ask(admin, {"bills": [{"id": bill["id"], "version": bill["version"]} for bill in bills]} | more)
    assert answer.status_code == 200, answer.text
    result: Json = answer.json()
    assert [found["id"] for found in result["results"]] == [bill["id"] for bill in bills]
    assert result["approved"] + result["skipped"] == len(bills)
    assert result["approved"] == sum(found["result"] == "approved" for found in result["results"])
    return result


def approve_seen(admin: Person, seen: Json, **chosen: str) -> dict[str, Json]:
    answer = ask(admin, {"filter": chosen, "syncTimestamp": seen["syncTimestamp"]})
    assert answer.status_code == 200, answer.text
    return {found["id"]: found for found in answer.json()["results"]}


def read(by: Person, bill: Json) -> Json:
    return by.get(f"/api/time-bills/{bill['id']}")


def looked_at(stint: Installation, by: Person, whose: Person, **filters: Any) -> Json:
    """The list as an admin sees it, once nothing else in this Postgres runs that began before its bills were written: of
    such bills a cursor can't tell that they were seen, and they would be skipped."""
    newest = "SELECT max(changed_xid::text::numeric) FROM time_bills WHERE user_id = %s"

    def seen() -> Json | None:
        found = by.get("/api/time-bills", limit=1000, userId=whose.id, **filters)
        return found if int(found["syncTimestamp"].partition(".")[2]) > stint.value(newest, whose.id) else None

    found: Json = eventually(seen, seconds=OTHERS_SECONDS)
    return found


@pytest.fixture
def bills(given: Given) -> tuple[Person, Person, Json, list[Json]]:
    """A consultant, an admin, a task, and four pending bills of it, oldest first."""
    by, admin = given.person(), given.admin()
    task = given.task(by)
    ids = given.many_bills(by, task, 4)
    return by, admin, task, [admin.get(f"/api/time-bills/{bill_id}") for bill_id in ids]


Bills = tuple[Person, Person, Json, list[Json]]


def test_bills_that_are_as_they_were_seen_are_approved(bills: Bills, stint: Installation) -> None:
    by, admin, _, seen = bills
    result = approve(admin, seen[::-1])
    assert result["results"] == [
        {"id": bill["id"], "result": "approved", "reason": None, "current": None} for bill in seen[::-1]
    ]
    for bill in seen:
        now = read(by, bill)
        expected = {"status": "approved", "approvedBy": admin.id, "version": bill["version"] + 1, "minutes": 60}
        assert {name: now[name] for name in expected} == expected and now["xero"]["status"] == "not_connected"
    again = approve(admin, [read(by, bill) for bill in seen])
    assert {(found["result"], found["current"]["status"]) for found in again["results"]} == {("skipped", "approved")}
    assert all("approved" in found["reason"] for found in again["results"])
    stint.verify()


def test_what_was_not_seen_like_this_or_cannot_be_approved_is_skipped_with_the_reason(
    given: Given, stint: Installation
) -> None:
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
    empty = read(by, empty)
    timer = by.http.put("/api/active-timers/me", json={"taskId": task["id"]}).json()
    with stint.sql() as conn:
        conn.execute("UPDATE timers SET start_time = %s WHERE id = %s", (f"{running['date']}T12:00:00Z", timer["id"]))
    unknown = {"id": given.new_id(), "version": 1}
    seen = [kept, approved, rejected, changed, written, empty, running, unknown]

    result = approve(admin, seen)

    assert (result["approved"], result["skipped"]) == (1, 7)
    found = dict(
        zip(
            ["kept", "approved", "rejected", "changed", "written", "empty", "running", "unknown"],
            result["results"],
            strict=True,
        )
    )
    assert found.pop("kept")["result"] == "approved"
    for name, bill in zip(found, seen[1:], strict=True):
        assert found[name]["result"] == "skipped" and found[name]["reason"]
        assert found[name]["current"] == (read(by, bill) if bill is not unknown else None), name
    words = {
        "approved": "is approved", "rejected": "is rejected", "changed": "changed", "written": "changed",
        "empty": "no minutes", "running": "timer", "unknown": "no such",
    }  # fmt: skip
    assert all(word in found[name]["reason"] for name, word in words.items()), found
    assert found["changed"]["current"]["minutes"] == 30
    by.delete("/api/active-timers/me")
    again = approve(admin, [found["changed"]["current"], found["written"]["current"], running])
    assert again["approved"] == 3  # what is shown as `current` has been seen
    stint.verify()


@pytest.mark.parametrize("wrong", [False, True])
def test_a_stale_bill_is_summed_first_and_a_sum_that_nobody_saw_is_skipped(
    wrong: bool, bills: Bills, stint: Installation
) -> None:
    by, admin, _, seen = bills
    with stint.sql() as conn:  # nobody has been promised to sum it
        conn.execute("UPDATE time_bills SET stale = true, seconds = seconds + %s WHERE id = %s", (60 * wrong, seen[0]["id"]))
    bill = read(by, seen[0])
    result = approve(admin, [bill, seen[1]])
    if wrong:
        current = result["results"][0]["current"]
        assert (result["approved"], current["seconds"], current["version"]) == (1, 3600, bill["version"] + 1)
        assert current == read(by, bill)
        assert approve(admin, [current])["approved"] == 1
    else:
        assert result["approved"] == 2
    stint.verify()


def test_a_list_is_approved_as_it_was_seen(bills: Bills, given: Given, stint: Installation) -> None:
    by, admin, task, (first, second, third, fourth) = bills
    admin.patch(f"/api/time-bills/{fourth['id']}", {"status": "rejected", "rejectionNote": "no"})
    seen = looked_at(stint, admin, by)
    by.patch(f"/api/time-bills/{second['id']}", {"memo": "a change"})
    admin.patch(f"/api/time-bills/{third['id']}", {"status": "approved"})
    late = given.logged(by, task, start="2019-05-05T09:00:00Z")  # a bill that nobody saw
    given.settled()

    results = approve_seen(admin, seen, userId=by.id)

    assert {bill_id: found["result"] for bill_id, found in results.items()} == {
        first["id"]: "approved", second["id"]: "skipped", third["id"]: "skipped", late["timeBillId"]: "skipped"
    }  # fmt: skip
    assert "changed" in results[second["id"]]["reason"] and results[second["id"]]["current"] == read(by, second)
    assert "approved" in results[third["id"]]["reason"]
    assert [read(by, bill)["status"] for bill in (first, second, third, fourth)] == [
        "approved", "pending", "approved", "rejected",
    ]  # fmt: skip
    results = approve_seen(admin, looked_at(stint, admin, by), userId=by.id)
    assert {found["result"] for found in results.values()} == {"approved"} and len(results) == 2
    assert approve_seen(admin, looked_at(stint, admin, by), userId=by.id) == {}
    stint.verify()


def test_the_filter_means_what_it_means_in_the_list(bills: Bills, given: Given, stint: Installation) -> None:
    by, admin, task, seen = bills
    other = given.task(by)
    given.many_bills(by, other, 1)
    for chosen, expected in (
        ({"startDate": "2020-01-04"}, seen[3:]),
        ({"startDate": "2020-01-02", "endDate": "2020-01-02"}, seen[1:2]),
        ({"endDate": "2020-01-01", "customerId": task["customerId"]}, seen[:1]),
        ({"userId": given.new_id()}, []),
        ({"customerId": other["customerId"]}, None),
    ):
        chosen = {"userId": by.id} | chosen
        listed = looked_at(stint, admin, by)
        pending = [item for item in admin.http.get("/api/time-bills", params={**chosen, "status": "pending"}).json()["items"]]
        results = approve_seen(admin, listed, **chosen)
        assert results.keys() == {bill["id"] for bill in pending}
        assert expected is None or results.keys() == {bill["id"] for bill in expected}
    assert {read(by, bill)["status"] for bill in (seen[0], seen[1], seen[3])} == {"approved"}
    assert read(by, seen[2])["status"] == "pending"


def test_a_list_that_was_read_while_an_edit_was_under_way_approves_no_new_figures(bills: Bills, stint: Installation) -> None:
    by, admin, _, seen = bills
    with stint.sql() as conn, conn.transaction():
        conn.execute("UPDATE time_bills SET seconds = 60 WHERE id = %s", (seen[0]["id"],))
        time.sleep(2)
        listed = admin.get("/api/time-bills", userId=by.id)
        assert {item["seconds"] for item in listed["items"]} == {3600}
    results = approve_seen(admin, listed, userId=by.id)
    assert results[seen[0]["id"]]["result"] == "skipped"
    # a client's clock tells less than that, and is no timestamp of a list
    fast_clock = (datetime.now(UTC) + timedelta(minutes=4, seconds=59)).isoformat()
    for clock in (fast_clock, datetime.now(UTC).isoformat(), str(int(time.time() * 1000))):
        assert refused_fields(ask(admin, {"filter": {"userId": by.id}, "syncTimestamp": clock})) == ["syncTimestamp"]
    assert read(by, seen[0])["status"] == "pending"
    with stint.sql() as conn:
        conn.execute("UPDATE time_bills SET seconds = 3600 WHERE id = %s", (seen[0]["id"],))


def test_only_admins_approve(bills: Bills, given: Given) -> None:
    by, _, task, seen = bills
    for person in (by, given.person("customer_admin", task["customerId"])):
        problem(ask(person, {"bills": [{"id": bill["id"], "version": bill["version"]} for bill in seen]}), 403)
        problem(ask(person, {"filter": {}, "syncTimestamp": by.get("/api/time-bills")["syncTimestamp"]}), 403)
    assert [read(by, bill) for bill in seen] == seen


def test_a_thousand_bills_of_which_ten_changed(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    given.many_bills(by, task, 1000)
    seen = admin.get("/api/time-bills", userId=by.id, limit=1000)["items"]
    assert len(seen) == 1000
    changed = {bill["id"] for bill in random.Random(1).sample(seen, 10)}
    entries = {entry["timeBillId"]: entry for entry in by.get("/api/time-entries", userId=by.id, limit=1000)["items"]}
    for bill_id in changed:
        by.patch(f"/api/time-entries/{entries[bill_id]['id']}", {"duration": 1800})

    begun = time.perf_counter()
    result = approve(admin, seen)
    print(f"\n1,000 bills: {time.perf_counter() - begun:.2f} s")

    assert (result["approved"], result["skipped"]) == (990, 10)
    skipped = [found for found in result["results"] if found["result"] == "skipped"]
    assert {found["id"] for found in skipped} == changed
    given.settled()
    assert stint.rows(
        "SELECT count(*), count(DISTINCT changed_xid), min(seconds) FROM time_bills WHERE user_id = %s AND status = 'approved'",
        by.id,
    ) == [(990, 1, 3600)]
    stint.verify()


def test_more_than_a_thousand_are_refused(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    given.many_bills(by, task, 1001)
    listed = looked_at(stint, admin, by)
    assert refused_fields(ask(admin, {"filter": {"userId": by.id}, "syncTimestamp": listed["syncTimestamp"]})) == ["filter"]
    assert stint.value("SELECT count(*) FROM time_bills WHERE user_id = %s AND status = 'approved'", by.id) == 0
    results = approve_seen(admin, listed, userId=by.id, startDate="2020-01-02")
    assert len(results) == 1000 and {found["result"] for found in results.values()} == {"approved"}
    stint.verify()


def test_two_who_approve_the_same_bills_at_once_approve_each_once(given: Given, stint: Installation) -> None:
    by, admins = given.person(), given.people(4, "internal_admin")
    given.many_bills(by, given.task(by), 200)
    listed = looked_at(stint, admins[0], by)
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


@pytest.mark.parametrize("way", ["bills", "filter"])
def test_against_edits_at_once_no_figure_is_approved_that_was_not_seen(way: str, given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    given.many_bills(by, given.task(by), 40)
    entries = by.get("/api/time-entries", userId=by.id)["items"]
    over, end = threading.Event(), time.monotonic() + 4

    def edit(seed: int) -> set[int]:
        pick, answers = random.Random(seed), set()
        while not over.is_set():
            body = {"duration": pick.randrange(60, 7200), "allowOverlap": True}
            answers.add(by.http.patch(f"/api/time-entries/{pick.choice(entries)['id']}", json=body).status_code)
        return answers

    shown: dict[str, list[Json]] = {}
    with ThreadPoolExecutor(4) as pool:
        editing = [pool.submit(edit, seed) for seed in range(3)]
        approved: set[str] = set()
        try:
            # a transaction of another test may hold back what a filter takes for seen; then this takes longer
            while time.monotonic() < end or not approved:
                listed = admin.http.get("/api/time-bills", params={"userId": by.id, "status": "pending", "limit": 1000}).json()
                for bill in listed["items"]:
                    shown.setdefault(bill["id"], []).append(bill)
                chosen = random.Random(len(approved)).sample(listed["items"], min(5, len(listed["items"])))
                if not chosen:
                    break
                if way == "bills":
                    results = approve(admin, chosen)["results"]
                else:
                    day = chosen[0]["date"]
                    results = list(approve_seen(admin, listed, userId=by.id, startDate=day, endDate=day).values())
                for found in results:
                    assert found["result"] == "approved" or found["reason"]
                    approved |= {found["id"]} if found["result"] == "approved" else set()
        finally:
            over.set()
        assert set().union(*(editor.result() for editor in editing)) <= {200, 409}
    given.settled()
    assert approved
    for bill_id in approved:
        last = shown[bill_id][-1]  # no other list was read before it was approved
        now = read(by, last)
        assert (now["status"], now["seconds"], now["minutes"]) == ("approved", last["seconds"], last["minutes"])
        assert now["version"] == last["version"] + 1
    stint.verify()
