"""How long a fresh stop takes while thousands of dead letters of its queue are replayed, and without a replay."""

import statistics
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from schemas.messages import StopTimer
from tests.faults.test_backlog import PARTS, Stops
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation
from tests.support.sizes import FULL, REPLAYED

pytestmark = [pytest.mark.slow, pytest.mark.exclusive, pytest.mark.timeout(1800 if FULL else 180)]

PEOPLE = 10
QUIET_SECONDS = 30 if FULL else 3
EVERY_SECONDS = 0.25
SLOWER_SECONDS = 1.0  # at most, for half of the stops beside a replay
HANDLED_SECONDS = 5


@pytest.fixture
def running(own: Installation) -> Iterator[Given]:
    own.new_processes = True
    own.start(*PARTS).wait_until_ready()
    given = Given(own)
    yield given
    given.close()


def die(stint: Installation, people: list[Person], task: Json, count: int, group: str) -> None:
    """Dead stops of these people in 2020, four on each bill: each is handled as a fresh one is."""
    ids = [person.id for person in people]
    with stint.sql() as conn, conn.transaction():
        conn.execute(
            "INSERT INTO failure_groups (fingerprint, actor, error_class, frame, message) VALUES (%s, %s, 'E', '', 'gone')",
            (group, StopTimer.actor),
        )
        conn.execute(
            """
            INSERT INTO messages (id, actor, queue, body, state, attempts, max_attempts, died_at, error, fingerprint)
            SELECT gen_random_uuid(), %s, %s, jsonb_build_object(
                'entry_id', gen_random_uuid(), 'user_id', (%s::text[])[1 + n %% %s], 'task_id', %s::text, 'notes', '',
                'start_time', to_char(began, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                'end_time', to_char(began + interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
            ), 'dead', 5, 5, now(), 'E: gone', %s
            FROM generate_series(1, %s) n,
                 LATERAL (SELECT timestamp '2020-01-01' + n / %s / 4 * interval '1 day'
                                 + n / %s %% 4 * interval '2 hours' + interval '9 hours' AS began) times
            """,
            (StopTimer.actor, StopTimer.queue, ids, PEOPLE, task["id"], group, count, PEOPLE, PEOPLE),
        )
        conn.execute("ANALYZE messages")


def measured(what: str, person: Person, task: Json, *, until: "Ending") -> list[float]:
    """The seconds from each stop to its entry on a bill. Prints them."""
    stops, over = Stops(person, task), threading.Event()
    stopping = threading.Thread(target=stops.keep_stopping, args=(over,), kwargs={"every_seconds": EVERY_SECONDS})
    stopping.start()
    try:
        took = until()
    finally:
        over.set()
        stopping.join()
    cuts = [1000 * cut for cut in statistics.quantiles(stops.handled, n=100, method="inclusive")]
    times = f"p50 {cuts[49]:.0f}, p95 {cuts[94]:.0f}, worst {1000 * max(stops.handled):.0f} ms"
    print(f"{what}, {took:.0f} s: {len(stops.handled)} stops, from stop to bill {times}")
    return stops.handled


class Ending:
    """Waits until a time has passed, or until a replay has ended. Returns the seconds."""

    def __init__(self, given: Given, replay: Json | None = None) -> None:
        self._given, self._replay = given, replay

    def __call__(self) -> float:
        started_at = time.monotonic()
        if self._replay is None:
            time.sleep(QUIET_SECONDS)
            return time.monotonic() - started_at
        admin = self._given.admin()
        while (found := admin.get(f"/api/dead-letters/replays/{self._replay['id']}"))["state"] == "running":
            time.sleep(0.5)
        assert (found["state"], found["succeeded"], found["failedAgain"], found["skipped"]) == ("done", REPLAYED, 0, 0)
        return time.monotonic() - started_at


def test_fresh_stops_are_handled_at_once_while_dead_stops_are_replayed_at_any_rate(running: Given) -> None:
    admin, person = running.admin(), running.person()
    task = running.task(admin)
    running.stopped(person, task)
    people = running.people(PEOPLE)
    print()
    quiet = measured("without a replay", person, task, until=Ending(running))
    for rate in (100, 10_000):
        group = f"replayed{uuid4().hex[:8]}"
        die(running.stint, people, task, REPLAYED, group)
        replay = admin.post(
            "/api/dead-letters/replay",
            {"select": {"filter": {"fingerprint": group}}, "reason": "a test", "ratePerSecond": rate},
            status=202,
        )
        assert replay["selected"] == REPLAYED
        beside = measured(f"{REPLAYED} replayed, at most {rate} a second", person, task, until=Ending(running, replay))
        assert len(beside) >= 3 and max(beside) < HANDLED_SECONDS
        assert statistics.median(beside) < statistics.median(quiet) + SLOWER_SECONDS
    running.settled()
    assert running.stint.rows("SELECT DISTINCT state FROM messages") == [("done",)]
    handled = "SELECT count(*) FROM time_entries WHERE user_id = ANY(%s)"
    assert running.stint.value(handled, [person.id for person in people]) == 2 * REPLAYED
