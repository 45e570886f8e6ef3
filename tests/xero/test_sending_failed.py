"""POST /api/xero/time-bills/send: an admin sends failed bills again, in one request."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.answers import problem
from tests.support.firm_with_xero import Firm
from tests.support.given import Json
from tests.support.installation import eventually

PATH = "/api/xero/time-bills/send"
UNSENT = "SELECT state FROM messages WHERE actor = 'sync_bill' AND body->>'bill_id' = %s AND state IN ('dead', 'discarded')"


def failed(firm: Firm, days: int = 1, *, first: int = 2) -> list[Json]:
    """Bills that Xero has refused, because their task had a fixed price; it is by the hour afterwards."""
    task = mapped_task(firm, "FIXED")
    bills = [firm.approved(10 * day, f"2026-03-0{day}") for day in range(first, first + days)]
    for bill in bills:
        firm.wait_for_status(bill, "failed")
    firm.xero.change_task(task, chargeType="TIME")
    return bills


def mapped_task(firm: Firm, charge_type: str) -> Json:
    """A task of the project, to which the pillar was mapped before it got this charge type."""
    task = firm.xero.task(firm.project, f"Task {charge_type}")
    firm.map_pillar(task["taskId"])
    firm.xero.change_task(task, chargeType=charge_type)
    return task


def send(firm: Firm, status: int = 200, **body: Any) -> Json:
    return firm.admin.post(PATH, {"reason": "mapped to the right task", **body}, status=status)


def test_failed_bills_are_sent_again_and_their_dead_letters_are_gone(firm: Firm) -> None:
    bills = failed(firm, 3)

    answer = send(firm, ids=[bill["id"] for bill in bills])

    assert answer == {
        "sent": 3,
        "skipped": 0,
        "remaining": 0,
        "results": [{"id": bill["id"], "result": "sent", "reason": None} for bill in bills],
    }
    for bill in bills:
        assert firm.wait_for_status(bill, "synced")["xero"]["error"] is None
        assert firm.stint.rows(UNSENT, bill["id"]) == []
    [message] = firm.stint.rows("SELECT id::text FROM messages WHERE body->>'bill_id' = %s", bills[0]["id"])
    [event] = firm.admin.get(f"/api/dead-letters/{message[0]}")["history"]
    assert (event["who"], event["action"], event["reason"]) == (firm.admin.email, "replay", "mapped to the right task")
    firm.check()


def test_the_same_request_many_times_at_once_doubles_nothing(firm: Firm) -> None:
    bills = failed(firm, 4)
    done = firm.approved(60, "2026-03-09")
    firm.wait_for_status(done, "synced")
    body = {"ids": [bill["id"] for bill in [*bills, done]], "reason": "fixed"}
    firm.xero.configure(latencySeconds=0.3)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: firm.admin.http.post(PATH, json=body), range(16)))

    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["sent"] for answer in answers) == 4
    for answer in answers:
        assert all(result["reason"] for result in answer.json()["results"] if result["result"] == "skipped")
        assert answer.json()["results"][-1]["reason"] == "It is in Xero already."
    for bill in bills:
        firm.wait_for_status(bill, "synced")
    firm.settled()
    assert send(firm, ids=body["ids"])["sent"] == 0
    firm.check()  # one entry for each bill


def test_sending_while_somebody_replays_the_dead_letters_doubles_nothing(firm: Firm) -> None:
    bills = failed(firm, 3)
    replay = {"select": {"filter": {"actor": "sync_bill"}}, "reason": "fixed"}
    body = {"ids": [bill["id"] for bill in bills], "reason": "fixed"}

    def act(number: int) -> int:
        path, content = ("/api/dead-letters/replay", replay) if number % 2 else (PATH, body)
        return firm.admin.http.post(path, json=content).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(act, range(12))) <= {200, 202}
    # they replay the dead letters of other tests, too
    replaying = "SELECT count(*) FROM replays WHERE state = 'running'"
    eventually(lambda: firm.stint.value(replaying) == 0, seconds=60, why="no replay continues in the next test")
    for bill in bills:
        eventually(lambda bill=bill: send(firm, ids=[bill["id"]])["results"][0]["reason"] == "It is in Xero already.")
    firm.settled()
    assert [firm.stint.rows(UNSENT, bill["id"]) for bill in bills] == [[], [], []]
    firm.check()


def test_a_filter_selects_failed_bills_only(firm: Firm) -> None:
    bills = failed(firm, 3)
    of_customer = {"customerId": firm.customer["id"]}
    assert send(firm, filter=of_customer | {"error": "100%_"})["results"] == []
    assert send(firm, filter=of_customer | {"startDate": "2026-03-05"})["results"] == []
    one = send(firm, filter=of_customer | {"endDate": "2026-03-02", "error": "FIXED price"})
    assert [result["id"] for result in one["results"]] == [bills[0]["id"]]
    rest = send(firm, filter=of_customer | {"userId": firm.by.id})
    assert {result["id"] for result in rest["results"]} == {bill["id"] for bill in bills[1:]}
    for bill in bills:
        firm.wait_for_status(bill, "synced")
    assert send(firm, filter={})["results"] == []
    firm.check()


def test_a_bill_that_is_refused_again_has_failed_again_and_can_be_sent_again(firm: Firm) -> None:
    [bill] = failed(firm)
    task = firm.xero.task(firm.project, "Task FIXED")  # the same one
    firm.xero.change_task(task, chargeType="FIXED")
    assert send(firm, ids=[bill["id"]])["sent"] == 1
    firm.settled()
    assert "fixed price" in firm.wait_for_status(bill, "failed")["xero"]["error"]
    assert firm.stint.rows(UNSENT, bill["id"]) == [("dead",)]
    firm.xero.change_task(task, chargeType="TIME")
    assert send(firm, ids=[bill["id"]])["sent"] == 1
    firm.wait_for_status(bill, "synced")
    firm.check()


def test_a_bill_whose_dead_letter_was_discarded_is_sent_again(firm: Firm) -> None:
    [bill] = failed(firm)
    discard = {"select": {"filter": {"actor": "sync_bill", "q": bill["id"]}}, "reason": "by mistake"}
    assert firm.admin.post("/api/dead-letters/discard", discard, status=200)["count"] == 1
    assert send(firm, ids=[bill["id"]])["sent"] == 1
    firm.wait_for_status(bill, "synced")
    firm.check()


def test_bills_that_have_not_failed_say_why_they_are_not_sent(firm: Firm) -> None:
    pending = firm.bill(60, "2026-03-20")
    firm.map_pillar(None)
    waiting = firm.approved(60, "2026-03-21")
    firm.wait_for_status(waiting, "not_mapped")
    unknown = firm.given.new_id()
    answer = send(firm, ids=[pending["id"], waiting["id"], unknown, unknown])
    assert (answer["sent"], answer["skipped"]) == (0, 3)
    reasons = {result["id"]: result["reason"] for result in answer["results"]}
    assert "not approved" in reasons[pending["id"]] and "mapped" in reasons[waiting["id"]]
    assert reasons[unknown] == "There is no such time bill."


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"reason": "fixed"}, ""),
        ({"reason": "fixed", "ids": [], "filter": {}}, "ids"),
        ({"reason": "fixed", "ids": ["00000000-0000-4000-8000-000000000000"], "filter": {}}, ""),
        ({"ids": ["00000000-0000-4000-8000-000000000000"]}, "reason"),
        ({"reason": "", "filter": {}}, "reason"),
        ({"reason": "fixed", "filter": {"startDate": "2026-03-02", "endDate": "2026-03-01"}}, "filter.endDate"),
        ({"reason": "fixed", "filter": {"xeroStatus": "synced"}}, "filter.xeroStatus"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(body: Json, path: str, firm: Firm) -> None:
    refused = problem(firm.admin.http.post(PATH, json=body), 422)
    assert path in [fault["path"] for fault in refused["errors"]]
