"""Every route with every role: each gets the expected status, a refusal changes nothing, and rows of another customer look like
unknown ones."""

import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx2
import pytest

from tests.api.contract import fetch_document
from tests.api.invitations import reset_rate_limits
from tests.api.table import TABLE, RouteCase
from tests.api.tenants import Tenant, operations, parameters, tenant, with_ids
from tests.identity.tokens import ABSENT, Mint
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation

# The sender of the token, and the role in the table; 401 and 403 are for senders that are refused everywhere.
SENDERS: dict[str, int | str] = {
    "no token": 401,
    "an invalid token": 401,
    "an expired token": 401,
    "a token of another issuer": 401,
    "a token of another client": 401,
    "an access token without a role": 403,
    "an unknown role": 403,
    "an admin": "admin",
    "a legacy admin": "admin",
    "an internal user": "internal",
    "an admin of the customer": "customer_admin",
    "a user of the customer": "customer_user",
    "an admin of another customer": "customer_admin",
    "a user of another customer": "customer_user",
}
USERS_OF_ANOTHER_CUSTOMER = ["an admin of another customer", "a user of another customer"]
MAY_WRITE = {"an admin", "a legacy admin", "an internal user", "an admin of the customer"}


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests read all rows, and some routes change all of them."""
    return stint_apart


@pytest.fixture(scope="module")
def tenants(stint: Installation) -> Iterator[tuple[Tenant, Tenant]]:
    """A customer for the senders that may not change it, and another customer."""
    with closing(Given(stint)) as given:
        yield tenant(given), tenant(given)


@pytest.fixture(scope="module")
def documented(stint: Installation) -> dict[str, Json]:
    return operations(fetch_document(stint))


def test_the_table_has_every_route(documented: dict[str, Json]) -> None:
    missing, left = sorted(set(documented) - set(TABLE)), sorted(set(TABLE) - set(documented))
    assert not missing, f"add a line for each of these routes to TABLE in tests/api/table.py: {missing}"
    assert not left, f"these routes do not exist any more; remove them from TABLE in tests/api/table.py: {left}"


def test_the_document_says_which_routes_need_a_token(documented: dict[str, Json]) -> None:
    assert {route for route, operation in documented.items() if operation.get("security") == [{}]} == {
        route for route, case in TABLE.items() if not case.needs_token
    }


@pytest.mark.parametrize("who", SENDERS)
def test_each_route_answers_each_role_as_the_table_says_and_a_refusal_changes_nothing(
    who: str, given: Given, stint: Installation, tenants: tuple[Tenant, Tenant]
) -> None:
    own = tenant(given) if who in MAY_WRITE else tenants[0]
    person = sender(who, given, own, tenants[1])
    expected = {route: expected_status(who, route, case) for route, case in TABLE.items()}
    refused = [route for route, status in expected.items() if status >= 400]
    given.settled()
    reset_rate_limits(stint)  # all tests share one client address; its limits are not the subject here

    before = fingerprint(stint)
    answers = {route: send(person, route, own) for route in refused}
    assert fingerprint(stint) == before, "a refused request has changed something"
    answers |= {route: send(person, route, own) for route in TABLE if route not in answers}
    assert fingerprint(stint) != before, "the fingerprint notices no change"

    assert {route: answer.status_code for route, answer in answers.items()} == expected
    for route in refused:
        problem(answers[route], expected[route])


OF_ITS_OWNER = {"entry_id", "bill_id"}  # the row decides whether an internal user is refused
REFUSED_BEFORE_THE_BODY = [
    "no token",
    "an unknown role",
    "an internal user",
    "an admin of the customer",
    "a user of the customer",
]


@pytest.mark.parametrize("who", REFUSED_BEFORE_THE_BODY)
def test_a_refusal_waits_for_no_body_and_looks_at_no_query(
    who: str, given: Given, stint: Installation, tenants: tuple[Tenant, Tenant]
) -> None:
    person = sender(who, given, *tenants)
    expected = {route: expected_status(who, route, case) for route, case in TABLE.items() if case.needs_token}
    refused = {
        route: status
        for route, status in expected.items()
        if status in (401, 403) and not (who == "an internal user" and OF_ITS_OWNER & set(parameters(route)))
    }
    assert {route: head_only(person, stint, route, tenants[0]) for route in refused} == refused


def head_only(person: Person, stint: Installation, route: str, target: Tenant) -> int:
    """The status of a request whose body does not come, with an unknown query parameter and with ids that are none."""
    method, _, template = route.partition(" ")
    path = target.path(template, **dict.fromkeys(parameters(route), "not-an-id"))
    with closing(HTTPConnection(str(httpx2.URL(stint.url).host), httpx2.URL(stint.url).port, timeout=15)) as connection:
        connection.putrequest(method, f"{path}?nonsense=1")
        if "authorization" in person.http.headers:
            connection.putheader("Authorization", person.http.headers["authorization"])
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"{")
        return connection.getresponse().status  # a body may take 20 seconds


@pytest.mark.parametrize("who", USERS_OF_ANOTHER_CUSTOMER)
def test_rows_of_another_customer_answer_like_unknown_ones(
    who: str, given: Given, documented: dict[str, Json], tenants: tuple[Tenant, Tenant]
) -> None:
    theirs, own = tenants
    person = sender(who, given, theirs, own)
    for route in documented:
        for name in parameters(route):
            # with both other ids in the rest of the path: another customer's pillar must not be found below one's own customer
            for rest in (own, theirs):
                hidden = send(person, route, rest, **{name: theirs.ids[name]})
                unknown = send(person, route, rest, **{name: given.new_id()})
                assert comparable(hidden) == comparable(unknown), f"{route}: {name}"
                assert hidden.status_code in (403, 404), route


def expected_status(who: str, route: str, case: RouteCase) -> int:
    role = SENDERS[who]
    if not case.needs_token:
        return case.admin
    if isinstance(role, int):
        return role
    status: int = getattr(case, role)
    return 404 if who in USERS_OF_ANOTHER_CUSTOMER and parameters(route) and status != 403 else status


def sender(who: str, given: Given, own: Tenant, other: Tenant) -> Person:
    mint = Mint(given.stint)
    match who:
        case "no token":
            return Person("", "", "", given.client({}))
        case "an invalid token":
            return given.with_token("invalid")
        case "an expired token":
            return given.with_token(mint.token(exp=int(time.time()) - 1))
        case "a token of another issuer":
            return given.with_token(mint.token(iss="https://elsewhere.example.com"))
        case "a token of another client":
            return given.with_token(mint.token(aud="another"))
        case "an access token without a role":
            return given.with_token(mint.token(role=ABSENT, token_use="access", client_id="stint", aud=ABSENT))
        case "an unknown role":
            return given.person("visitor")
        case "an admin":
            return given.admin()
        case "a legacy admin":
            return given.person("none")
        case "an internal user":
            return given.person()
        case _:
            customer = (other if who in USERS_OF_ANOTHER_CUSTOMER else own).ids["customer_id"]
            return given.person(str(SENDERS[who]), customer)


def send(person: Person, route: str, target: Tenant, **instead: str) -> httpx2.Response:
    """Sends the route's request from the table, with these ids. Reads only the beginning of an endless answer."""
    method, _, template = route.partition(" ")
    case, ids = TABLE[route], target.ids | {"owner": "me"} | instead
    sent: dict[str, Any] = {"params": with_ids(case.query, ids), "json": with_ids(case.body, ids) or None}
    path = target.path(template, **ids)
    if not case.is_stream:
        return person.http.request(method, path, **sent)
    with person.http.stream(method, path, **sent) as answer:
        if answer.is_success:
            assert next(answer.iter_bytes()), f"{route}: the stream is empty"
        else:
            answer.read()
        return answer


def comparable(answer: httpx2.Response) -> tuple[int, Any, Any]:
    """All of an answer except the request id and the time."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    return answer.status_code, headers, answer.json() | {"requestId": ""}


def fingerprint(stint: Installation) -> dict[str, tuple[int, int]]:
    """The number of rows and the sum of their hashes, by table, except tables that change constantly or on refusals."""
    tables = stint.rows(
        """
        SELECT tablename FROM pg_tables WHERE schemaname = 'public'
            AND tablename NOT IN ('rate_limits', 'heartbeats', 'handler_totals', 'queue_samples', 'sync_epochs', 'outages')
        """
    )
    each = " UNION ALL ".join(
        f"SELECT '{table}', count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric), 0) FROM {table} r"
        for (table,) in tables
    )
    return {table: (count, hashes) for table, count, hashes in stint.rows(each)}


def test_an_internal_user_reads_the_timers_of_others(given: Given) -> None:
    owner, other = given.people(2)
    timer = owner.post(f"/api/tasks/{given.task(owner)['id']}/start")
    assert other.get(f"/api/active-timers/{owner.id}")["id"] == timer["id"]
    problem(owner.http.get(f"/api/active-timers/{other.id}"), 404)
    problem(owner.http.get(f"/api/active-timers/{given.new_id()}"), 404)
