"""Connecting and disconnecting Xero, renewing the tokens, and keeping them secret."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from schemas.encryption import decrypt
from tests.api.contract import fetch_document
from tests.support.answers import filled, problem
from tests.support.firm_with_xero import Firm
from tests.support.installation import SECRET_KEY, eventually

TOKENS = "SELECT access_token, refresh_token FROM xero_connection"


def status(firm: Firm) -> dict[str, object]:
    return firm.admin.get("/api/xero/status")


def code(firm: Firm) -> tuple[str, str]:
    """The code and the state that Xero appends to the redirect URI."""
    callback = httpx2.URL(httpx2.get(f"{firm.admin.get('/api/xero/auth-url')['url']}&auto=1").headers["Location"]).params
    return callback["code"], callback["state"]


def connect(firm: Firm, code: str, state: str, **more: str) -> httpx2.Response:
    return firm.admin.http.post("/api/xero/connect", json={"code": code, "state": state, **more})


def test_the_status_shows_the_connected_organisation(firm: Firm) -> None:
    current = status(firm)
    assert (current["connected"], current["needsReconnect"]) == (True, False)
    assert current["tenantName"] and current["expiresAt"]
    firm.wait_for_status(firm.approved(), "synced")
    assert status(firm)["lastSync"]


def test_a_state_works_once_and_only_for_the_user_who_started(firm: Firm) -> None:
    first, state = code(firm)
    other = firm.given.admin()
    problem(other.http.post("/api/xero/connect", json={"code": first, "state": state}), 422)
    assert connect(firm, first, state).status_code == 200
    problem(connect(firm, first, state), 422)
    problem(connect(firm, first, "made up"), 422)
    second, state = code(firm)
    firm.stint.rows("UPDATE xero_oauth_states SET expires_at = now() RETURNING 1")
    assert "10 minutes" in problem(connect(firm, second, state), 422)["detail"]


def test_an_unknown_code_changes_nothing(firm: Firm) -> None:
    _, state = code(firm)
    before = firm.stint.rows(TOKENS)
    assert problem(connect(firm, "made-up", state), 422)["errors"][0]["path"] == "code"
    assert firm.stint.rows(TOKENS) == before and status(firm)["connected"]


def test_of_several_organisations_one_is_chosen(firm: Firm) -> None:
    tenant = httpx2.post(f"{firm.xero.url}/sandbox/tenants", json={"name": "Second Ltd"}).json()["tenantId"]
    assert connect(firm, *code(firm), tenantId=tenant).json()["tenantName"] == "Second Ltd"
    problem(connect(firm, *code(firm), tenantId="unknown"), 422)
    assert status(firm)["tenantName"] == "Second Ltd"


def test_a_request_does_not_wait_for_xero_longer_than_three_seconds(firm: Firm) -> None:
    firm.xero.inject_fault("stall", path="/projects.xro|^/connect/", seconds=30)
    requests: list[Callable[[], httpx2.Response]] = [
        lambda: firm.admin.http.get("/api/xero/projects"),
        lambda: firm.admin.http.delete("/api/xero/disconnect"),
    ]
    for request in requests:
        answer = request()
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.elapsed.total_seconds() < 8  # three, and some for a busy machine
    assert status(firm)["connected"]  # the tokens could not be revoked, so Stint stays connected


@pytest.mark.parametrize("path", ["^/connect/token", "^/connections"])
def test_connecting_continues_after_its_request_was_answered(path: str, firm: Firm) -> None:
    firm.xero.inject_fault("stall", path=path, seconds=5, count=1)
    before = status(firm)["connectedAt"]
    answer = connect(firm, *code(firm))

    assert answer.status_code == 202 and answer.elapsed.total_seconds() < 8  # three, and some for a busy machine
    assert (answer.json()["connecting"], answer.json()["connectError"]) == (True, None)

    eventually(lambda: not status(firm)["connecting"], seconds=60)
    after = status(firm)
    assert after["connectedAt"] != before and (after["connected"], after["connectError"]) == (True, None)


@pytest.mark.parametrize("kind", ["drop_before", "half", "status"])
def test_the_result_of_a_code_is_kept_while_the_organisations_cannot_be_read(kind: str, firm: Firm) -> None:
    firm.xero.inject_fault(kind, path="^/connections", status=503, count=2)
    before, exchanges = status(firm)["connectedAt"], len(firm.xero.calls("/connect/token"))
    assert connect(firm, *code(firm)).status_code in (200, 202)
    eventually(lambda: status(firm)["connectedAt"] != before, seconds=60)
    assert len(firm.xero.calls("/connect/token")) == exchanges + 1


def test_the_status_says_why_a_late_attempt_to_connect_has_failed(firm: Firm) -> None:
    _, state = code(firm)
    firm.xero.inject_fault("stall", path="^/connect/token", seconds=4, count=1)
    before = firm.stint.rows(TOKENS)
    assert connect(firm, "made-up", state).status_code == 202
    eventually(lambda: status(firm)["connectError"], seconds=60)
    assert "start again at auth-url" in str(status(firm)["connectError"]) and firm.stint.rows(TOKENS) == before
    firm.connect()
    assert status(firm)["connectError"] is None


def test_an_attempt_to_connect_whose_process_has_ended_is_said_to_be_lost(firm: Firm) -> None:
    firm.stint.rows("UPDATE xero_connection SET connecting_until = now() - interval '1 s' RETURNING 1")
    assert "has ended" in str(status(firm)["connectError"]) and not status(firm)["connecting"]
    firm.connect()
    assert status(firm)["connectError"] is None


def test_projects_and_tasks_are_listed_to_choose_from(firm: Firm) -> None:
    projects = firm.by.get("/api/xero/projects")["items"]
    assert {"id": firm.project["projectId"], "name": firm.project["name"], "status": "INPROGRESS"} in projects
    [task] = firm.by.get(f"/api/xero/projects/{firm.project['projectId']}/tasks")["items"]
    assert (task["name"], task["status"], task["chargeType"]) == ("Consulting", "ACTIVE", "TIME")
    assert task["rate"] == {"currency": "EUR", "value": "100.00"}
    for unknown in ("nothing", firm.given.new_id()):
        problem(firm.by.http.get(f"/api/xero/projects/{unknown}/tasks"), 404)


def test_projects_and_tasks_with_values_that_xero_has_added_are_listed(firm: Firm) -> None:
    other = firm.xero.project("In another currency")
    firm.xero.change_project(other, currencyCode="XCG", deadlineUtc="soon", totalTaskAmount={"currency": "XCG", "value": 1.5})
    task = firm.xero.task(firm.project, "Odd")
    firm.xero.change_task(
        task, status="PAUSED", chargeType="RETAINER", estimateMinutes=None, rate={"currency": "XCG", "value": 12.5}
    )
    unpriced = firm.xero.task(firm.project, "Unpriced")
    firm.xero.change_task(unpriced, rate=None, name=None)

    projects = {project["id"]: project["name"] for project in firm.by.get("/api/xero/projects")["items"]}

    assert projects[other["projectId"]] == "In another currency" and firm.project["projectId"] in projects
    tasks = {task["id"]: task for task in firm.by.get(f"/api/xero/projects/{firm.project['projectId']}/tasks")["items"]}
    odd = tasks[task["taskId"]]
    assert (odd["status"], odd["chargeType"], odd["rate"]) == ("PAUSED", "RETAINER", {"currency": "XCG", "value": "12.50"})
    assert (tasks[unpriced["taskId"]]["name"], tasks[unpriced["taskId"]]["rate"]) == ("", None)


def test_the_answers_are_as_documented(firm: Firm) -> None:
    paths = fetch_document(firm.stint)["paths"]
    for path in ("/api/xero/auth-url", "/api/xero/projects", "/api/xero/projects/{project_id}/tasks", "/api/xero/status"):
        answer = firm.admin.get(filled(path, project_id=firm.project["projectId"]))
        documented = str(paths[path]["get"]["responses"]["200"]["content"])
        assert answer and "$ref" in documented


# tokens


def test_twenty_requests_with_an_expired_token_renew_it_once(firm: Firm) -> None:
    firm.xero.expire_tokens()
    firm.stint.rows("UPDATE xero_connection SET expires_at = now() RETURNING 1")
    firm.xero.forget_calls()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: firm.admin.http.get("/api/xero/projects"), range(20)))
    assert {answer.status_code for answer in answers} <= {
        200,
        503,
    }  # at most five concurrent calls; the others may have got 503
    assert len(firm.xero.calls("/connect/token")) == 1


def test_twenty_bills_with_an_expired_token_renew_it_once(firm: Firm) -> None:
    bills = firm.given.many_bills(firm.by, firm.task, 20)
    firm.xero.expire_tokens()
    firm.stint.rows("UPDATE xero_connection SET expires_at = now() RETURNING 1")
    firm.xero.forget_calls()
    firm.approve_all(bills)
    firm.settled()
    assert len(firm.xero.calls("/connect/token")) == 1
    firm.check()


def test_a_token_that_xero_refuses_before_its_time_is_renewed(firm: Firm) -> None:
    firm.xero.expire_tokens()  # earlier than announced
    firm.wait_for_status(firm.approved(), "synced")
    firm.check()


def test_a_renewal_whose_answer_was_lost_is_repeated(firm: Firm) -> None:
    firm.xero.inject_fault("drop_after", path="/connect/token", count=1)
    before = firm.stint.rows(TOKENS)
    firm.stint.rows("UPDATE xero_connection SET expires_at = now() RETURNING 1")
    firm.wait_for_status(firm.approved(), "synced")
    assert firm.stint.rows(TOKENS) != before
    assert status(firm)["needsReconnect"] is False


def test_revoked_access_is_shown_and_each_admin_gets_one_mail(firm: Firm) -> None:
    other = firm.given.admin()
    firm.xero.disconnect()
    bills = firm.given.many_bills(firm.by, firm.task, 5)
    firm.approve_all(bills)
    for bill_id in bills:
        firm.wait_for_status({"id": bill_id}, "not_connected")
    assert status(firm)["needsReconnect"] is True
    mails = """
        SELECT count(*) FROM messages m, xero_connection x WHERE m.actor = 'send_mail' AND m.body->>'to' = %s
            AND m.body->>'subject' LIKE 'Xero%%' AND m.created_at > x.connected_at
    """
    assert [firm.stint.value(mails, person.email) for person in (firm.admin, other, firm.by)] == [1, 1, 0]

    firm.connect()

    for bill_id in bills:
        firm.wait_for_status({"id": bill_id}, "synced")
    assert status(firm)["needsReconnect"] is False
    firm.check()


def test_no_token_is_in_a_dump_a_log_or_an_answer(firm: Firm) -> None:
    firm.xero.inject_fault("status", status=500, method="POST", path="/Time$", count=2)
    firm.wait_for_status(firm.approved(), "synced")
    firm.connect()
    connection_id, *encrypted = firm.stint.rows("SELECT id, access_token, refresh_token FROM xero_connection")[0]
    contexts = [f"xero_connection {connection_id} {column}" for column in ("access_token", "refresh_token")]
    tokens = [decrypt(text, secret_key=SECRET_KEY, context=context) for text, context in zip(encrypted, contexts, strict=True)]
    shown = [dump(firm), *(firm.stint.log(name) for name in ("api", "relay", "work")), str(status(firm))]
    for secret in [*tokens, "not-a-secret-of-anyone", "Bearer "]:
        assert not any(secret in text for text in shown), secret


def dump(firm: Firm) -> str:
    """Every row of every table, as text."""
    tables = firm.stint.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join(str(firm.stint.rows(f"SELECT t::text FROM {table} t")) for (table,) in tables)


# disconnecting


def test_after_disconnecting_nothing_is_sent_until_xero_is_connected_again(firm: Firm) -> None:
    firm.xero.configure(latencySeconds=1)  # five concurrent calls: ten seconds for all bills
    bills = firm.given.many_bills(firm.by, firm.task, 50)
    firm.approve_all(bills)

    firm.admin.delete("/api/xero/disconnect")

    assert len(firm.xero.calls("/connect/revocation")) == 1
    eventually(lambda: not [call for call in firm.xero.calls("/Time") if call["endAt"] is None])
    sent = len(firm.entries())
    firm.settled()
    revoked_at = firm.xero.calls("/connect/revocation")[0]["endAt"]
    late = [call for call in firm.xero.calls("/projects.xro") if call["at"] > revoked_at]
    assert late == [] and len(firm.entries()) == sent < 50
    states = "SELECT xero_status, count(*) FROM time_bills WHERE customer_id = %s GROUP BY 1"
    counted = dict(firm.stint.rows(states, firm.customer["id"]))
    assert counted.get("synced", 0) + counted["not_connected"] == 50
    assert firm.stint.rows(TOKENS) == [(None, None)]
    problem(firm.admin.http.get("/api/xero/projects"), 409)

    firm.xero.configure(latencySeconds=0)
    firm.connect()

    eventually(lambda: len(firm.entries()) == 50, seconds=60)
    firm.settled()
    firm.check()


def test_a_bill_that_is_being_withdrawn_waits_for_the_connection(firm: Firm) -> None:
    bill = firm.approved()
    firm.wait_for_status(bill, "synced")
    firm.admin.delete("/api/xero/disconnect")
    firm.change(bill, status="pending")
    eventually(lambda: firm.read(bill)["xero"]["error"])
    assert firm.read(bill)["xero"]["status"] == "withdrawing"
    firm.connect()
    assert firm.wait_for_status(bill, "none")["status"] == "pending"
    firm.check()
