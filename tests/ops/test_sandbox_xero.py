"""The stand-in for Xero follows Xero's documentation, and fails when it is told to."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ops.errors import CommandError
from ops.sandbox import processes
from ops.sandbox.faults import KINDS
from ops.sandbox.processes import XeroProcess
from ops.sandbox.xero.identity import CLIENT_ID, CLIENT_SECRET
from ops.state import State
from tests.support.http_answers import answering
from tests.support.installation import eventually
from tests.support.prism import Prism, prism_before
from tests.support.xero_sandbox import XeroSandbox, most_at_once, most_in_a_minute, running_xero

pytestmark = pytest.mark.processes

BASE = "/projects.xro/2.0"
BACK = "http://127.0.0.1:9/xero/callback"
Json = dict[str, Any]


class Client:
    """A connected app, with a project, a task and a user."""

    def __init__(self, xero: XeroSandbox, api_url: str | None = None) -> None:
        self.xero = xero
        self.http = httpx2.Client(base_url=f"{api_url or xero.url}", timeout=5)
        self.tokens = exchange(xero, xero.authorize(BACK)).json()
        self.http.headers["Authorization"] = f"Bearer {self.tokens['access_token']}"
        self.http.headers["Xero-Tenant-Id"] = self.http.get("/connections").json()[0]["tenantId"]
        self.project = self.listed("/Projects")[0]
        self.tasks = self.listed(f"/Projects/{self.project['projectId']}/Tasks")
        self.user = self.listed("/ProjectsUsers")[0]
        self.time = f"/Projects/{self.project['projectId']}/Time"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return self.http.request(method, f"{BASE}{path}", **more)

    def asks_without_waiting(self, path: str) -> socket.socket:
        """Sends a GET without reading its answer, and returns the connection."""
        connection = socket.create_connection(("127.0.0.1", self.xero.port))
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.http.headers.items())
        connection.sendall(f"GET {BASE}{path} HTTP/1.1\r\n{headers}\r\n".encode())
        return connection

    def listed(self, path: str, **query: Any) -> list[Json]:
        answer = self.call("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        items: list[Json] = answer.json()["items"]
        return items

    def entry(self, **more: Any) -> Json:
        return {
            "userId": self.user["userId"],
            "taskId": self.tasks[0]["taskId"],
            "dateUtc": "2026-03-02T00:00:00Z",
            "duration": 90,
            "description": "Repaired the mail server",
            **more,
        }

    def post(self, key: str | None = None, **more: Any) -> httpx2.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.call("POST", self.time, json=self.entry(**more), headers=headers)


def exchange(xero: XeroSandbox, code: str, **more: str) -> httpx2.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, **more}
    return httpx2.post(f"{xero.url}/connect/token", data=form, auth=(CLIENT_ID, CLIENT_SECRET))


def refresh(xero: XeroSandbox, token: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return httpx2.post(f"{xero.url}/connect/token", data=form)


@pytest.fixture(scope="module")
def running() -> Iterator[XeroSandbox]:
    with running_xero() as sandbox:
        yield sandbox


@pytest.fixture
def xero(running: XeroSandbox) -> XeroSandbox:
    running.reset()
    return running


@pytest.fixture
def client(xero: XeroSandbox) -> Iterator[Client]:
    with Client(xero) as client:
        yield client


# who may come in


def test_the_button_on_the_consent_page_leads_back_with_a_code_and_the_state(xero: XeroSandbox) -> None:
    asked = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": BACK, "scope": "offline_access projects"}
    page = httpx2.get(f"{xero.url}/identity/connect/authorize", params={**asked, "state": "a&b"})
    assert "This is a sandbox, not Xero" in page.text
    button = re.search(r'href="([^"]+)"', page.text)
    assert button
    pressed = httpx2.get(xero.url + button[1].replace("&amp;", "&"))
    back = httpx2.URL(pressed.headers["Location"])
    assert pressed.status_code == 302 and str(back).startswith(f"{BACK}?") and back.params["state"] == "a&b"
    assert exchange(xero, back.params["code"]).status_code == 200


@pytest.mark.parametrize("wrong", ["response_type", "client_id", "redirect_uri", "scope"])
def test_a_consent_that_is_asked_for_wrongly_is_refused(xero: XeroSandbox, wrong: str) -> None:
    asked = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": BACK, "scope": "offline_access projects"}
    page = httpx2.get(f"{xero.url}/identity/connect/authorize", params={**asked, wrong: "wrong"})
    assert page.status_code == 400 and wrong in page.text


def test_a_code_is_good_once_and_for_its_own_redirect(xero: XeroSandbox) -> None:
    code = xero.authorize(BACK)
    issued = exchange(xero, code)
    assert issued.json()["token_type"] == "Bearer" and issued.json()["expires_in"] == 1800
    assert exchange(xero, code).json() == {"error": "invalid_grant"}
    assert exchange(xero, xero.authorize(BACK), redirect_uri=f"{BACK}2").json() == {"error": "invalid_grant"}


def test_a_client_with_the_wrong_secret_gets_nothing(xero: XeroSandbox) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": CLIENT_ID, "client_secret": "wrong"}
    answer = httpx2.post(f"{xero.url}/connect/token", data=form)
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_client"})


def test_refresh_tokens_rotate_and_the_old_one_works_for_a_while(client: Client) -> None:
    old = client.tokens["refresh_token"]
    new = refresh(client.xero, old).json()["refresh_token"]
    assert new != old
    again = refresh(client.xero, old)
    assert again.status_code == 200 and again.json()["refresh_token"] not in (old, new)
    assert refresh(client.xero, new).status_code == 200


def test_a_replaced_refresh_token_ends_with_its_grace(xero: XeroSandbox) -> None:
    xero.configure(graceSeconds=0)
    token = exchange(xero, xero.authorize(BACK)).json()["refresh_token"]
    assert refresh(xero, token).status_code == 200
    last = refresh(xero, token)
    assert (last.status_code, last.json()) == (400, {"error": "invalid_grant"})


def test_an_expired_access_token_is_refused_and_a_refresh_helps(client: Client) -> None:
    client.xero.expire_tokens()
    refused = client.call("GET", "/Projects")
    assert refused.status_code == 401 and refused.json()["Detail"].startswith("TokenExpired")
    new = refresh(client.xero, client.tokens["refresh_token"]).json()["access_token"]
    assert client.call("GET", "/Projects", headers={"Authorization": f"Bearer {new}"}).status_code == 200


def test_access_tokens_last_as_long_as_is_said(xero: XeroSandbox) -> None:
    xero.configure(accessSeconds=0)
    issued = exchange(xero, xero.authorize(BACK)).json()
    assert issued["expires_in"] == 0
    headers = {"Authorization": f"Bearer {issued['access_token']}"}
    assert httpx2.get(f"{xero.url}/connections", headers=headers).status_code == 401


def test_a_revoked_token_takes_its_connections_along(client: Client) -> None:
    gone = httpx2.post(
        f"{client.xero.url}/connect/revocation",
        data={"token": client.tokens["refresh_token"]},
        auth=(CLIENT_ID, CLIENT_SECRET),
    )
    assert gone.status_code == 200
    assert refresh(client.xero, client.tokens["refresh_token"]).json() == {"error": "invalid_grant"}
    assert client.call("GET", "/Projects").status_code == 401


def test_an_app_that_was_disconnected_in_xero_is_out(client: Client) -> None:
    client.xero.disconnect()
    assert client.http.get("/connections").status_code == 401
    assert refresh(client.xero, client.tokens["refresh_token"]).status_code == 400


def test_a_deleted_connection_is_forbidden_ground_until_it_is_made_again(client: Client) -> None:
    [connection] = client.http.get("/connections").json()
    assert client.http.delete(f"/connections/{connection['id']}").status_code == 204
    assert client.http.delete(f"/connections/{connection['id']}").status_code == 404
    assert client.call("GET", "/Projects").status_code == 403
    with Client(client.xero) as again:
        assert again.http.headers["Xero-Tenant-Id"] == connection["tenantId"]
    assert client.call("GET", "/Projects").status_code == 200


def test_without_a_token_or_an_organisation_nothing_is_shown(client: Client) -> None:
    assert client.call("GET", "/Projects", headers={"Authorization": "Bearer made-up"}).status_code == 401
    assert client.call("GET", "/Projects", headers={"Xero-Tenant-Id": "made-up"}).status_code == 403


# projects and time


def test_time_is_created_read_replaced_and_deleted(client: Client) -> None:
    made = client.post()
    assert made.status_code == 200 and made.json()["status"] == "ACTIVE"
    one = f"{client.time}/{made.json()['timeEntryId']}"
    assert client.call("GET", one).json() == made.json()
    change = client.entry(duration=30)
    del change["description"]
    assert client.call("PUT", one, json=change).status_code == 204
    replaced = client.call("GET", one).json()
    assert (replaced["duration"], replaced["description"]) == (30, None)
    assert client.call("DELETE", one).status_code == 204
    assert client.call("GET", one).status_code == client.call("DELETE", one).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("duration", value) for value in (0, 59941, -1, 1.5, "60", None, True)],
        *[("dateUtc", value) for value in (None, "yesterday", "2026-03-02T00:00:00", 1)],
        *[(name, value) for name in ("userId", "taskId") for value in (None, "x", "6f2a0c5e-6f0f-4d3b-9c55-0d5b6f1f2a11")],
        ("description", 1),
    ],
)
def test_time_that_breaks_a_rule_is_refused_with_the_field(client: Client, field: str, value: Any) -> None:
    refused = client.post(**{field: value})
    assert refused.status_code == 400 and list(refused.json()["modelState"]) == [field]
    assert client.xero.entries() == []


@pytest.mark.parametrize("minutes", [1, 59940])
def test_the_bounds_of_a_duration_are_allowed(client: Client, minutes: int) -> None:
    assert client.post(duration=minutes).status_code == 200


def test_a_task_with_a_fixed_price_takes_no_time(client: Client) -> None:
    [fixed] = [task for task in client.tasks if task["chargeType"] == "FIXED"]
    assert "fixed price" in client.post(taskId=fixed["taskId"]).text


def test_a_task_of_another_project_takes_none_either(client: Client) -> None:
    other = client.xero.task(client.xero.project("Another"))
    assert client.post(taskId=other["taskId"]).status_code == 400


def test_a_closed_project_takes_no_time(client: Client) -> None:
    client.xero.close_project(client.project)
    assert client.post().status_code == 400
    assert client.project["projectId"] not in [p["projectId"] for p in client.listed("/Projects", states="INPROGRESS")]


@pytest.mark.parametrize("status", ["LOCKED", "INVOICED"])
def test_what_is_locked_or_invoiced_stays_as_it_is(client: Client, status: str) -> None:
    made = client.post().json()
    client.xero.change_entry(made["timeEntryId"], status=status)
    one = f"{client.time}/{made['timeEntryId']}"
    assert client.call("PUT", one, json=client.entry(duration=1)).status_code == 400
    assert client.call("DELETE", one).status_code == 400
    assert client.call("GET", one).json() == made | {"status": status}


def test_time_is_found_by_who_what_when_and_status(client: Client) -> None:
    other_user = client.xero.user("other@example.com")["userId"]
    other_task = client.tasks[1]["taskId"]
    unpaid = next(task["taskId"] for task in client.tasks if task["chargeType"] == "NON_CHARGEABLE")
    first = client.post(dateUtc="2026-03-01T00:00:00Z").json()
    second = client.post(dateUtc="2026-03-02T00:00:00Z", userId=other_user, taskId=other_task).json()
    third = client.post(dateUtc="2026-03-03T00:00:00Z", taskId=unpaid).json()
    client.xero.change_entry(third["timeEntryId"], status="INVOICED")

    def found(**query: Any) -> list[str]:
        return [entry["timeEntryId"] for entry in client.listed(client.time, **query)]

    one, two, three = (entry["timeEntryId"] for entry in (first, second, third))
    assert found() == [three, two, one]
    assert found(userId=other_user) == found(taskId=other_task) == [two]
    assert found(states="ACTIVE,LOCKED") == [two, one]
    assert found(dateAfterUtc="2026-03-02T00:00:00Z") == [three, two]
    assert found(dateBeforeUtc="2026-03-02T00:00:00Z") == [two, one]
    assert found(isChargeable="false") == [three]
    assert found(invoiceId=one) == []


def test_a_list_can_lag_behind_each_change(client: Client) -> None:
    client.xero.disable_limits()
    client.xero.configure(listLagSeconds=[0.6, 0.6])

    def minutes() -> list[int]:
        return [entry["duration"] for entry in client.listed(client.time)]

    one = f"{client.time}/{client.post(duration=10).json()['timeEntryId']}"
    assert minutes() == [] and client.call("GET", one).json()["duration"] == 10
    eventually(lambda: minutes() == [10], why="the list shows it")
    client.call("PUT", one, json=client.entry(duration=20))
    assert minutes() == [10]
    eventually(lambda: minutes() == [20], why="the list shows the change")
    client.call("DELETE", one)
    assert minutes() == [20]
    eventually(lambda: minutes() == [], why="the list shows that it is gone")


@pytest.mark.parametrize("problem", ["concurrent", "minute", "day", "appminute"])
def test_every_rate_limit_can_be_met_with_and_without_retry_after(problem: str, client: Client) -> None:
    for seconds in (None, 130):
        client.xero.inject_fault("status", status=429, problem=problem, retryAfter=seconds, count=1)
        refused = client.call("GET", "/Projects")
        assert (refused.status_code, refused.headers["X-Rate-Limit-Problem"]) == (429, problem)
        assert refused.headers.get("Retry-After") == (None if seconds is None else "130")


def test_lists_come_in_pages(client: Client) -> None:
    client.xero.disable_limits()
    for number in range(7):
        client.xero.project(f"Project {number}")
    answer = client.call("GET", "/Projects", params={"page": 2, "pageSize": 4}).json()
    assert answer["pagination"] == {"page": 2, "pageSize": 4, "pageCount": 3, "itemCount": 10}
    assert len(answer["items"]) == 4
    assert client.listed("/Projects", page=4, pageSize=4) == []
    for wrong in ({"page": 0}, {"pageSize": 0}, {"pageSize": 501}, {"page": "x"}):
        assert client.call("GET", "/Projects", params=wrong).status_code == 400


def test_projects_and_tasks_add_up_what_was_logged(client: Client) -> None:
    client.post(duration=40)
    client.xero.change_entry(client.post(duration=2).json()["timeEntryId"], status="INVOICED")
    project = client.call("GET", f"/Projects/{client.project['projectId']}").json()
    assert (project["minutesLogged"], project["minutesToBeInvoiced"]) == (42, 40)
    task = client.call("GET", f"/Projects/{client.project['projectId']}/Tasks/{client.tasks[0]['taskId']}").json()
    assert (task["totalMinutes"], task["minutesInvoiced"]) == (42, 2)


def test_what_is_unknown_or_another_organisations_is_not_found(client: Client) -> None:
    tenant_id = httpx2.post(f"{client.xero.url}/sandbox/tenants", json={"name": "Another Ltd"}).json()["tenantId"]
    foreign = client.xero.project("Theirs", tenantId=tenant_id)["projectId"]
    unknown = "6f2a0c5e-6f0f-4d3b-9c55-0d5b6f1f2a11"
    for path in (f"/Projects/{foreign}", f"/Projects/{foreign}/Time", f"/Projects/{unknown}/Tasks", f"{client.time}/{unknown}"):
        assert client.call("GET", path).status_code == 404
    assert client.call("GET", "/Projects/made-up").status_code == 400
    assert client.call("POST", f"/Projects/{foreign}/Time", json=client.entry()).status_code == 404


def test_the_same_key_gets_the_same_answer_and_one_entry(client: Client) -> None:
    first, second = client.post(key="bill 1"), client.post(key="bill 1")
    assert first.json() == second.json() and len(client.xero.entries()) == 1
    other = client.post(key="bill 1", duration=1)
    assert other.status_code == 400 and "Idempotency-Key" in other.text
    assert client.post(key="x" * 129).status_code == 400
    assert client.post(key="bill 2").status_code == 200 and len(client.xero.entries()) == 2


def test_a_key_is_forgotten_after_six_minutes_or_as_ordered(client: Client) -> None:
    client.xero.configure(idempotencySeconds=0)
    assert client.post(key="bill 1").json() != client.post(key="bill 1").json()
    assert len(client.xero.entries()) == 2


# limits


def test_the_sixty_first_call_of_a_minute_is_too_many(client: Client) -> None:
    before = len(client.xero.calls(BASE))
    answers = [client.call("GET", "/ProjectsUsers") for _ in range(62 - before)]
    assert [answer.status_code for answer in answers[-3:]] == [200, 429, 429]
    assert answers[0].headers["X-MinLimit-Remaining"] == str(59 - before)
    assert answers[-1].headers["X-Rate-Limit-Problem"] == "minute"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60


def test_the_day_has_a_limit_too(client: Client) -> None:
    client.xero.configure(minute=None, day=len(client.xero.calls(BASE)) + 1)
    assert client.call("GET", "/ProjectsUsers").headers["X-DayLimit-Remaining"] == "0"
    refused = client.call("GET", "/ProjectsUsers")
    assert (refused.status_code, refused.headers["X-Rate-Limit-Problem"]) == (429, "day")
    assert int(refused.headers["Retry-After"]) > 23 * 3600


def test_a_sixth_call_at_once_is_too_many_until_one_of_the_five_has_gone(client: Client) -> None:
    client.xero.inject_fault("stall", path="/ProjectsUsers$", count=5, seconds=600)
    with contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(client.asks_without_waiting("/ProjectsUsers"))
        eventually(lambda: sum(call["endAt"] is None for call in client.xero.calls()) == 5)
        refused = client.call("GET", "/Projects")
        assert (refused.status_code, refused.headers["X-Rate-Limit-Problem"]) == (429, "concurrent")
        held.pop_all().close()
        eventually(lambda: client.call("GET", "/Projects").status_code == 200)
    eventually(lambda: most_at_once(call for call in client.xero.calls() if call["status"] != 429) == 5)  # once all have ended


def test_calls_are_counted_in_any_sliding_minute() -> None:
    calls = [{"at": at, "endAt": at + 1} for at in (0, 30, 59, 59.5, 61, 89, 200)]
    assert most_in_a_minute(calls) == 5  # those from 30 to 89
    assert most_at_once(calls) == 2


# faults


@pytest.mark.parametrize(
    ("kind", "is_done", "is_answered"),
    [
        ("status", False, True),
        ("drop_before", False, False),
        ("drop_after", True, False),
        ("half", True, False),
        ("trickle", True, True),
        ("stall", True, True),
        ("late", True, True),
    ],
)
def test_a_fault_is_met_once_and_then_all_is_well(client: Client, kind: str, is_done: bool, is_answered: bool) -> None:
    client.xero.inject_fault(kind, method="POST", path="/Time$", count=1, seconds=0.3)
    started = time.monotonic()
    try:
        answer = client.post()
        assert is_answered
        assert answer.status_code == (200 if is_done else 500)
    except httpx2.TransportError:
        assert not is_answered
    if kind in ("trickle", "stall", "late"):
        assert time.monotonic() - started > 0.3
    assert len(client.xero.entries()) == is_done
    assert [call["fault"] for call in client.xero.calls(method="POST", path="/Time")] == [kind]
    assert client.post().status_code == 200


def test_a_late_call_is_done_although_its_client_has_given_up(client: Client) -> None:
    client.xero.inject_fault("late", method="POST", path="/Time$", count=1, seconds=0.6)
    with pytest.raises(httpx2.ReadTimeout):
        client.call("POST", client.time, json=client.entry(), timeout=0.1)
    eventually(client.xero.entries)
    [call] = client.xero.calls(method="POST", path="/Time")
    assert call["status"] == 200 and call["endAt"] - call["at"] > 0.6


def test_a_late_call_from_before_a_new_beginning_does_nothing(client: Client) -> None:
    client.xero.inject_fault("late", method="POST", path="/Time$", count=1, seconds=0.5)
    with pytest.raises(httpx2.ReadTimeout):
        client.call("POST", client.time, json=client.entry(), timeout=0.1)
    client.xero.reset()
    time.sleep(0.8)
    assert client.xero.entries() == []


def test_a_status_comes_with_what_goes_with_it(client: Client) -> None:
    client.xero.inject_fault("status", status=429, retryAfter=7, problem="minute", nth=[2])
    assert client.call("GET", "/Projects").status_code == 200
    refused = client.call("GET", "/Projects")
    assert (refused.status_code, refused.headers["Retry-After"], refused.headers["X-Rate-Limit-Problem"]) == (
        429,
        "7",
        "minute",
    )
    assert client.call("GET", "/Projects").status_code == 200


def test_token_requests_can_fail_too(client: Client) -> None:
    client.xero.inject_fault("drop_after", path="/connect/token", count=1)
    with pytest.raises(httpx2.TransportError):
        refresh(client.xero, client.tokens["refresh_token"])
    assert refresh(client.xero, client.tokens["refresh_token"]).status_code == 200


def test_a_storm_holds_every_fault_and_is_the_same_for_the_same_seed(client: Client) -> None:
    client.xero.disable_limits()

    def weather(seed: int) -> list[str | None]:
        client.xero.inject_random_faults(seed=seed, seconds=0.01)
        client.xero.forget_calls()
        for _ in range(150):
            try:
                client.call("GET", "/ProjectsUsers")
            except httpx2.TransportError:
                pass
        return [call["fault"] for call in client.xero.calls()]

    first = weather(1)
    assert set(first) == {None, *KINDS}
    assert 30 <= sum(fault is not None for fault in first) <= 60
    assert weather(1) == first != weather(2)


def test_a_rule_that_is_none_is_refused(xero: XeroSandbox) -> None:
    refused = httpx2.put(f"{xero.url}/sandbox/faults", json={"rules": [{"kind": "earthquake"}]})
    assert refused.status_code == 422 and "earthquake" in refused.text
    assert httpx2.put(f"{xero.url}/sandbox/settings", json={"weather": 1}).status_code == 422


# the rest


def test_what_it_knows_outlives_a_restart(tmp_path: Path) -> None:
    with running_xero(state=tmp_path / "xero.json") as xero, Client(xero) as client:
        made = client.post().json()
        xero.restart()
        assert xero.entries() == [made]
        assert refresh(xero, client.tokens["refresh_token"]).status_code == 200
        assert client.call("GET", "/Projects").status_code == 200
    assert (tmp_path / "xero.json").stat().st_mode & 0o077 == 0


def test_the_page_says_what_it_is_and_shows_what_has_arrived(client: Client) -> None:
    assert "None yet" in httpx2.get(client.xero.url).text
    client.post(description="<script>alert(1)</script>")
    shown = httpx2.get(client.xero.url).text
    assert "This is a sandbox, not Xero" in shown and "None yet" not in shown
    assert "&lt;script&gt;" in shown and "<script>" not in shown
    assert client.project["name"] in shown and client.tasks[0]["taskId"] in shown


def test_bytes_that_are_no_http_are_refused_and_chunks_are_read(client: Client) -> None:
    answer = client.http.post(f"{BASE}{client.time}", content=iter([b'{"duration"', b": 0}"]))
    assert answer.status_code == 400 and "59940" in answer.text
    refused = httpx2.get(client.xero.url, headers={"X": "y" * 70_000})
    assert refused.status_code == 400


@pytest.fixture(scope="module")
def prism(running: XeroSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prism]:
    with prism_before(running.url, tmp_path_factory.mktemp("prism")) as prism:
        yield prism


@pytest.mark.slow
def test_every_answer_is_as_xeros_own_specification_says(xero: XeroSandbox, prism: Prism) -> None:
    with prism.validates(), Client(xero, prism.url) as client:
        made = client.post(key="1").json()
        one = f"{client.time}/{made['timeEntryId']}"
        assert client.call("GET", one).json() == made
        change = client.entry()
        del change["description"]
        assert client.call("PUT", one, json=change).status_code == 204
        query = {"page": 1, "pageSize": 500, "states": "ACTIVE,LOCKED", "dateAfterUtc": "2026-03-01T00:00:00Z"}
        assert len(client.listed(client.time, **query)) == 1
        project = f"/Projects/{client.project['projectId']}"
        assert client.call("GET", project).status_code == 200
        assert client.call("GET", f"{project}/Tasks/{client.tasks[0]['taskId']}").status_code == 200
        assert client.post(duration=0).status_code == 400
        assert client.call("DELETE", one).status_code == 204
        [connection] = client.http.get("/connections").json()
        assert client.http.delete(f"/connections/{connection['id']}").status_code == 204


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": "/Projects/{project}/Times"}, "request Selected route not found"),
        ({"headers": {"Authorization": "Basic eDp5"}}, "request Invalid security scheme used"),
        ({"json": {"duration": "90"}}, "request.body.duration"),
        ({"json": {"dateUtc": "2026-03-02"}}, "request.body.dateUtc"),
    ],
)
def test_prism_sees_what_is_not_as_xero_says(xero: XeroSandbox, prism: Prism, wrong: Json, said: str) -> None:
    with pytest.raises(AssertionError, match=f"Violation: {said}"), prism.validates(), Client(xero, prism.url) as client:
        path = wrong.get("path", client.time).format(project=client.project["projectId"])
        client.call("POST", path, json=client.entry(**wrong.get("json", {})), headers=wrong.get("headers", {}))


# what happens to a connection at Xero


def test_an_app_that_is_disconnected_within_xero_renews_its_tokens_and_gets_no_access(client: Client) -> None:
    client.xero.unlink()
    refreshed = exchange(client.xero, "", grant_type="refresh_token", refresh_token=client.tokens["refresh_token"])
    assert refreshed.status_code == 200
    client.http.headers["Authorization"] = f"Bearer {refreshed.json()['access_token']}"
    refused = client.call("GET", "/Projects")
    assert (refused.status_code, refused.json()["Detail"]) == (403, "AuthenticationUnsuccessful")
    assert client.http.get("/connections").json() == []


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [("not_provisioned", 401, "provisioned"), ("lost_scopes", 401, "AuthorizationUnsuccessful"), ("offline", 503, "offline")],
)
def test_an_organisation_has_a_problem_until_it_has_none(kind: str, status: int, text: str, client: Client) -> None:
    client.xero.set_problem(kind)
    refused = client.call("GET", "/ProjectsUsers")
    assert refused.status_code == status and text in refused.text
    assert len(client.http.get("/connections").json()) == 1
    client.xero.set_problem(None)
    assert client.call("GET", "/ProjectsUsers").status_code == 200


def test_a_secret_that_was_changed_at_xero_makes_the_old_one_unknown(client: Client) -> None:
    client.xero.configure(clientSecret="another")
    refused = exchange(client.xero, "", grant_type="refresh_token", refresh_token=client.tokens["refresh_token"])
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_client"})


def test_a_removed_user_is_not_listed_and_takes_no_time_until_they_are_invited_again(client: Client) -> None:
    client.xero.remove_user(client.user)
    assert client.user["userId"] not in [user["userId"] for user in client.listed("/ProjectsUsers")]
    refused = client.post()
    assert refused.status_code == 400 and "project user" in refused.text
    again = client.xero.user(client.user["email"], userId="00000000-0000-4000-8000-00000000000a")
    assert client.post(userId=again["userId"]).status_code == 200


def test_any_text_can_stand_where_xero_documents_an_enumeration(client: Client) -> None:
    client.xero.change_project(client.project, currencyCode="XCG", status="INPROGRESS")
    client.xero.change_task(client.tasks[0], status="PAUSED", chargeType="RETAINER")
    assert client.listed("/Projects")[0]["currencyCode"] == "XCG"
    [task] = client.listed(f"/Projects/{client.project['projectId']}/Tasks", taskIds=client.tasks[0]["taskId"])
    assert (task["status"], task["chargeType"]) == ("PAUSED", "RETAINER")


def test_a_fault_can_have_any_body(client: Client) -> None:
    client.xero.inject_fault("status", status=403, body="no JSON")
    assert client.call("GET", "/Projects").text == "no JSON"


def test_a_busy_stint_is_connected_when_it_is_ready_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while `./stint demo` fills it."""
    monkeypatch.setattr(XeroProcess, "is_ready", lambda self: True)
    sandbox = XeroProcess(State(tmp_path), tmp_path, port=1)
    with answering() as stint:
        stint.status, stint.body = 503, b"busy"
        # what Xero answers to the browser, and Stint to the requests, once it is not busy
        free = {"url": f"{stint.url}/consent?state=1"}

        async def connect() -> None:
            connecting = asyncio.create_task(sandbox.connect(stint.url, "a token"))
            async with asyncio.timeout(20):
                while len(stint.requests) < 2:  # noqa: ASYNC110 - the server sets no event
                    await asyncio.sleep(0.01)
                stint.headers = {"Location": "http://127.0.0.1/?code=c&state=1"}
                stint.status, stint.body = 200, json.dumps(free).encode()
                await connecting

        asyncio.run(connect())
        assert stint.requests[-1][0] == "/api/xero/connect" and json.loads(stint.bodies[-1]) == {"code": "c", "state": "1"}
        monkeypatch.setattr(processes, "BUSY_SECONDS", 0)
        stint.status, stint.body = 503, b"busy"
        with pytest.raises(CommandError, match="busy"):
            asyncio.run(sandbox.connect(stint.url, "a token"))
