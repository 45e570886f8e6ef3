"""What a request without a token costs the API's process, in CPU time: the largest body, query and headers of public routes."""

import json
import os
from typing import Any

import httpx2
import pytest

from api.app import ROUTES
from api.customers.leads import MAX_LEAD_BYTES
from api.http.limits.clients import COUNT_CLIENT, MAX_CLIENTS, ClientLimit
from api.http.requests import MAX_BODY_BYTES
from api.sign_in import MAX_SIGN_IN_BYTES
from schemas.errors import RateLimited
from tests.support.answers import problem
from tests.support.apis import Another
from tests.support.installation import Installation

BUDGET_SECONDS = 0.020  # of CPU time for one request
REPETITIONS = 40
JSON = {"Content-Type": "application/json"}
TICK = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def api(another: Another) -> Installation:
    """A process that no other test uses meanwhile, so that its CPU time is this test's."""
    return another(STINT_LONG_HOURS="11")


def cpu_seconds(api: Installation) -> float:
    """The CPU time of the API's process so far."""
    with open(f"/proc/{api.processes['api'].pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def cost(api: Installation, method: str, path: str, **more: Any) -> float:
    """The CPU time of one request, on average of many. The request is made once: a query of 60 kB costs the client more than
    the API."""
    with httpx2.Client(base_url=api.url, timeout=30) as http:
        request = http.build_request(method, path, **more)
        http.send(request)
        before = cpu_seconds(api)
        for _ in range(REPETITIONS):
            answer = http.send(request)
            assert 400 <= answer.status_code < 500, answer.text
        return (cpu_seconds(api) - before) / REPETITIONS


def fill(start: bytes, repeated: bytes, end: bytes, length: int) -> bytes:
    return start + repeated * ((length - len(start) - len(end)) // len(repeated)) + end


def bodies(length: int) -> dict[str, bytes]:
    """Bodies of about that length, each hard for some parser."""
    keys = b",".join(b'"k%d":1' % number for number in range(length // 11))
    return {
        "unknown keys": b"{" + keys + b"}",
        "arrays": fill(b'{"email":[', b"[],", b"1]}", length),
        "nesting": b"[" * length,
        "digits": fill(b'{"email":', b"9", b"}", length),
        "an address": fill(b'{"email":"a@', b"a.", b'b"}', length),
        "escapes": fill(b'{"email":"', b"\\u0061", b'"}', length),
        "an unclosed text": fill(b'{"email":"', b'\\"', b"", length),
    }


PUBLIC = {"/auth/code": MAX_SIGN_IN_BYTES, "/auth/token": MAX_SIGN_IN_BYTES, "/api/leads": MAX_LEAD_BYTES}
CASES = [(path, kind) for path, length in PUBLIC.items() for kind in bodies(length)]


@pytest.mark.parametrize(("path", "kind"), CASES)
def test_the_largest_body_costs_little(path: str, kind: str, api: Installation) -> None:
    body = bodies(PUBLIC[path])[kind]
    assert cost(api, "POST", path, content=body, headers=JSON) < BUDGET_SECONDS


@pytest.mark.parametrize("path", PUBLIC)
def test_28_000_unknown_keys_are_not_read(path: str, api: Installation) -> None:
    body = json.dumps({f"k{number}": 1 for number in range(28_000)}).encode()[:MAX_BODY_BYTES]
    assert cost(api, "POST", path, content=body, headers=JSON) < BUDGET_SECONDS


@pytest.mark.parametrize("path", ["/api/slack/events", "/api/slack/interactivity"])
def test_a_body_that_slack_has_not_signed_costs_little(path: str, api: Installation) -> None:
    body = bodies(MAX_BODY_BYTES - 10)["unknown keys"]
    headers = JSON | {"X-Slack-Request-Timestamp": "1", "X-Slack-Signature": "v0=" + "0" * 64}
    assert cost(api, "POST", path, content=body, headers=headers) < BUDGET_SECONDS


HEADERS = {
    "Authorization": "Bearer " + "a-" * 20_000,
    "a token": "Bearer " + "a" * 4_000 + "." + "a" * 2_000 + "." + "a" * 2_000,
    "many dots": "Bearer " + "a." * 4_000,
    "Content-Type": "application/json" + ";a=b" * 10_000,
    "Content-Type, quotes": 'a/b; c="' + '\\"' * 20_000,
    "Accept": "a/b;q=0.1," * 5_000,
    "Cookie": "a=b; " * 10_000,
    "X-Forwarded-For": "1.2.3.4, " * 6_000,
    "Accept-Encoding": "gzip;q=0.1," * 5_000,
    "Origin": "https://" + "a." * 20_000,
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("path", ["/auth/code", "/api/tasks"])
def test_the_largest_header_costs_little(name: str, path: str, api: Installation) -> None:
    header = "Authorization" if HEADERS[name].startswith("Bearer") else name.partition(",")[0]
    headers = JSON | {header: HEADERS[name].strip()}
    assert cost(api, "POST", path, content=b"{}", headers=headers) < BUDGET_SECONDS


QUERIES = {
    "parameters": "&".join(f"k{number}=1" for number in range(8_000)),
    "one parameter again": "a=1&" * 12_000,
    "a value": "customer=" + "a" * 60_000,
    "escapes": "customer=" + "%C3%A9" * 10_000,
    "separators": "&" * 60_000,
}


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("path", ["/health/live", "/api/leads", "/api/tasks/nothing"])
def test_the_largest_query_costs_little(kind: str, path: str, api: Installation) -> None:
    assert cost(api, "GET", f"{path}?{QUERIES[kind]}") < BUDGET_SECONDS


def test_a_query_with_more_parameters_than_any_route_has_is_400(api: Installation) -> None:
    for query in ("&".join(["limit=1"] * 101), "customer=" + "a" * 8_200):
        assert "parameters" in problem(httpx2.get(f"{api.url}/api/tasks?{query}"), 400)["detail"]


KEYS = "/.well-known/jwks.json"  # takes a connection, unlike the other GETs without a token, which share one


def test_public_routes_count_their_clients_before_they_read_a_body() -> None:
    public = [handler for method, path, handler in ROUTES if method == "POST" and handler.opt.get("exclude_from_auth")]
    counted = {path for method, path, handler in ROUTES if handler.opt.get(COUNT_CLIENT)}
    # Slack's requests are signed, and all come from a few addresses
    assert counted == {path for _, path, handler in ROUTES if handler in public and "slack" not in path} | {KEYS}


def test_a_client_that_sends_too_much_is_429_whatever_it_sends(another: Another) -> None:
    api = another(STINT_CLIENT_REQUESTS="10")
    with httpx2.Client(base_url=api.url, timeout=10) as http:
        for path in ["/auth/code", "/auth/token", "/api/leads"] * 4:
            answer = http.post(path, content=b"{", headers=JSON)
        problem(answer, 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 6
        problem(http.get(KEYS), 429)
        assert http.get("/health/live").status_code == http.get("/health/ready").status_code == 200


def test_clients_are_limited_one_by_one_and_forgotten() -> None:
    limit = ClientLimit()
    for client in ("a", "b"):
        for _ in range(2):
            limit.consume(client, 2)
        with pytest.raises(RateLimited) as refused:
            limit.consume(client, 2)
        assert 29 <= refused.value.seconds <= 30
    for number in range(MAX_CLIENTS):
        limit.consume(str(number), 2)
    limit.consume("a", 2)  # forgotten, so that memory is bounded
