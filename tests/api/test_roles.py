"""Every route, asked by everybody: who may do what, that a refusal changes nothing, and that what is another customer's does
not exist."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.api.answers import Json, problem
from tests.api.table import TABLE, Asked
from tests.api.tenants import Tenant, operations, parameters, tenant, with_ids
from tests.api.tokens import ABSENT, Mint
from tests.given import Given, Person
from tests.installation import Installation

# whose token is sent, and as whom the table knows them: 401 and 403 stand for all who are refused everywhere with that
EVERYBODY: dict[str, int | str] = {
    "nobody": 401,
    "rubbish": 401,
    "somebody whose token is over": 401,
    "somebody from another issuer": 401,
    "somebody from another client": 401,
    "somebody with an access token without a role": 403,
    "somebody with an unknown role": 403,
    "an admin": "admin",
    "a legacy admin": "admin",
    "an internal user": "internal",
    "an admin of the customer": "customer_admin",
    "a user of the customer": "customer_user",
    "an admin of another customer": "customer_admin",
    "a user of another customer": "customer_user",
}
STRANGERS = ["an admin of another customer", "a user of another customer"]
CHANGES = {"an admin", "a legacy admin", "an internal user", "an admin of the customer"}


@pytest.fixture(scope="module")
def tenants(stint: Installation) -> Iterator[tuple[Tenant, Tenant]]:
    """A customer whom only those ask for who may change nothing of it, and another."""
    with closing(Given(stint)) as given:
        yield tenant(given), tenant(given)


@pytest.fixture(scope="module")
def documented(stint: Installation) -> dict[str, Json]:
    return operations(httpx.get(f"{stint.url}/docs/openapi.json").json())


def test_the_table_has_every_route(documented: dict[str, Json]) -> None:
    missing, left = sorted(set(documented) - set(TABLE)), sorted(set(TABLE) - set(documented))
    assert not missing, f"who may ask for these? add a line for each to TABLE in tests/api/table.py: {missing}"
    assert not left, f"these routes are gone; take them out of TABLE in tests/api/table.py: {left}"


def test_the_document_says_which_routes_need_a_token(documented: dict[str, Json]) -> None:
    assert {route for route, operation in documented.items() if operation.get("security") == [{}]} == {
        route for route, asked in TABLE.items() if not asked.needs_token
    }


@pytest.mark.parametrize("who", EVERYBODY)
def test_each_route_is_for_whom_it_is_meant(
    who: str, given: Given, stint: Installation, tenants: tuple[Tenant, Tenant]
) -> None:
    own = tenant(given) if who in CHANGES else tenants[0]
    person = asking(who, given, own, tenants[1])
    expected = {route: status_for(who, route, asked) for route, asked in TABLE.items()}
    refused = [route for route, status in expected.items() if status >= 400]
    given.settled()
    forget_how_often_strangers_asked(stint)

    before = fingerprint(stint)
    answers = {route: ask(person, route, own) for route in refused}
    assert fingerprint(stint) == before, "what was refused has changed something"
    answers |= {route: ask(person, route, own) for route in TABLE if route not in answers}
    assert fingerprint(stint) != before, "nothing would be noticed"

    assert {route: answer.status_code for route, answer in answers.items()} == expected
    for route in refused:
        problem(answers[route], expected[route])


@pytest.mark.parametrize("who", STRANGERS)
def test_what_is_another_customers_answers_like_what_is_not_there(
    who: str, given: Given, documented: dict[str, Json], tenants: tuple[Tenant, Tenant]
) -> None:
    theirs, own = tenants
    person = asking(who, given, theirs, own)
    for route in documented:
        for name in parameters(route):
            # the rest of the path is right: a pillar of another customer must not be found below the own one either
            for rest in (own, theirs):
                hidden = ask(person, route, rest, **{name: theirs.ids[name]})
                unknown = ask(person, route, rest, **{name: given.new_id()})
                assert as_told(hidden) == as_told(unknown), f"{route}: {name}"
                assert hidden.status_code in (403, 404), route


def status_for(who: str, route: str, asked: Asked) -> int:
    role = EVERYBODY[who]
    if not asked.needs_token:
        return asked.admin
    if isinstance(role, int):
        return role
    status: int = getattr(asked, role)
    return 404 if who in STRANGERS and parameters(route) and status != 403 else status


def asking(who: str, given: Given, own: Tenant, other: Tenant) -> Person:
    mint = Mint(given.stint)
    match who:
        case "nobody":
            return Person("", "", "", given.client({}))
        case "rubbish":
            return given.with_token("rubbish")
        case "somebody whose token is over":
            return given.with_token(mint.token(exp=int(time.time()) - 1))
        case "somebody from another issuer":
            return given.with_token(mint.token(iss="https://elsewhere.example.com"))
        case "somebody from another client":
            return given.with_token(mint.token(aud="another"))
        case "somebody with an access token without a role":
            return given.with_token(mint.token(role=ABSENT, token_use="access", client_id="stint", aud=ABSENT))
        case "somebody with an unknown role":
            return given.person("visitor")
        case "an admin":
            return given.admin()
        case "a legacy admin":
            return given.person("none")
        case "an internal user":
            return given.person()
        case _:
            customer = (other if who in STRANGERS else own).ids["customer_id"]
            return given.person(str(EVERYBODY[who]), customer)


def ask(person: Person, route: str, whose: Tenant, **instead: str) -> httpx.Response:
    """The route's request from the table, with these ids; of an answer that never ends, its beginning."""
    method, _, template = route.partition(" ")
    asked, ids = TABLE[route], whose.ids | {"owner": "me"} | instead
    sent: dict[str, Any] = {"params": with_ids(asked.query, ids), "json": with_ids(asked.body, ids) or None}
    path = whose.path(template, **ids)
    if not asked.is_stream:
        return person.http.request(method, path, **sent)
    with person.http.stream(method, path, **sent) as answer:
        if answer.is_success:
            assert next(answer.iter_bytes()), f"{route} begins with nothing"
        else:
            answer.read()
        return answer


def as_told(answer: httpx.Response) -> tuple[int, Any, Any]:
    """All that an answer tells, but for which request it is the answer to and when."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    return answer.status_code, headers, answer.json() | {"requestId": ""}


def fingerprint(stint: Installation) -> dict[str, tuple[int, int]]:
    """How many rows each table has, and the sum of their hashes. Left out: what counts refusals, or beats by itself."""
    tables = stint.rows(
        """
        SELECT tablename FROM pg_tables WHERE schemaname = 'public'
            AND tablename NOT IN ('rate_limits', 'heartbeats', 'handler_totals')
        """
    )
    each = " UNION ALL ".join(
        f"SELECT '{table}', count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric), 0) FROM {table} r"
        for (table,) in tables
    )
    return {table: (count, hashes) for table, count, hashes in stint.rows(each)}


def forget_how_often_strangers_asked(stint: Installation) -> None:
    """All the tests come from one address, and the limits on it are not what this is about."""
    with stint.sql() as conn:
        conn.execute("DELETE FROM rate_limits")


def test_an_internal_user_reads_anybodys_timer(given: Given) -> None:
    owner, other = given.people(2)
    timer = owner.post(f"/api/tasks/{given.task(owner)['id']}/start")
    assert other.get(f"/api/active-timers/{owner.id}")["id"] == timer["id"]
    problem(owner.http.get(f"/api/active-timers/{other.id}"), 404)
    problem(owner.http.get(f"/api/active-timers/{given.new_id()}"), 404)
