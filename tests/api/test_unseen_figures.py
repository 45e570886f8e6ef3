"""No figures are approved that the admin has not read, however late sums are recalculated: here no worker recalculates
bills."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.support.answers import problem
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually

DAY = "2026-03-02T"


@pytest.fixture
def lagging(own: Installation) -> Iterator[tuple[Given, Person, Person, Json]]:
    """Without a worker of the queue `bills`: stops become entries, but changes are never followed by a recompute."""
    own.start("api", "relay", "work:timers").wait_until_ready()
    given = Given(own)
    by, admin = given.person(), given.admin()
    yield given, by, admin, given.task(by)
    given.close()


def logged(by: Person, task: Json, hour: int, seconds: int = 3600) -> Json:
    return by.post("/api/time-entries", {"taskId": task["id"], "startTime": f"{DAY}{hour:02}:00:00Z", "duration": seconds})


def bill_of(by: Person, entry: Json) -> Json:
    return by.get(f"/api/time-bills/{entry['timeBillId']}")


def test_the_figures_in_a_409_are_committed_with_their_version(lagging: tuple[Given, Person, Person, Json]) -> None:
    given, by, admin, task = lagging
    entry = logged(by, task, 9)
    seen = bill_of(admin, entry)
    assert seen["seconds"] == 0  # not recalculated yet

    refused = problem(
        admin.http.patch(f"/api/time-bills/{seen['id']}", json={"status": "approved", "version": seen["version"]}), 409
    )

    assert refused["current"]["seconds"] == 3600
    assert bill_of(admin, entry) == refused["current"]
    # the handler of a stop recalculates its bill itself
    logged(by, task, 13, 7200)
    given.stopped(by, task)
    answer = admin.http.patch(
        f"/api/time-bills/{seen['id']}", json={"status": "approved", "version": refused["current"]["version"]}
    )
    now = problem(answer, 409)["current"]
    assert now["seconds"] == 3600 + 7200
    assert bill_of(admin, entry)["status"] == "pending"


def test_late_time_after_a_409_is_not_approved(lagging: tuple[Given, Person, Person, Json]) -> None:
    given, by, admin, task = lagging
    today = datetime.fromisoformat(given.stint.value("SELECT (now() AT TIME ZONE 'UTC')::date::text"))
    start = (today + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = by.post("/api/time-entries", {"taskId": task["id"], "startTime": start, "duration": 600})
    path = f"/api/time-bills/{entry['timeBillId']}"
    seen = problem(admin.http.patch(path, json={"status": "approved", "version": bill_of(admin, entry)["version"]}), 409)[
        "current"
    ]
    by.http.put("/api/active-timers/me", json={"taskId": task["id"], "startTime": start}).raise_for_status()
    by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    eventually(lambda: bill_of(admin, entry)["seconds"] > 600)

    for body in ({"status": "approved", "version": seen["version"]},):
        assert problem(admin.http.patch(path, json=body), 409)["current"]["seconds"] > seen["seconds"]
    result = admin.post("/api/time-bills/approve-all", {"bills": [{"id": seen["id"], "version": seen["version"]}]}, status=200)
    assert (result["approved"], result["skipped"]) == (0, 1)
    assert bill_of(admin, entry)["status"] == "pending"


def test_a_refused_change_returns_the_present_bill(lagging: tuple[Given, Person, Person, Json]) -> None:
    given, _, admin, _ = lagging
    entry = logged(admin, given.task(admin), 9, 0)
    path = f"/api/time-bills/{entry['timeBillId']}"

    refused = problem(admin.http.patch(path, json={"memo": "never written", "status": "pending"}), 409)

    assert refused["current"]["memo"] == ""
    assert refused["current"] == admin.get(path)
