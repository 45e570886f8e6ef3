"""What a request costs: a list or a get is one statement beyond authorization, and its JSON is Postgres' own bytes."""

import re

import pytest

from tests.api.answers import at
from tests.api.wire import Wire
from tests.given import Given
from tests.installation import Installation

READS = [
    "/api/customers",
    "/api/tasks",
    "/api/time-entries",
    "/api/time-bills",
    "/api/time-entries?enrich=true&customer=Acme&startDate=2026-01-01&endDate=2026-12-31",
    "/api/time-bills?enrich=true&status=approved",
    "/api/customers/{customer}",
    "/api/tasks/{task}",
    "/api/time-entries/{entry}",
    "/api/time-bills/{bill}",
    "/api/active-timers/me",
]


@pytest.mark.parametrize("role", ["internal_user", "customer_user"])
def test_a_read_is_one_statement_beyond_authorization(role: str, given: Given, wire: Wire, tapped: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    bill = given.approved_bill(by, admin, task)
    by.post(f"/api/tasks/{task['id']}/start")
    entry = by.get("/api/time-entries", timeBillId=bill["id"])["items"][0]
    reader = by if role == "internal_user" else given.person(role, task["customerId"])
    with at(tapped, reader.token) as client:
        assert client.get("/api/me").status_code == 200  # from here on the token is known, and the connections are there
        for path in READS:
            if role == "customer_user" and "timers" in path:
                continue
            wire.clear()
            answer = client.get(path.format(customer=task["customerId"], task=task["id"], entry=entry["id"], bill=bill["id"]))
            assert answer.status_code == 200
            authorization, *reading = wire.statements
            assert " FROM users WHERE id = $1" in authorization
            assert len(reading) == 1, f"{path}: {reading}"
            assert "json_build_object" in reading[0]


@pytest.mark.parametrize("noun", ["customers", "tasks", "time-entries", "time-bills"])
def test_the_bytes_of_a_list_are_those_that_postgres_sent(noun: str, given: Given, wire: Wire, tapped: Installation) -> None:
    by = given.person()
    given.stopped(by, given.task(by))
    with at(tapped, by.token) as client:
        wire.clear()
        answer = client.get(f"/api/{noun}?limit=1")
        found = re.fullmatch(
            rb'\{"items":\[(.+)\],"nextCursor":(?:null|"[\w-]+"),"syncTimestamp":"[0-9a-f-]+\.\d+"\}', answer.content
        )
        assert found
        assert found[1] in wire.answered


def test_a_refused_token_costs_nothing_but_the_look_at_its_user(given: Given, wire: Wire, tapped: Installation) -> None:
    with at(tapped, given.person("visitor").token) as client:
        client.get("/api/tasks")
        wire.clear()
        assert client.get("/api/tasks").status_code == 403
        assert len(wire.statements) == 1
