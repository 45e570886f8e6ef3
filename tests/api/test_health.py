"""Health, metrics, request ids and the log."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.api.table import TABLE
from tests.identity.tokens import UNKNOWN_KEY
from tests.support.answers import EVERY_ROUTE, filled, problem
from tests.support.apis import NOWHERE, Another
from tests.support.given import Given
from tests.support.installation import Installation, eventually


def test_a_running_stint_is_alive_and_ready(stint: Installation) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = httpx2.get(stint.url + path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "problems": []})


@pytest.mark.exclusive(uses="little")
def test_without_postgres_every_route_answers_503_within_two_seconds(another: Another) -> None:
    routes = [(method, path) for method, path in EVERY_ROUTE if TABLE[f"{method} {path}"].needs_token]

    # one client, because creating one per request would take longer than the responses
    client = httpx2.Client(base_url=another(DATABASE_URL=NOWHERE).url, headers=UNKNOWN_KEY, timeout=20)

    def request(route: tuple[str, str]) -> tuple[httpx2.Response, float]:
        started = time.monotonic()
        answer = client.request(route[0], filled(route[1]))
        return answer, time.monotonic() - started

    with client, ThreadPoolExecutor(len(routes)) as pool:
        for answer, seconds in pool.map(request, routes):
            problem(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
            assert seconds < 2.5  # 2 s, and the time to start twenty threads on a busy machine


def test_without_postgres_the_process_is_alive_but_not_ready(without_postgres: Installation) -> None:
    assert httpx2.get(f"{without_postgres.url}/health/live").status_code == 200

    ready = httpx2.get(f"{without_postgres.url}/health/ready")
    assert ready.status_code == 503
    assert ready.json()["status"] == "unavailable"
    assert "Postgres" in ready.json()["problems"][0]

    metrics = httpx2.get(f"{without_postgres.url}/metrics")
    assert metrics.status_code == 200
    assert "stint_postgres_up 0" in metrics.text.splitlines()


def test_metrics_count_requests_by_route(given: Given, stint: Installation) -> None:
    admin = given.admin()
    task = given.task(admin)
    given.stopped(admin, task)
    admin.get(f"/api/tasks/{task['id']}")

    answer = httpx2.get(f"{stint.url}/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert "stint_postgres_up 1" in lines
    assert any(
        line.startswith('stint_requests_total{method="GET",route="/api/tasks/{task_id}",status="200"} ') for line in lines
    )
    assert any(line.startswith('stint_request_seconds_bucket{le="+Inf",method="POST",route="/api/tasks"') for line in lines)
    assert task["id"] not in answer.text  # with a label per row, metrics would grow without a limit


def test_metrics_show_waiting_messages(idle: Installation) -> None:
    given = Given(idle)
    admin = given.admin()
    task = given.task(admin)
    admin.post(f"/api/tasks/{task['id']}/start")
    admin.post(f"/api/tasks/{task['id']}/stop", status=202)
    waiting = idle.value("SELECT count(*) FROM messages WHERE queue = 'timers' AND state = 'ready'")
    given.close()

    lines = httpx2.get(f"{idle.url}/metrics").text.splitlines()

    assert f'stint_messages{{queue="timers",state="ready"}} {waiting}' in lines
    assert any(line.startswith('stint_oldest_due_seconds{queue="timers"} ') for line in lines)


def test_the_public_keys_are_public_only(stint: Installation) -> None:
    keys = httpx2.get(f"{stint.url}/.well-known/jwks.json").json()["keys"]
    assert keys
    assert all(set(key) - {"key_ops"} == {"kid", "kty", "n", "e", "use", "alg"} for key in keys)
    assert all(key["kty"] == "RSA" and key.get("key_ops", ["verify"]) == ["verify"] for key in keys)


@pytest.mark.parametrize("path", ["/health/live", "/api/me", "/api/nothing", "/docs", "/api/%00"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", "DELETE"])
def test_every_response_has_its_own_request_id(method: str, path: str, stint: Installation) -> None:
    ids = [httpx2.request(method, stint.url + path).headers.get_list("x-request-id") for _ in range(2)]
    assert all(len(found) == 1 and len(found[0]) == 32 for found in ids)
    assert ids[0] != ids[1]


def test_the_log_has_a_json_line_for_each_request_with_its_id(given: Given, stint: Installation) -> None:
    admin = given.admin()
    answer = admin.http.get(f"/api/tasks/{given.new_id()}")
    request_id = answer.headers["x-request-id"]

    def logged() -> list[dict[str, object]]:
        found = [json.loads(line) for line in stint.log("api").splitlines() if request_id in line]
        return [line for line in found if line["logger"] == "stint.request"]

    lines = eventually(logged, seconds=5, why="the request's line is in the log")
    assert len(lines) == 1
    assert lines[0]["request"] == request_id
    assert lines[0]["message"] == "GET /api/tasks/{task_id} 404"
    assert lines[0]["path"] == answer.request.url.path
    assert isinstance(lines[0]["milliseconds"], float)
    assert admin.token not in stint.log("api")
