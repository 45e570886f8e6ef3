"""Letting Stint into Xero, and out again; and that its tokens are nobody else's to see."""

from concurrent.futures import ThreadPoolExecutor

import httpx

from schemas.sealing import unseal
from tests.api.answers import filled, problem
from tests.firm_with_xero import Firm
from tests.installation import SECRET_KEY, eventually

TOKENS = "SELECT access_token, refresh_token FROM xero_connection"


def status(firm: Firm) -> dict[str, object]:
    return firm.admin.get("/api/xero/status")


def code(firm: Firm) -> tuple[str, str]:
    """What an admin brings back from Xero."""
    back = httpx.URL(httpx.get(f"{firm.admin.get('/api/xero/auth-url')['url']}&auto=1").headers["Location"]).params
    return back["code"], back["state"]


def connect(firm: Firm, code: str, state: str, **more: str) -> httpx.Response:
    return firm.admin.http.post("/api/xero/connect", json={"code": code, "state": state, **more})


def test_the_status_says_what_is_connected(firm: Firm) -> None:
    said = status(firm)
    assert (said["connected"], said["needsReconnect"]) == (True, False)
    assert said["tenantName"] and said["expiresAt"]
    firm.comes_to(firm.approved(), "synced")
    assert status(firm)["lastSync"]


def test_a_state_works_once_and_for_who_began(firm: Firm) -> None:
    first, state = code(firm)
    other = firm.given.admin()
    problem(other.http.post("/api/xero/connect", json={"code": first, "state": state}), 422)
    assert connect(firm, first, state).status_code == 200
    problem(connect(firm, first, state), 422)
    problem(connect(firm, first, "made up"), 422)
    second, state = code(firm)
    firm.stint.rows("UPDATE xero_states SET expires_at = now() RETURNING 1")
    assert "10 minutes" in problem(connect(firm, second, state), 422)["detail"]


def test_a_code_that_xero_does_not_know_changes_nothing(firm: Firm) -> None:
    _, state = code(firm)
    before = firm.stint.rows(TOKENS)
    assert problem(connect(firm, "made-up", state), 422)["errors"][0]["path"] == "code"
    assert firm.stint.rows(TOKENS) == before and status(firm)["connected"]


def test_of_several_organisations_one_is_chosen(firm: Firm) -> None:
    tenant = httpx.post(f"{firm.xero.url}/sandbox/tenants", json={"name": "Second Ltd"}).json()["tenantId"]
    assert connect(firm, *code(firm), tenantId=tenant).json()["tenantName"] == "Second Ltd"
    problem(connect(firm, *code(firm), tenantId="unknown"), 422)
    assert status(firm)["tenantName"] == "Second Ltd"


def test_a_request_does_not_wait_for_xero_longer_than_three_seconds(firm: Firm) -> None:
    firm.xero.fails("stall", path="/projects.xro|^/connect/", seconds=30)
    for asked in (
        lambda: firm.admin.http.get("/api/xero/projects"),
        lambda: connect(firm, *code(firm)),
        lambda: firm.admin.http.delete("/api/xero/disconnect"),
    ):
        answer = asked()
        problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.elapsed.total_seconds() < 8  # three, on a machine that is busy
    assert status(firm)["connected"]  # a grant that could not be revoked still stands


def test_projects_and_tasks_are_there_to_choose_from(firm: Firm) -> None:
    projects = firm.by.get("/api/xero/projects")["items"]
    assert {"id": firm.project["projectId"], "name": firm.project["name"], "status": "INPROGRESS"} in projects
    [task] = firm.by.get(f"/api/xero/projects/{firm.project['projectId']}/tasks")["items"]
    assert (task["name"], task["status"], task["chargeType"]) == ("Consulting", "ACTIVE", "TIME")
    assert task["rate"] == {"currency": "EUR", "value": "100.00"}
    for unknown in ("nothing", firm.given.new_id()):
        problem(firm.by.http.get(f"/api/xero/projects/{unknown}/tasks"), 404)


def test_the_answers_are_as_documented(firm: Firm) -> None:
    paths = httpx.get(f"{firm.stint.url}/docs/openapi.json").json()["paths"]
    for path in ("/api/xero/auth-url", "/api/xero/projects", "/api/xero/projects/{project_id}/tasks", "/api/xero/status"):
        answer = firm.admin.get(filled(path, project_id=firm.project["projectId"]))
        said = str(paths[path]["get"]["responses"]["200"]["content"])
        assert answer and "$ref" in said


# tokens


def test_twenty_calls_at_an_expired_token_renew_it_once(firm: Firm) -> None:
    firm.xero.expires_tokens()
    firm.stint.rows("UPDATE xero_connection SET expires_at = now() RETURNING 1")
    firm.xero.forget_calls()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: firm.admin.http.get("/api/xero/projects"), range(20)))
    assert {answer.status_code for answer in answers} <= {200, 503}  # five at once, the others may have been told to wait
    assert len(firm.xero.calls("/connect/token")) == 1


def test_twenty_bills_at_an_expired_token_renew_it_once(firm: Firm) -> None:
    bills = firm.given.many_bills(firm.by, firm.task, 20)
    firm.xero.expires_tokens()
    firm.stint.rows("UPDATE xero_connection SET expires_at = now() RETURNING 1")
    firm.xero.forget_calls()
    firm.approve_all(bills)
    firm.settled()
    assert len(firm.xero.calls("/connect/token")) == 1
    firm.check()


def test_a_token_that_xero_no_longer_takes_is_renewed(firm: Firm) -> None:
    firm.xero.expires_tokens()  # sooner than it said
    firm.comes_to(firm.approved(), "synced")
    firm.check()


def test_a_renewal_whose_answer_was_lost_is_made_good(firm: Firm) -> None:
    firm.xero.fails("drop_after", path="/connect/token", count=1)
    before = firm.stint.rows(TOKENS)
    firm.stint.rows("UPDATE xero_connection SET expires_at = now() RETURNING 1")
    firm.comes_to(firm.approved(), "synced")
    assert firm.stint.rows(TOKENS) != before
    assert status(firm)["needsReconnect"] is False


def test_who_is_locked_out_says_so_and_each_admin_gets_one_mail(firm: Firm) -> None:
    other = firm.given.admin()
    firm.xero.disconnects()
    bills = firm.given.many_bills(firm.by, firm.task, 5)
    firm.approve_all(bills)
    for bill_id in bills:
        firm.comes_to({"id": bill_id}, "not_connected")
    assert status(firm)["needsReconnect"] is True
    mails = "SELECT count(*) FROM messages WHERE actor = 'send_mail' AND body->>'to' = %s AND body->>'subject' LIKE 'Xero%%'"
    assert [firm.stint.value(mails, person.email) for person in (firm.admin, other, firm.by)] == [1, 1, 0]

    firm.connect()

    for bill_id in bills:
        firm.comes_to({"id": bill_id}, "synced")
    assert status(firm)["needsReconnect"] is False
    firm.check()


def test_no_token_is_in_a_dump_a_log_or_an_answer(firm: Firm) -> None:
    firm.xero.fails("status", status=500, method="POST", path="/Time$", count=2)
    firm.comes_to(firm.approved(), "synced")
    firm.connect()
    connection_id, *kept = firm.stint.rows("SELECT id, access_token, refresh_token FROM xero_connection")[0]
    places = [f"xero_connection {connection_id} {column}" for column in ("access_token", "refresh_token")]
    tokens = [unseal(sealed, secret_key=SECRET_KEY, place=place) for sealed, place in zip(kept, places, strict=True)]
    shown = [dump(firm), *(firm.stint.log(name) for name in ("api", "relay", "work")), str(status(firm))]
    for secret in [*tokens, "not-a-secret-of-anyone", "Bearer "]:
        assert not any(secret in text for text in shown), secret


def dump(firm: Firm) -> str:
    """Every row of every table, as text."""
    tables = firm.stint.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join(str(firm.stint.rows(f"SELECT t::text FROM {table} t")) for (table,) in tables)


# letting go


def test_disconnecting_revokes_and_nothing_is_sent_until_it_is_connected_again(firm: Firm) -> None:
    firm.xero.sets(latencySeconds=1)  # five at once: ten seconds for all of them
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

    firm.xero.sets(latencySeconds=0)
    firm.connect()

    eventually(lambda: len(firm.entries()) == 50, seconds=60)
    firm.settled()
    firm.check()


def test_a_bill_that_is_being_withdrawn_waits_for_the_connection(firm: Firm) -> None:
    bill = firm.approved()
    firm.comes_to(bill, "synced")
    firm.admin.delete("/api/xero/disconnect")
    firm.change(bill, status="pending")
    eventually(lambda: firm.read(bill)["xero"]["error"])
    assert firm.read(bill)["xero"]["status"] == "withdrawing"
    firm.connect()
    assert firm.comes_to(bill, "none")["status"] == "pending"
    firm.check()
