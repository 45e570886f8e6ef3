"""Who gets the metrics, and how often they are read from Postgres."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psycopg
import pytest

from tests.support.answers import problem
from tests.support.apis import Another
from tests.support.given import Given
from tests.support.installation import Installation
from tests.support.wire import Wire

TOKEN = "a-token-for-prometheus"


def test_metrics_are_for_the_same_machine_only(stint: Installation) -> None:
    assert httpx2.get(f"{stint.url}/metrics").status_code == 200
    # through a proxy on the same machine, the client may be anywhere
    for header in (
        "X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded",
        "X-Forwarded-Port", "X-Forwarded-Server", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Cluster-Client-IP",
        "X-Envoy-External-Address",
    ):  # fmt: skip
        for value in ("203.0.113.7", "127.0.0.1", ""):
            answer = httpx2.get(f"{stint.url}/metrics", headers={header: value})
            assert "METRICS_TOKEN" in problem(answer, 401)["detail"]
            assert answer.headers["www-authenticate"] == "Bearer"


def test_clients_elsewhere_need_the_token(another: Another, given: Given) -> None:
    api = another(METRICS_TOKEN=TOKEN)
    elsewhere = {"X-Forwarded-For": "203.0.113.7"}
    assert httpx2.get(f"{api.url}/metrics").status_code == 200
    assert httpx2.get(f"{api.url}/metrics", headers=elsewhere | {"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    for wrong in (
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer",
        "Bearer \xfc",
        f"Bearer {given.admin().token}",
    ):
        headers = [(b"X-Forwarded-For", b"203.0.113.7"), (b"Authorization", wrong.encode("latin-1"))]
        problem(httpx2.get(f"{api.url}/metrics", headers=headers), 401)


def test_a_trusted_proxys_client_is_not_local_whatever_it_claims(another: Another) -> None:
    api = another(TRUSTED_PROXIES="127.0.0.1")
    for claimed in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost"):
        problem(httpx2.get(f"{api.url}/metrics", headers={"X-Forwarded-For": claimed}), 401)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRUSTED_PROXIES", "127.0.0.1"), ("PUBLIC_URL", "https://stint.example.com"), ("PUBLIC_URL", "stint.example.com")],
)
def test_behind_a_proxy_everybody_needs_the_token(name: str, value: str, another: Another) -> None:
    api = another(**{"METRICS_TOKEN": TOKEN, name: value})
    problem(httpx2.get(f"{api.url}/metrics"), 401)  # a proxy that adds no header looks like this
    assert httpx2.get(f"{api.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_an_ignored_header_is_logged_once(another: Another) -> None:
    api, trusting = another(METRICS_TOKEN=TOKEN), another(METRICS_TOKEN=TOKEN, TRUSTED_PROXIES="127.0.0.1")
    for known in (api, trusting):
        for claimed in ("203.0.113.7", "203.0.113.7:1234", "", "127.0.0.1"):
            assert httpx2.get(f"{known.url}/health/live", headers={"X-Forwarded-For": claimed}).status_code == 200
    assert api.log("api").count("X-Forwarded-For is ignored") == 1
    assert "X-Forwarded-For is ignored" not in trusting.log("api")


@pytest.fixture(scope="module")
def cached(another: Another, wire: Wire) -> Installation:
    return another(DATABASE_URL=wire.database_url, STINT_METRICS_SECONDS="3600")


def test_many_scrapes_read_postgres_once(cached: Installation, wire: Wire) -> None:
    wire.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx2.get(f"{cached.url}/metrics"), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert all("stint_postgres_up 1" in answer.text and "stint_dead_letters" in answer.text for answer in answers)
    assert sum("FROM handler_totals" in statement for statement in wire.statements) == 1
    counted = [answer.text.count('route="/metrics"') for answer in answers]
    assert max(counted) > 0  # what is counted in the process is always current


def test_a_table_that_somebody_has_locked_is_told_while_it_cannot_be_read(another: Another, stint: Installation) -> None:
    api = another()
    with psycopg.connect(stint.database_url) as conn:
        conn.execute("LOCK TABLE failure_groups, unrecognized_messages")
        answer = httpx2.get(f"{api.url}/metrics", timeout=20)
        assert "stint_postgres_up 1" in answer.text and "stint_dead_letters" not in answer.text
        [seconds] = re.findall(r"^stint_postgres_blocked_seconds (.*)$", answer.text, re.MULTILINE)
        assert float(seconds) > 1
        conn.rollback()
    assert "stint_postgres_blocked_seconds 0.0" in httpx2.get(f"{api.url}/metrics").text


def test_a_failed_read_is_shared_too(another: Another) -> None:
    away = another(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing", STINT_METRICS_SECONDS="3600")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx2.get(f"{away.url}/metrics", timeout=20), range(16)))
    assert all("stint_postgres_up 0" in answer.text for answer in answers)
