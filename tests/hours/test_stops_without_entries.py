"""Stops whose entry does not exist yet: what counts as worked, and what an admin can correct of one that has failed."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from schemas.hours.weeks import own
from schemas.postgres.connection import Connection
from schemas.slack.commands import worked
from tests.support.answers import Json, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation


def stopped(given: Given, stint: Installation, state: str) -> tuple[Person, Json, str]:
    """The person, the stop, and the id of its message, which has that state."""
    by = given.person()
    task, start = given.task(by), datetime.now(UTC) - timedelta(minutes=30)
    by.http.put("/api/active-timers/me", json={"taskId": task["id"], "startTime": start.isoformat()}).raise_for_status()
    stop = by.post(f"/api/tasks/{task['id']}/stop", status=202)
    message = stint.value(
        "UPDATE messages SET state = %s, sent_at = now() WHERE body->>'entry_id' = %s RETURNING id::text",
        state, stop["entryId"],
    )  # fmt: skip
    return by, stop, message


async def shown(url: str, user_id: str, day: date) -> list[int]:
    """The seconds of what Slack and the console show of the days around that one."""
    async with await Connection.connect(url, autocommit=True) as conn:
        start = datetime.combine(day, datetime.min.time(), UTC)
        hours = await worked.read_hours(
            conn, UUID(user_id), start - timedelta(days=2), start + timedelta(days=2), only_customer=None
        )
        entries = await own.read_entries(conn, UUID(user_id), day - timedelta(days=3), zone="Europe/Berlin")
    return [hour.seconds for hour in hours] + [entry.duration for entry in entries]


@pytest.mark.parametrize(("state", "counts"), [("ready", True), ("sent", True), ("dead", True), ("discarded", False)])
def test_a_stop_that_an_admin_has_discarded_does_not_count_as_worked(
    state: str, counts: bool, given_idle: Given, idle: Installation
) -> None:
    by, stop, _ = stopped(given_idle, idle, state)
    day = datetime.fromisoformat(stop["startTime"]).date()
    assert asyncio.run(shown(idle.database_url, by.id, day)) == ([stop["duration"]] * 2 if counts else [])


def test_a_corrected_stop_keeps_the_id_that_its_client_knows(given_idle: Given, idle: Installation) -> None:
    _, stop, message = stopped(given_idle, idle, "dead")
    admin = given_idle.admin()
    body = admin.get(f"/api/dead-letters/{message}")["body"]
    other = admin.http.post(
        f"/api/dead-letters/{message}/edit", json={"body": body | {"entry_id": str(uuid4())}, "reason": "another id"}
    )
    assert refused_fields(other) == ["body.entry_id"]
    corrected = body | {"end_time": stop["startTime"], "entry_id": stop["entryId"].upper()}
    admin.post(f"/api/dead-letters/{message}/edit", {"body": corrected, "reason": "not worked"}, status=200)


@pytest.mark.parametrize(
    ("state", "says"),
    [("ready", "workers do that"), ("dead", "./stint dead list --actor stop_timer"), ("discarded", "")],
)
def test_removing_a_user_says_what_becomes_of_their_stops(state: str, says: str, given_idle: Given, idle: Installation) -> None:
    by, _, _ = stopped(given_idle, idle, state)
    said = idle.command("user", "remove", by.email).stdout
    assert ("Stopped timers" in said) is bool(says) and says in said
