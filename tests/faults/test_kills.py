"""Processes are killed while they work: every stop becomes exactly one entry."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.crash_points import OF_A_BACKLOG, POINTS
from tests.faults.retrying_client import PatientGiven, Traffic
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.sizes import APPROVAL_KILLS, APPROVALS, CRASHES, KILLS, STOPS

PARTS = ("relay", "work:timers", "work:bills")


@pytest.fixture
def running(own: Installation) -> Iterator[tuple[Installation, Given]]:
    own.start("api", *PARTS).wait_until_ready()
    traffic = Traffic()
    given = PatientGiven(own, traffic)  # a machine that stalls for two seconds may get a 503
    yield own, given
    given.close()
    assert traffic.wrong == []


def keep_alive(stint: Installation, *names: str) -> None:
    """Restarts ended processes, as a supervisor does."""
    for name in names:
        if not stint.is_running(name):
            stint.processes.pop(name, None)
            stint.start(name)


def check(stint: Installation, stops: list[Json]) -> None:
    """Asserts that exactly these stops are entries with the answered times, that sums are right, and no message is dead."""
    expected = {stop["entryId"]: stop["duration"] for stop in stops}
    rows = stint.rows("SELECT id::text, duration, (bill_id IS NOT NULL) FROM time_entries")
    assert {row[0]: row[1] for row in rows} == expected
    assert len(rows) == len(stops) == len(expected)
    assert all(row[2] for row in rows)
    assert stint.rows("SELECT state, count(*) FROM messages GROUP BY state") == [("done", len(stops))]
    assert stint.value("SELECT sum(seconds) FROM time_bills") == sum(expected.values())
    stint.verify()


def is_over(stint: Installation) -> bool:
    return bool(stint.value("SELECT count(*) = 0 FROM messages WHERE state <> 'done'"))


def work_for(person: Person, task: Json, times: int) -> list[Json]:
    """Starts and stops a timer `times` times; each acknowledged stop must become an entry."""
    stops = []
    for _ in range(times):
        person.http.post(f"/api/tasks/{task['id']}/start").raise_for_status()
        stops.append(person.http.post(f"/api/tasks/{task['id']}/stop").raise_for_status().json())
        time.sleep(random.uniform(0, 0.5))
    return stops


def kill_meanwhile(stint: Installation, parts: tuple[str, ...], *, kills: int, promises: int) -> None:
    """Kills one part after the other and starts it again, spread over the time in which the messages are acknowledged: each
    kill finds work under way, whatever the machine's speed."""
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    promised = "SELECT count(*) FROM messages"
    for kill in range(kills):
        due = (kill + 1) * promises // (kills + 1)
        eventually(lambda due=due: stint.value(promised) >= due, seconds=120, why="work goes on")
        time.sleep(chance.uniform(0, 0.3))
        stint.kill(chance.choice(parts))
        time.sleep(chance.uniform(0, 0.5))
        keep_alive(stint, *parts)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("queue_type", ["quorum"])  # the tests of single kills also have classic ones
def test_stops_survive_kills_of_workers_and_relay(running: tuple[Installation, Given]) -> None:
    stint, given = running
    admin = given.admin()
    task = given.task(admin)
    people = given.people(20)
    with ThreadPoolExecutor(20) as pool:
        working = [pool.submit(work_for, person, task, STOPS // 20) for person in people]
        kill_meanwhile(stint, PARTS, kills=KILLS, promises=STOPS)
        stops = [stop for future in working for stop in future.result()]
    assert len(stops) == STOPS
    eventually(lambda: is_over(stint), seconds=60, why="every message is done")
    check(stint, stops)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_approvals_survive_kills_of_workers_and_relay(running: tuple[Installation, Given]) -> None:
    """Nobody has connected Xero: each approved bill says so, once, and stays as it was approved."""
    stint, given = running
    stint.start("work:xero,slack,mail")
    admins = [given.admin() for _ in range(4)]
    bills = given.many_bills(admins[0], given.task(admins[0]), APPROVALS, seconds=5400)

    def approve(number: int) -> Json:
        time.sleep(random.uniform(0, 0.2))
        return admins[number % 4].patch(f"/api/time-bills/{bills[number]}", {"status": "approved"})

    with ThreadPoolExecutor(4) as pool:
        approving = [pool.submit(approve, number) for number in range(APPROVALS)]
        kill_meanwhile(stint, ("relay", "work:xero,slack,mail"), kills=APPROVAL_KILLS, promises=APPROVALS)
        approved = {bill["id"]: bill["version"] for bill in (future.result() for future in approving)}
    # what a kill interrupted waits until its lease has run out
    eventually(lambda: is_over(stint), seconds=120, why="every message is done")
    rows = stint.rows("SELECT id::text, status, minutes, version, xero_status FROM time_bills")
    assert {row[0] for row in rows} == set(approved) == set(bills) and len(rows) == APPROVALS
    assert {row[1:3] for row in rows} == {("approved", 90)} and {row[4] for row in rows} == {"not_connected"}
    syncs = "SELECT count(*), count(DISTINCT body->>'bill_id') FROM messages WHERE actor = 'sync_bill'"
    assert stint.rows(syncs) == [(APPROVALS, APPROVALS)]
    stint.verify()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_and_doubles_nothing(point: str, own: Installation, tmp_path: Path) -> None:
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    for number in range(CRASHES):
        (deaths / str(number)).touch()
    own.environment |= {"CRASH_AT": point, "CRASH_DEATHS": str(deaths), "STINT_TEST_MODULE": "tests.faults.crash_points"}
    own.start("api", *PARTS).wait_until_ready()
    given = PatientGiven(own, Traffic())
    admin = given.admin()
    task = given.task(admin)
    people = given.people(4)
    with ThreadPoolExecutor(4) as pool:
        stops = [stop for done in pool.map(lambda person: work_for(person, task, 5), people) for stop in done]

    def over() -> bool:
        keep_alive(own, *PARTS)
        if not is_over(own):
            return False
        if any(deaths.iterdir()):  # something more to die of
            stops.extend(work_for(people[0], task, 1))
            return False
        return True

    eventually(over, seconds=60, why="every message is done and every death was died")
    check(own, stops)
    given.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", OF_A_BACKLOG)
def test_a_kill_while_several_stops_are_handled_together_loses_and_doubles_nothing(
    point: str, own: Installation, tmp_path: Path
) -> None:
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    (deaths / "1").touch()
    own.environment |= {"CRASH_AT": point, "CRASH_DEATHS": str(deaths), "STINT_TEST_MODULE": "tests.faults.crash_points"}
    own.start("api", "relay").wait_until_ready()
    given = PatientGiven(own, Traffic())
    admin = given.admin()
    task = given.task(admin)
    with ThreadPoolExecutor(8) as pool:
        stops = [stop for done in pool.map(lambda person: work_for(person, task, 5), given.people(8)) for stop in done]
    own.start("work:timers")  # finds all of them waiting

    def over() -> bool:
        keep_alive(own, "relay", "work:timers")
        return is_over(own)

    eventually(over, seconds=60, why="every message is done")
    assert not any(deaths.iterdir())
    check(own, stops)
    assert own.value("SELECT count(*) FROM message_attempts") == 0, "no stop was the cause"
    given.close()
