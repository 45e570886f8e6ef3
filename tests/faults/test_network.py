"""Network faults: connections reset, slow, cut in mid-message, half closed, or accepted and never answered.

Nothing acknowledged is lost or done twice, waiting clients get an error in time, and all of Stint recovers automatically.
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.faults.mixed import PARTS, Mixed, mixed
from tests.faults.proxy import Proxy
from tests.support.installation import eventually, new_database
from tests.support.live_times import live_times
from tests.support.sizes import FULL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 if FULL else 180)]
FAULT_SECONDS = 6.0 if FULL else 1.2
ROUNDS = 5 if FULL else 1
UNAVAILABLE_SECONDS = 2.5  # "within about 2 seconds"
BACK_SECONDS = 10.0
# whose networks fail at the same time: what Postgres does not see may do so at once
OUTSIDE = ("XERO_API_URL", "SLACK_API_URL", "SMTP_URL")
GROUPS = [("DATABASE_URL",), ("AMQP_URL",), OUTSIDE] if FULL else [("DATABASE_URL",), ("AMQP_URL", *OUTSIDE)]


@pytest.fixture(scope="module")
def shared(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with mixed(new_database(database_url), amqp_url_apart, tmp_path_factory.mktemp("network")) as working:
        yield working


@pytest.fixture
def at_work(shared: Mixed) -> Iterator[Mixed]:
    """No test ends its processes, and each test ends with working proxies."""
    yield shared
    for wire in shared.wires.values():
        wire.heal()


def cut(proxy: Proxy) -> None:
    for _ in range(4):
        proxy.cut()
        time.sleep(FAULT_SECONDS / 4)


def refuse(proxy: Proxy) -> None:
    proxy.refuse()
    time.sleep(FAULT_SECONDS)


def slow(proxy: Proxy) -> None:
    proxy.delay(0.1)
    time.sleep(FAULT_SECONDS)


def tear(proxy: Proxy) -> None:
    for count in (1, 40, 150, 400):
        proxy.cut_after(count)
        time.sleep(FAULT_SECONDS / 4)


def half_close(proxy: Proxy) -> None:
    for towards in ("client", "server"):
        proxy.half_close(towards)
        time.sleep(FAULT_SECONDS / 2)


def swallow(proxy: Proxy) -> None:
    proxy.blackhole()
    time.sleep(FAULT_SECONDS)


FAULTS: tuple[Callable[[Proxy], None], ...] = (cut, refuse, slow, tear, half_close, swallow)


@contextmanager
def in_background(work: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Works while the block runs, and stops at its end."""
    over = False
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work, lambda: over)
        try:
            yield
        finally:
            over = True
            working.result()


@pytest.mark.parametrize("names", GROUPS, ids=" ".join)
def test_whatever_the_network_does_nothing_is_lost_or_doubled(names: tuple[str, ...], at_work: Mixed) -> None:
    with in_background(at_work.work_until), ThreadPoolExecutor(len(names)) as pool:
        for _ in range(ROUNDS):
            for fault in FAULTS:
                wires = [at_work.wires[name] for name in names]
                list(pool.map(fault, wires))
                for wire in wires:
                    wire.heal()
                time.sleep(0.5)
    print(f"{len(at_work.stops)} stops, {len(at_work.titles)} tasks, {len(at_work.addresses)} mails, ", end="")
    print(f"{len(at_work.approved)} approvals, refused {dict(at_work.refused)}")
    at_work.check()


def test_a_swallowed_postgres_is_503_in_time_and_back_in_time(at_work: Mixed) -> None:
    person, task, wire = at_work.people[0], at_work.firm.task["id"], at_work.wires["DATABASE_URL"]

    def all_is_well() -> bool:
        answers = [person.http.get(path).status_code for path in ("/api/tasks", "/health/ready", "/api/me") * 8]
        return set(answers) == {200}

    assert all_is_well()
    for _ in range(3 if FULL else 1):
        wire.blackhole()
        # more than there are connections
        with live_times(at_work.stint) as live, ThreadPoolExecutor(24) as pool:
            for _ in range(2):
                asked = [pool.submit(timed, at_work, "GET", "/api/tasks") for _ in range(20)]
                asked += [pool.submit(timed, at_work, "POST", f"/api/tasks/{task}/start") for _ in range(4)]
                seconds = [answer.result() for answer in asked]
                print(f"503 after {max(seconds):.2f} s at most, and 200 without a server after {live.slowest:.2f} s")
                assert max(seconds) < UNAVAILABLE_SECONDS + live.slowest
        wire.heal()
        started_at = time.monotonic()
        eventually(all_is_well, seconds=BACK_SECONDS, why=at_work.stint.log("api")[-2000:])
        print(f"all is well after {time.monotonic() - started_at:.2f} s")
    at_work.work()
    at_work.check()


def timed(at_work: Mixed, method: str, path: str) -> float:
    """How long a 503 takes."""
    started_at = time.monotonic()
    answer = at_work.people[0].http.request(method, path, timeout=20)
    assert answer.status_code == 503 and answer.headers["Retry-After"], f"{answer.status_code} {answer.text}"
    return time.monotonic() - started_at


def test_stops_answer_within_a_second_while_rabbitmq_is_swallowed(at_work: Mixed) -> None:
    person, task, wire = at_work.people[0], at_work.firm.task["id"], at_work.wires["AMQP_URL"]
    wire.blackhole()
    with live_times(at_work.stint) as live:
        for _ in range(30 if FULL else 10):
            person.post(f"/api/tasks/{task}/start")
            started_at = time.monotonic()
            stop = person.post(f"/api/tasks/{task}/stop", status=202)
            assert time.monotonic() - started_at < 1 + live.slowest
            at_work.stops[stop["entryId"]] = stop
    wire.heal()
    at_work.check()


def test_whoever_is_frozen_beyond_their_lease_doubles_nothing(at_work: Mixed) -> None:
    """Workers and relay stand still while others take over, and then go on where they were."""
    stint = at_work.stint
    started_at = stint.value("SELECT clock_timestamp()")
    at_work.slack.inject_fault("stall", path="chat.postMessage", seconds=2)
    with in_background(at_work.work_until):
        calling = "SELECT count(*) > 0 FROM messages WHERE actor = 'post_task_created' AND state = 'calling'"
        eventually(lambda: stint.value(calling), why="somebody is in the middle of a call")
        frozen = {name: stint.processes.pop(name) for name in PARTS}
        for process in frozen.values():
            process.send_signal(signal.SIGSTOP)
        stint.start(*PARTS)
        at_work.slack.clear_faults()
        lapsed = "SELECT count(*) > 0 FROM message_attempts WHERE error_class = 'LeaseExpired' AND at > %s"
        eventually(lambda: stint.value(lapsed, started_at), seconds=40, why="the lease of a frozen worker runs out")
        for process in frozen.values():
            process.send_signal(signal.SIGCONT)
        stint.processes |= {f"{name} once frozen": process for name, process in frozen.items()}
    at_work.check()


def test_a_frozen_api_goes_on_with_what_it_was_asked(at_work: Mixed) -> None:
    person, task, api = at_work.people[0], at_work.firm.task["id"], at_work.stint.processes["api"]
    person.post(f"/api/tasks/{task}/start")
    api.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(person.http.post, f"/api/tasks/{task}/stop") for _ in range(2)]
        time.sleep(3)
        api.send_signal(signal.SIGCONT)
        first, second = (answer.result() for answer in asked)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    at_work.stops[first.json()["entryId"]] = first.json()
    at_work.check()
