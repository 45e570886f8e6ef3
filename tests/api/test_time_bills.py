"""Changing time bills: who may change what, and that no wrong sum is ever approved."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx2
import pytest

from tests.support.answers import Json, problem, refused_fields, until_free
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually


def change(by: Person, bill: Json, **body: object) -> httpx2.Response:
    return by.http.patch(f"/api/time-bills/{bill['id']}", json=body)


def get_bill(by: Person, bill: Json) -> Json:
    return by.get(f"/api/time-bills/{bill['id']}")


def test_only_the_owner_writes_the_memo(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.bill(by)
    problem(change(admin, bill, memo="not mine"), 403)
    written = change(by, bill, memo="Moved the server\nfrom A to B").json()
    assert (written["memo"], written["status"], written["version"]) == (
        "Moved the server\nfrom A to B",
        "pending",
        bill["version"] + 1,
    )


@pytest.mark.parametrize("body", [
    {"status": "approved"}, {"status": "rejected", "rejectionNote": "why"}, {"status": "pending"}, {"rejectionNote": "why"},
])  # fmt: skip
def test_only_admins_change_the_status(body: Json, given: Given) -> None:
    by = given.person()
    bill = given.bill(by)
    problem(change(by, bill, **body), 403)
    problem(change(by, bill, memo="and a memo", **body), 403)  # all or nothing
    assert get_bill(by, bill) == bill


def test_an_admin_cannot_write_a_memo_together_with_a_status(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.bill(by)
    problem(change(admin, bill, memo="not mine", status="approved"), 403)
    assert get_bill(by, bill) == bill


def test_an_admin_who_owns_the_bill_may_send_both(given: Given) -> None:
    admin = given.admin()
    bill = given.bill(admin)
    done = change(admin, bill, memo="mine", status="approved").json()
    assert (done["memo"], done["status"], done["approvedBy"]) == ("mine", "approved", admin.id)


def test_if_the_transition_is_refused_the_memo_is_not_written(given: Given) -> None:
    admin = given.admin()
    bill = given.bill(admin)
    problem(change(admin, bill, memo="mine", status="pending"), 409)
    assert get_bill(admin, bill) == bill


def test_a_rejection_has_a_note(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.bill(by)
    rejected = change(admin, bill, status="rejected", rejectionNote="  too long ").json()
    assert (rejected["status"], rejected["rejectionNote"]) == ("rejected", "too long")
    assert change(admin, bill, rejectionNote="much too long").json()["rejectionNote"] == "much too long"
    problem(change(admin, bill, status="rejected", rejectionNote="again"), 409)
    for unseen in ("", " ", "\u200b", "\u2800\u00ad"):
        assert refused_fields(change(admin, bill, rejectionNote=unseen)) == ["rejectionNote"]


def test_a_note_beside_a_memo_which_makes_the_bill_pending_is_refused_as_that(given: Given) -> None:
    admin = given.admin()
    bill = given.bill(admin)
    change(admin, bill, status="rejected", rejectionNote="what was it?")
    refused = problem(change(admin, bill, memo="the mail server", rejectionNote="still unclear"), 422)
    assert "not rejected" not in refused["detail"] and "memo" in refused["detail"]
    assert change(admin, bill, memo="the mail server", status="rejected", rejectionNote="still unclear").status_code == 200


def test_the_owners_memo_makes_a_rejected_bill_pending(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.bill(by)
    change(admin, bill, status="rejected", rejectionNote="what was it?")
    after = change(by, bill, memo="the mail server").json()
    assert (after["status"], after["rejectionNote"], after["memo"]) == ("pending", None, "the mail server")
    assert change(admin, bill, status="approved").status_code == 200


def test_late_time_makes_a_rejected_bill_pending(given: Given) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    stopped = given.stopped(by, task)
    bill = stopped["timeBill"]
    change(admin, bill, status="rejected", rejectionNote="nothing")
    assert given.stopped(by, task)["timeBill"]["id"] == bill["id"]
    assert get_bill(by, bill)["status"] == "pending"


def test_a_bill_with_a_running_timer_cannot_be_approved(given: Given) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    stopped = given.stopped(by, task)
    by.patch(f"/api/time-entries/{stopped['entryId']}", {"duration": 600, "allowOverlap": True})
    given.settled()
    bill = stopped["timeBill"]
    other = given.task(by)  # another customer's
    by.post(f"/api/tasks/{task['id']}/start")
    assert "timer" in problem(change(admin, bill, status="approved"), 409)["detail"]
    by.post(f"/api/tasks/{other['id']}/start")
    given.settled()
    assert change(admin, bill, status="approved").status_code == 200


def test_of_fifty_parallel_approvals_one_succeeds(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    bill = given.bill(by)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: until_free(lambda: change(admin, bill, status="approved")), range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 49
    approved = next(answer.json() for answer in answers if answer.status_code == 200)
    assert all(problem(answer, 409)["current"] == approved for answer in answers if answer.status_code == 409)
    assert approved["version"] == bill["version"] + 1
    stint.verify()


def test_a_stale_version_is_409_with_the_current_figures(given: Given) -> None:
    by, admin = given.person(), given.admin()
    entry = given.entry(by)
    bill = get_bill(by, {"id": entry["timeBillId"]})
    by.patch(f"/api/time-entries/{entry['id']}", {"duration": 1800})  # the sum may not be recalculated yet

    refused = problem(change(admin, bill, status="approved", version=bill["version"]), 409)

    assert (refused["current"]["seconds"], refused["current"]["minutes"]) == (1800, 30)
    assert refused["current"]["status"] == "pending"
    given.settled()
    now = get_bill(by, bill)
    assert change(admin, bill, status="approved", version=now["version"]).json()["minutes"] == 30


def test_an_approval_recalculates_a_stale_sum(given: Given) -> None:
    by, admin = given.person(), given.admin()
    entry = given.entry(by)
    by.patch(f"/api/time-entries/{entry['id']}", {"duration": 7200})
    assert change(admin, {"id": entry["timeBillId"]}, status="approved").json()["minutes"] == 120


def test_approved_at_is_when_the_lock_was_granted(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    bill = given.bill(by)
    with ThreadPoolExecutor(1) as pool:
        with stint.sql() as conn, conn.transaction():
            conn.execute("SELECT 1 FROM time_bills WHERE id = %s FOR UPDATE", (bill["id"],))
            approving = pool.submit(change, admin, bill, status="approved")
            eventually(lambda: stint.blocked() > 0, why="the approval waits for the bill")
            released = stint.value("SELECT clock_timestamp()")
        approved = approving.result().json()
    # transactions that changed an entry while the approval waited started before this moment: ./stint verify relies on that
    assert datetime.fromisoformat(approved["approvedAt"]) > released


def test_an_approved_bill_cannot_be_changed(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    bill = given.approved_bill(by, admin, task, minutes=90)
    assert (bill["minutes"], bill["status"], bill["approvedBy"]) == (90, "approved", admin.id)
    entry = by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]

    problem(by.http.patch(f"/api/time-entries/{entry['id']}", json={"duration": 60}), 409)
    for body in ({"memo": "late"},):
        assert problem(change(by, bill, **body), 409)["current"] == bill
    for body in ({"status": "approved"}, {"status": "rejected", "rejectionNote": "no"}):
        assert problem(change(admin, bill, **body), 409)["current"] == bill
    assert get_bill(by, bill) == bill
    stint.verify()


def late_entry(given: Given, by: Person, task: Json, minutes: int) -> Json:
    """An entry for the day of an approved bill; it is on a second bill."""
    return given.entry(by, task, start="2026-03-02T15:00:00Z", minutes=minutes)


def test_late_time_opens_a_second_bill_and_reopening_merges_it(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    first = given.bill(by, task, minutes=60)
    change(by, first, memo="in time")
    approved = change(admin, first, status="approved").json()
    entry = late_entry(given, by, task, 30)
    second = get_bill(by, {"id": entry["timeBillId"]})
    assert second["id"] != first["id"]
    assert (second["date"], second["minutes"], second["status"]) == (approved["date"], 30, "pending")
    assert get_bill(by, first) == approved
    change(by, second, memo="late")

    reopened = change(admin, first, status="pending").json()

    assert (reopened["status"], reopened["minutes"], reopened["seconds"]) == ("pending", 90, 5400)
    assert reopened["memo"] == "in time\nlate"
    assert (reopened["approvedBy"], reopened["approvedAt"]) == (None, None)
    problem(by.http.get(f"/api/time-bills/{second['id']}"), 404)
    problem(change(admin, second, status="approved"), 404)
    moved = by.get("/api/time-entries", timeBillId=first["id"])["items"]
    assert sorted(item["duration"] for item in moved) == [1800, 3600]
    assert not any(item["locked"] for item in moved)
    assert [bill["id"] for bill in by.get("/api/time-bills", userId=by.id)["items"] if bill["seconds"]] == [first["id"]]
    stint.verify()

    assert change(admin, first, status="approved").json()["minutes"] == 90
    stint.verify()


def test_a_late_stop_is_billed_on_a_second_bill(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    stopped = given.stopped(by, task)
    bill = stopped["timeBill"]
    by.patch(f"/api/time-entries/{stopped['entryId']}", {"duration": 600})
    approved = change(admin, bill, status="approved").json()

    again = given.stopped(by, task)

    assert again["timeBill"]["id"] != bill["id"]
    assert get_bill(by, bill) == approved
    stint.verify()


def test_only_an_approved_bill_is_reopened_and_only_by_an_admin(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.approved_bill(by, admin)
    problem(change(by, bill, status="pending"), 403)
    assert change(admin, bill, status="pending").json()["status"] == "pending"
    problem(change(admin, bill, status="pending"), 409)


def test_of_twenty_parallel_reopenings_one_succeeds(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    bill = given.approved_bill(by, admin, task)
    late_entry(given, by, task, 30)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: change(admin, bill, status="pending"), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    assert get_bill(by, bill)["seconds"] == 5400
    stint.verify()


SUMS = """
    SELECT b.id, b.seconds, b.approved_seconds, (SELECT sum(e.duration) FROM time_entries e WHERE e.bill_id = b.id)
    FROM time_bills b WHERE b.user_id = %s AND b.status = 'approved'
"""


@pytest.mark.parametrize("seed", range(2))
def test_concurrent_changes_stops_and_approvals_never_approve_a_wrong_sum(seed: int, given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    entries = [given.stopped(by, task)["entry"] for _ in range(6)]
    day = entries[0]["startTime"][:11]

    def act(number: int) -> httpx2.Response:
        pick = random.Random(seed * 1000 + number)
        match pick.choice(["edit", "edit", "edit", "move", "start", "stop", "approve", "reopen", "reject"]):
            case "edit":
                body: Json = {"duration": pick.randrange(60, 4000), "allowOverlap": True}
                return by.http.patch(f"/api/time-entries/{pick.choice(entries)['id']}", json=body)
            case "move":
                start = pick.choice([f"{day}10:00:00Z", "2026-03-05T10:00:00Z"])
                body = {"startTime": start, "duration": 300, "allowOverlap": True}
                return by.http.patch(f"/api/time-entries/{pick.choice(entries)['id']}", json=body)
            case "start":
                return by.http.post(f"/api/tasks/{task['id']}/start")
            case "stop":
                return by.http.post(f"/api/tasks/{task['id']}/stop")
            case action:
                bills = admin.get("/api/time-bills", userId=by.id)["items"]
                status = {"approve": "approved", "reopen": "pending", "reject": "rejected"}[action]
                note = {"rejectionNote": "no"} if action == "reject" else {}
                return change(admin, pick.choice(bills), status=status, **note)

    for round_number in range(3):
        # fewer threads than connections, and so few that none waits 10 s for the locks of the others on a busy machine: a 503
        # would mean a deadlock
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(act, range(round_number * 60, round_number * 60 + 60)))
        assert {answer.status_code for answer in answers} <= {200, 201, 202, 404, 409}, [
            answer.text for answer in answers if answer.status_code >= 500
        ]
        for bill_id, seconds, approved, entered in stint.rows(SUMS, by.id):
            assert seconds == approved == entered, bill_id
    given.settled()
    stint.verify()
    total = stint.value("SELECT sum(duration) FROM time_entries WHERE user_id = %s", by.id)
    assert stint.value("SELECT sum(seconds) FROM time_bills WHERE user_id = %s AND deleted_at IS NULL", by.id) == total
    assert given.dead_letters() == []
