"""Time entries that people change or delete in Xero: their bills differ until an admin sends them again or accepts that."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from schemas.diagnosis.findings import diagnose
from schemas.diagnosis.status import InstallationStatus
from tests.support.answers import problem
from tests.support.firm_with_xero import Firm
from tests.support.given import Json
from tests.support.installation import CHECKOUT, eventually
from tests.support.pages import assert_answers, sample

ACCEPT = "/api/xero/time-bills/accept"
SEND = "/api/xero/time-bills/send"
PAGE = CHECKOUT / "docs/xero.md"


def synced(firm: Firm, minutes: int = 60, day: str = "2026-03-02", memo: str = "") -> Json:
    """A synced bill whose project is the only one that is checked."""
    bill = firm.bill(minutes, day)
    if memo:
        firm.by.patch(f"/api/time-bills/{bill['id']}", {"memo": memo})
    bill = firm.wait_for_status(firm.change(bill, status="approved"), "synced")
    firm.check_only_its_project()
    return bill


def change(firm: Firm, bill: Json, **fields: Any) -> Json:
    """Changes the bill's entry by hand, and waits until the bill differs."""
    firm.xero.change_entry(bill["xero"]["timeEntryId"], **fields)
    return firm.wait_for_status(bill, "differs", seconds=40)


def delete(firm: Firm, bill: Json) -> Json:
    firm.xero.delete_entry(bill["xero"]["timeEntryId"])
    return firm.wait_for_status(bill, "differs", seconds=40)


def choose(firm: Firm, path: str, *bills: Json, reason: str = "agreed with the customer") -> Json:
    answer: Json = firm.admin.post(path, {"ids": [bill["id"] for bill in bills], "reason": reason}, status=200)
    return answer


@pytest.mark.parametrize(
    ("fields", "changed", "shown"),
    [
        ({"duration": 5}, ["minutes"], {"minutes": 5}),
        ({"dateUtc": "2026-03-05T12:00:00Z"}, ["date"], {"date": "2026-03-05"}),
        ({"description": "Moved the server"}, ["description"], {"description": "Moved the server"}),
        ({"description": None}, ["description"], {"description": ""}),
        ({"userId": "somebody"}, ["user"], {}),
        ({"taskId": "another"}, ["task"], {}),
        ({"duration": 90, "taskId": "another"}, ["minutes", "task"], {"minutes": 90}),
    ],
    ids=str,
)
def test_a_change_by_hand_is_shown_and_overwritten_when_an_admin_sends_the_bill_again(
    fields: Json, changed: list[str], shown: Json, firm: Firm
) -> None:
    bill = synced(firm)
    [before] = firm.entries()
    if "taskId" in fields:
        fields = fields | {"taskId": firm.xero.task(firm.project, "Another task")["taskId"]}

    differs = change(firm, bill, **fields)

    in_xero = {"deleted": False, "minutes": 60, "date": "2026-03-02", "description": before["description"]}
    assert differs["xero"]["inXero"] == in_xero | {"changed": changed} | shown
    assert "was changed in Xero" in differs["xero"]["error"] and differs["minutes"] == 60
    assert differs["xero"]["timeEntryId"] == before["timeEntryId"] and differs["status"] == "approved"
    assert choose(firm, SEND, bill)["sent"] == 1
    again = firm.wait_for_status(bill, "synced")
    assert (again["xero"]["inXero"], again["xero"]["error"], again["xero"]["accepted"]) == (None, None, None)
    [entry] = firm.entries()
    assert {**entry, "dateUtc": ""} == {**before, "dateUtc": ""} and entry["dateUtc"][:10] == before["dateUtc"][:10]
    firm.check()


def test_a_deleted_entry_is_noticed_and_created_again_only_when_an_admin_wants_it(firm: Firm) -> None:
    bill, other = synced(firm), synced(firm, day="2026-03-03")
    posts = len(firm.xero.calls("/Time", "POST"))

    differs = delete(firm, bill)

    assert differs["xero"]["inXero"] == {"deleted": True, "minutes": 0, "date": None, "description": None, "changed": []}
    assert "deleted in Xero" in differs["xero"]["error"]
    assert len(firm.xero.calls("/Time", "POST")) == posts and firm.read(other)["xero"]["status"] == "synced"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: choose(firm, SEND, bill), range(8)))
    assert sum(answer["sent"] for answer in answers) == 1
    assert firm.wait_for_status(bill, "synced")["xero"]["timeEntryId"] != bill["xero"]["timeEntryId"]
    assert len(firm.entries()) == 2
    firm.check()


def test_what_is_in_xero_can_be_accepted_until_it_changes_again(firm: Firm) -> None:
    bill = synced(firm, memo="Moved the server")
    assert_answers(sample(PAGE, '{"…": "…", "minutes"'), change(firm, bill, duration=5))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: choose(firm, ACCEPT, bill), range(8)))

    assert sum(answer["accepted"] for answer in answers) == 1
    assert {answer["results"][0]["reason"] for answer in answers} == {None, "It is accepted already."}
    assert [answer["results"][0]["minutes"] for answer in answers if answer["accepted"]] == [5]
    accepted = firm.read(bill)["xero"]
    assert (accepted["status"], accepted["error"], accepted["inXero"]["minutes"]) == ("synced", None, 5)
    assert accepted["accepted"] == {
        "minutes": 5, "reason": "agreed with the customer", "by": firm.admin.email, "at": accepted["accepted"]["at"]
    }  # fmt: skip
    rounds = len(firm.xero.calls(firm.project["projectId"], "GET"))
    eventually(lambda: len(firm.xero.calls(firm.project["projectId"], "GET")) > rounds + 2, seconds=30, why="checked twice")
    assert firm.read(bill)["xero"] == accepted and firm.entries()[0]["duration"] == 5
    firm.stint.verify()

    differs = change(firm, bill, duration=6)["xero"]
    assert (differs["inXero"]["minutes"], differs["accepted"]) == (6, None)
    assert choose(firm, ACCEPT, bill)["accepted"] == 1
    assert choose(firm, SEND, bill)["sent"] == 1  # after all
    assert firm.wait_for_status(bill, "synced")["xero"]["accepted"] is None
    firm.check()


def test_a_deletion_can_be_accepted_and_the_bill_reopened(firm: Firm) -> None:
    bill = synced(firm)
    delete(firm, bill)
    assert choose(firm, ACCEPT, bill)["results"][0] == {"id": bill["id"], "result": "accepted", "minutes": 0, "reason": None}
    assert firm.read(bill)["xero"]["status"] == "synced" and firm.entries() == []
    firm.stint.verify()

    firm.change(bill, status="pending")

    reopened = firm.wait_for_status(bill, "none")
    assert (reopened["status"], reopened["xero"]["inXero"], reopened["xero"]["accepted"]) == ("pending", None, None)
    firm.change(bill, status="approved")
    assert firm.wait_for_status(bill, "synced")["xero"]["accepted"] is None
    firm.check()


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_bill_that_differs_can_be_reopened(is_deleted: bool, firm: Firm) -> None:
    bill = synced(firm)
    delete(firm, bill) if is_deleted else change(firm, bill, duration=5)
    firm.change(bill, status="pending")
    reopened = firm.wait_for_status(bill, "none")
    assert (reopened["status"], reopened["xero"]["inXero"]) == ("pending", None)
    assert firm.entries() == []
    firm.check()


def test_an_entry_that_is_put_right_in_xero_agrees_again(firm: Firm) -> None:
    bill = synced(firm)
    change(firm, bill, duration=5)
    firm.xero.change_entry(bill["xero"]["timeEntryId"], duration=60)
    assert firm.wait_for_status(bill, "synced", seconds=40)["xero"]["inXero"] is None
    firm.check()


def test_an_invoiced_entry_that_differs_cannot_be_written_over_and_can_be_accepted(firm: Firm) -> None:
    bill = synced(firm)
    differs = change(firm, bill, duration=5, status="INVOICED")["xero"]
    eventually(lambda: firm.read(bill)["xero"]["invoicedAt"], seconds=30, why="it is invoiced")
    assert "5 minutes instead of 60" in differs["error"]
    choose(firm, SEND, bill)
    failed = firm.wait_for_status(bill, "failed")["xero"]
    assert "invoiced" in failed["error"] and failed["inXero"]["minutes"] == 5
    assert choose(firm, ACCEPT, bill)["accepted"] == 1
    assert firm.read(bill)["xero"]["status"] == "synced" and firm.entries()[0]["duration"] == 5
    firm.stint.verify()


def test_a_bill_that_differs_is_not_sent_by_anything_but_an_admins_choice(firm: Firm) -> None:
    bill = synced(firm)
    change(firm, bill, duration=5)
    firm.connect()  # queues what waited
    firm.map_customer(firm.project["projectId"])
    firm.replay()
    firm.settled()
    assert firm.read(bill)["xero"]["status"] == "differs" and firm.entries()[0]["duration"] == 5
    listed = firm.admin.get("/api/time-bills", xeroStatus="differs", customerId=firm.customer["id"])["items"]
    assert [each["id"] for each in listed] == [bill["id"]]
    status = firm.admin.get("/api/xero/status")["bills"]
    assert status["differs"] == firm.stint.value("SELECT count(*) FROM time_bills WHERE xero_status = 'differs'")
    assert sum(status.values()) == firm.stint.value("SELECT count(*) FROM time_bills WHERE deleted_at IS NULL")
    [finding] = diagnose(InstallationStatus(servers={"Postgres": "ok", "Xero": "ok"}, xero_differs=1))[-1:]
    assert "differ" in finding.what and "accept" in finding.do
    choose(firm, ACCEPT, bill)


def test_lists_that_lag_behind_never_make_a_bill_differ(firm: Firm) -> None:
    firm.xero.configure(listLagSeconds=[0, 3])
    bills = [firm.approved(10 * day, f"2026-03-0{day}") for day in range(1, 7)]
    for bill in bills:
        firm.wait_for_status(bill, "synced")
    firm.check_only_its_project()
    seen = set()
    for _ in range(20):
        seen |= {firm.read(bill)["xero"]["status"] for bill in bills}
        for bill in bills[:2]:
            firm.admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "pending"})
            firm.admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "approved"})
    firm.xero.configure(listLagSeconds=[0, 0])
    firm.settled()
    assert "differs" not in seen
    for bill in bills[:2]:
        if firm.read(bill)["status"] == "pending":
            firm.change(bill, status="approved")
        firm.wait_for_status(bill, "synced")
    firm.check()


def test_bills_are_accepted_or_sent_by_a_filter(firm: Firm) -> None:
    bills = [synced(firm, 10 * day, f"2026-03-0{day}") for day in (2, 3, 4)]
    for bill in bills:
        change(firm, bill, duration=5)
    of_customer = {"customerId": firm.customer["id"]}

    def ask(path: str, **chosen: str) -> list[str]:
        body = {"filter": of_customer | chosen, "reason": "agreed"}
        return [result["id"] for result in firm.admin.post(path, body, status=200)["results"]]

    assert ask(ACCEPT, error="deleted") == ask(SEND) == ask(ACCEPT, startDate="2026-03-05") == []
    assert ask(ACCEPT, endDate="2026-03-02") == [bills[0]["id"]]
    assert sorted(ask(SEND, xeroStatus="differs")) == sorted(bill["id"] for bill in bills[1:])
    for bill in bills[1:]:
        firm.wait_for_status(bill, "synced")
    assert [entry["duration"] for entry in firm.entries()] == [5, 30, 40]
    assert ask(ACCEPT) == []


def test_only_bills_that_differ_are_accepted(firm: Firm) -> None:
    bill, pending = synced(firm), firm.bill(60, "2026-03-20")
    unknown = firm.given.new_id()
    answer = choose(firm, ACCEPT, bill, pending, {"id": unknown}, bill)
    assert (answer["accepted"], answer["skipped"], answer["remaining"]) == (0, 3, 0)
    reasons = {result["id"]: result["reason"] for result in answer["results"]}
    assert "its Xero status is synced" in reasons[bill["id"]] and "is none" in reasons[pending["id"]]
    assert reasons[unknown] == "There is no such time bill."
    assert firm.read(bill)["xero"] == bill["xero"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"reason": "fixed"}, ""),
        ({"reason": "fixed", "ids": [], "filter": {}}, "ids"),
        ({"ids": ["00000000-0000-4000-8000-000000000000"]}, "reason"),
        ({"reason": "fixed", "filter": {"startDate": "2026-03-02", "endDate": "2026-03-01"}}, "filter.endDate"),
        ({"reason": "fixed", "filter": {"xeroStatus": "differs"}}, "filter.xeroStatus"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(body: Json, path: str, firm: Firm) -> None:
    refused = problem(firm.admin.http.post(ACCEPT, json=body), 422)
    assert path in [fault["path"] for fault in refused["errors"]]
