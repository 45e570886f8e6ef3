"""Access to Xero that is lost inside Xero: it is recognized, told once, pauses everything, and ends automatically."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from ops.sandbox.xero.identity import CLIENT_SECRET
from ops.sandbox.xero.store import FIRST_TENANT
from tests.support.answers import problem
from tests.support.firm_with_xero import Firm
from tests.support.given import Json
from tests.support.installation import eventually

Act = Callable[[Firm], Any]


def rotate_the_secret(firm: Firm) -> None:
    firm.xero.configure(clientSecret="another")
    expire(firm)


def expire(firm: Firm) -> None:
    """The access token has expired, as each half hour."""
    firm.stint.rows("UPDATE xero_connection SET expires_at = now() RETURNING 1")


def fail_all_calls(firm: Firm) -> None:
    firm.xero.inject_fault("status", status=500, path="/projects.xro")


# kind, how access is lost, the cure, and a word of what is shown
LOSSES: dict[str, tuple[Act, Act, str]] = {
    "unlinked": (lambda firm: firm.xero.unlink(), lambda firm: firm.connect(), "disconnected"),
    "app_refused": (rotate_the_secret, lambda firm: firm.xero.configure(clientSecret=CLIENT_SECRET), "secret"),
    "not_provisioned": (
        lambda firm: firm.xero.set_problem("not_provisioned"), lambda firm: firm.xero.set_problem(None), "Xero Projects",
    ),
    "lost_scopes": (lambda firm: firm.xero.set_problem("lost_scopes"), lambda firm: firm.xero.set_problem(None), "include"),
    "offline": (lambda firm: firm.xero.set_problem("offline"), lambda firm: firm.xero.set_problem(None), "offline"),
    "unavailable": (fail_all_calls, lambda firm: firm.xero.clear_faults(), "errors"),
}  # fmt: skip


def status(firm: Firm) -> Json:
    found: Json = firm.admin.get("/api/xero/status")
    return found


def lost(firm: Firm) -> Json | None:
    found: Json | None = status(firm)["accessLost"]
    return found


def mails_about_xero(firm: Firm, since: Any) -> list[Json]:
    """The mails to this test's admin since then. (The test before has left a connection that Xero no longer knew.)"""
    query = """
        SELECT body FROM messages
        WHERE actor = 'send_mail' AND body->>'to' = %s AND body->>'subject' LIKE '%%Xero%%' AND created_at > %s
    """
    return [body for (body,) in firm.stint.rows(query, firm.admin.email, since)]


def attempts(firm: Firm) -> list[tuple[int, str]]:
    """The largest number of failed attempts of the bills' messages, by their state."""
    return firm.stint.rows(
        """
        SELECT max(m.attempts), m.state FROM messages m JOIN time_bills b ON b.id = (m.body->>'bill_id')::uuid
        WHERE m.actor = 'sync_bill' AND b.customer_id = %s GROUP BY m.state
        """,
        firm.customer["id"],
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_lost_access_is_shown_with_its_cure_and_ends_by_itself(kind: str, firm: Firm) -> None:
    lose, cure, word = LOSSES[kind]
    start = firm.stint.value("SELECT clock_timestamp()")
    lose(firm)
    bills = [firm.approved(day=f"2026-03-0{day}") for day in range(1, 4)]

    for bill in bills:
        firm.wait_for_status(bill, "not_connected", seconds=40)

    shown = lost(firm)
    assert shown is not None and shown["kind"] == kind and word in shown["text"]
    assert shown["since"] and shown["nextCheckAt"] and shown["cure"]
    assert status(firm)["needsReconnect"] is (kind in ("unlinked", "lost_scopes"))
    state = firm.read(bills[0])["xero"]
    assert shown["text"] in state["error"] and shown["cure"] in state["error"] and state["waitingFor"]["cause"] == "access"
    [finding] = [found for found in json.loads(firm.stint.command("doctor", "--json").stdout) if "Xero" in found["what"]]
    assert shown["text"] in finding["what"] and finding["do"] == shown["cure"]
    assert shown["text"] in firm.stint.command("status").stdout.replace("\n", " ")
    [mail] = mails_about_xero(firm, start)
    told = " ".join(mail["paragraphs"])
    assert shown["text"] in told and shown["cure"] in told and FIRST_TENANT in mail["subject"]
    assert mail["link"]["url"].endswith("/xero")
    assert {state for _, state in attempts(firm)} == {"done"}  # no bill is tried meanwhile

    cure(firm)

    for bill in bills:
        firm.wait_for_status(bill, "synced", seconds=40)
    assert lost(firm) is None and status(firm)["needsReconnect"] is False
    firm.settled()
    assert {state for _, state in attempts(firm)} == {"done"} and len(mails_about_xero(firm, start)) == 1
    firm.check()


@pytest.mark.parametrize("kind", ["unlinked", "lost_scopes", "not_provisioned"])
def test_refused_access_is_asked_about_once_whatever_waits(kind: str, firm: Firm) -> None:
    bills = firm.given.many_bills(firm.by, firm.task, 30)
    LOSSES[kind][0](firm)
    firm.xero.forget_calls()

    firm.approve_all(bills)
    for bill_id in bills:
        firm.wait_for_status({"id": bill_id}, "not_connected")

    assert len(firm.xero.calls("/connect/token")) == 1  # the first check begins with a new token
    assert len(firm.xero.calls("/Time")) <= 10  # those that were under way: five at once, and five that had a slot
    assert max(count for count, _ in attempts(firm)) == 0
    LOSSES[kind][1](firm)
    for bill_id in bills:
        firm.wait_for_status({"id": bill_id}, "synced", seconds=60)
    firm.check()


def test_a_refusal_of_one_project_pauses_nothing_else(firm: Firm) -> None:
    start = firm.stint.value("SELECT clock_timestamp()")
    closed = firm.xero.project("Closed to the person who connected Stint")
    firm.xero.inject_fault("status", status=403, path=f"{closed['projectId']}/Time")
    firm.map_customer(closed["projectId"])
    refused = firm.approved(day="2026-03-02")
    eventually(lambda: max(attempts(firm), default=(0, ""))[0] >= 3, why="its attempts count, as those of any call that fails")
    assert lost(firm) is None and len(firm.xero.calls("/connections")) <= 2  # one of them to connect

    firm.map_customer(firm.project["projectId"])
    other = firm.approved(day="2026-03-03")
    firm.wait_for_status(other, "synced")
    assert lost(firm) is None and mails_about_xero(firm, start) == []
    firm.wait_for_status(refused, "synced", seconds=40)
    firm.check()


def test_bills_that_failed_without_access_are_sent_again_when_it_is_there(firm: Firm) -> None:
    firm.xero.inject_fault("status", status=403, path="/Time$")
    failed = firm.approved(day="2026-03-02")
    eventually(lambda: max(attempts(firm), default=(0, ""))[0] >= 1)
    firm.stint.rows(
        "UPDATE messages SET max_attempts = attempts + 1 WHERE actor = 'sync_bill' AND body->>'bill_id' = %s RETURNING 1",
        failed["id"],
    )
    firm.wait_for_status(failed, "failed", seconds=40)
    firm.xero.clear_faults()
    firm.stint.rows("UPDATE xero_connection SET access_found_at = NULL RETURNING 1")  # that was long ago
    firm.xero.set_problem("not_provisioned")
    waiting = firm.approved(day="2026-03-03")
    firm.wait_for_status(waiting, "not_connected")

    firm.xero.set_problem(None)

    firm.wait_for_status(waiting, "synced", seconds=40)
    firm.wait_for_status(failed, "synced", seconds=40)
    firm.settled()
    assert [state for _, state in attempts(firm)] == ["done"]
    firm.check()


def test_a_check_of_access_that_has_died_is_started_again(firm: Firm) -> None:
    firm.xero.set_problem("offline")
    bill = firm.approved()
    firm.wait_for_status(bill, "not_connected")
    eventually(lambda: firm.stint.rows(
        """
        UPDATE messages SET state = 'dead' WHERE state = 'ready' AND id = (SELECT access_check_id FROM xero_connection)
        RETURNING 1
        """
    ), why="the check is waiting")  # fmt: skip
    firm.xero.set_problem(None)
    firm.wait_for_status(bill, "synced", seconds=30)
    firm.stint.rows("UPDATE messages SET state = 'discarded' WHERE state = 'dead' AND actor = 'check_access' RETURNING 1")


def test_a_person_who_chooses_a_project_is_told_why_there_is_none(firm: Firm) -> None:
    firm.xero.unlink()
    problem(firm.by.http.get("/api/xero/projects"), 503)
    eventually(lambda: lost(firm), why="the refusal was asked about")
    assert "disconnected" in problem(firm.by.http.get("/api/xero/projects"), 409)["detail"]


def test_the_status_says_by_whom_it_was_connected_and_what_its_limits_are(firm: Firm) -> None:
    bill = firm.approved()
    firm.wait_for_status(bill, "synced")
    shown = status(firm)
    assert (shown["connectedBy"], shown["tenantName"]) == (firm.admin.email, FIRST_TENANT)
    assert shown["tenantId"] and shown["connectedAt"] and shown["lastSuccess"] >= shown["lastSync"]
    assert shown["callsUsed"] >= 1 and shown["callsUsed"] + shown["callsLeft"] == 5000
    assert (shown["pausedUntil"], shown["pausedBecause"], shown["accessLost"]) == (None, None, None)
    assert shown["bills"]["synced"] >= 1 and shown["bills"]["failed"] == shown["failed"]

    firm.xero.inject_fault("status", method="POST", path="/Time$", count=1, status=429, retryAfter=3, problem="day")
    other = firm.approved(day="2026-03-04")
    eventually(lambda: status(firm)["pausedBecause"] == "day")
    assert status(firm)["pausedUntil"]
    firm.wait_for_status(other, "synced")


# requests to the identity service


@pytest.mark.parametrize("answer", [408, 429, 403, 404])
def test_an_answer_that_says_nothing_of_a_code_or_a_token_is_no_refusal(answer: int, firm: Firm) -> None:
    firm.xero.inject_fault("status", status=answer, path="/connect/(token|revocation)")
    state = firm.admin.get("/api/xero/auth-url")["state"]
    body = {"code": "a code", "state": state}
    connected = firm.admin.http.post("/api/xero/connect", json=body)
    assert connected.status_code == (202 if answer in (408, 429) else 503)  # 202: it is tried again for a while
    problem(firm.admin.http.delete("/api/xero/disconnect"), 503)
    assert status(firm)["connected"] and lost(firm) is None
    firm.xero.clear_faults()
    eventually(lambda: "start again at auth-url" in str(status(firm)["connectError"]) or answer not in (408, 429))


def test_with_a_wrong_secret_stint_neither_connects_nor_claims_to_have_disconnected(firm: Firm) -> None:
    firm.xero.configure(clientSecret="another")
    consent = firm.admin.get("/api/xero/auth-url")
    callback = httpx2.URL(httpx2.get(f"{consent['url']}&auto=1").headers["Location"]).params
    body = {"code": callback["code"], "state": callback["state"]}
    for answer in (firm.admin.http.post("/api/xero/connect", json=body), firm.admin.http.delete("/api/xero/disconnect")):
        assert "XERO_CLIENT_SECRET" in problem(answer, 409)["detail"]
    assert status(firm)["connected"]
