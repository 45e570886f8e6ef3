"""Two versions at the same time: a message that an older worker cannot handle becomes a dead letter; a newer one handles it."""

from collections.abc import Iterator

import pytest

from tests.support.given import Given
from tests.support.installation import Installation, eventually

PARTS = ("relay", "work:timers,bills")


def restart(stint: Installation, module: str) -> None:
    """The relay and the worker of that version."""
    for name in PARTS:
        if stint.is_running(name):
            stint.kill(name)
    stint.environment["STINT_TEST_MODULE"] = module
    stint.start(*PARTS)


@pytest.fixture
def given(own: Installation) -> Iterator[Given]:
    """The data as the newer version has left it."""
    restart(own, "actors")
    own.start("api").wait_until_ready()
    made = Given(own)
    yield made
    made.close()


@pytest.mark.slow
def test_what_an_older_worker_does_not_know_is_dead_until_a_newer_one_replays_it(own: Installation, given: Given) -> None:
    admin, by = given.admin(), given.person()
    task = given.task(admin)
    entry = given.entry(by, task, minutes=60)

    restart(own, "tests.faults.older_version")
    by.post(f"/api/tasks/{task['id']}/start")
    stop = by.post(f"/api/tasks/{task['id']}/stop", status=202)  # a field that the worker does not know
    by.patch(f"/api/time-entries/{entry['id']}", {"duration": 1800})  # an actor that it does not know
    dead = "SELECT actor, error FROM messages WHERE state = 'dead' ORDER BY actor"
    eventually(lambda: len(own.rows(dead)) == 2, seconds=40, why=f"two are dead: {own.log('relay')[-1500:]}")
    (_, of_bills), (_, of_timer) = own.rows(dead)
    assert "there is no actor recompute_bills in this version" in of_bills
    assert "no longer fits stop_timer: There is no field notes here." in of_timer

    restart(own, "actors")
    replay = {"select": {"filter": {"queue": "timers"}}, "reason": "a worker that knows it is here"}
    admin.post("/api/dead-letters/replay", replay, status=202)
    replay["select"] = {"filter": {"queue": "bills"}}
    admin.post("/api/dead-letters/replay", replay, status=202)
    eventually(lambda: own.rows(dead) == [], seconds=40, why=f"they are replayed: {own.rows(dead)}")
    given.settled(seconds=40)
    assert by.get(f"/api/time-entries/{stop['entryId']}")["duration"] == stop["duration"]
    assert by.get(f"/api/time-bills/{entry['timeBillId']}")["minutes"] == 30
    own.verify()
