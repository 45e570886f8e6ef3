"""A backlog of bills and mail is processed with constant memory, and timers stop as fast as ever meanwhile."""

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest
from aiosmtpd.smtp import Envelope

from schemas.messages import RecomputeBills, SendMail
from tests.faults.resources import Held, snapshot
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.sizes import BACKLOG, FULL
from tests.support.smtp import MailServer, serving

pytestmark = [pytest.mark.slow, pytest.mark.exclusive, pytest.mark.timeout(3600 if FULL else 180)]

PARTS = ("api", "relay", "work:timers", "work:bills", "work:xero,slack,mail")  # as `./stint up` arranges them
SAMPLES = 40  # at least, over the whole drain
HANDLED_SECONDS = 5
QUICK_SECONDS = 1


@dataclass
class Counting(MailServer):
    """A mail server that only counts mails by recipient."""

    counts: Counter[str] = field(default_factory=Counter)

    def keep(self, envelope: Envelope) -> None:
        self.counts.update(envelope.rcpt_tos)


@pytest.fixture
def post() -> Iterator[Counting]:
    with serving(Counting()) as caught:
        yield caught


@pytest.fixture
def running(own: Installation, post: Counting) -> Iterator[Given]:
    own.environment |= {"SMTP_URL": post.url}
    own.new_processes = True
    own.start(*PARTS).wait_until_ready()
    given = Given(own)
    yield given
    given.close()


@dataclass(frozen=True)
class Sample:
    """One measurement: the resources of each process, the depth of each queue, and the duration of the queries."""

    at: float
    held: dict[str, Held]
    waiting: dict[str, int]
    seconds: dict[str, float]


class Watch:
    """Looks at a running installation again and again, as monitoring does."""

    def __init__(self, stint: Installation, *, every_seconds: float) -> None:
        self._stint, self._every = stint, every_seconds
        self.samples: list[Sample] = []

    def look(self, client: httpx2.Client) -> Sample:
        seconds = {}
        for path in ("/health/ready", "/metrics"):
            started_at = time.monotonic()
            answer = client.get(path)
            seconds[path] = time.monotonic() - started_at
            assert answer.status_code == 200, (path, answer.status_code)
        held = snapshot({name: [process.pid] for name, process in self._stint.processes.items()})
        mine = {name: next(iter(processes.values())) for name, processes in held.processes.items()}
        return Sample(time.monotonic(), mine, waiting(answer.text), seconds)

    def until_empty(self) -> None:
        """Returns when `bills` and `mail` are worked off."""
        with httpx2.Client(base_url=self._stint.url, timeout=20) as client:
            while not self.samples or any(self.samples[-1].waiting[queue] for queue in ("bills", "mail")):
                self.samples.append(self.look(client))
                time.sleep(self._every)

    def rate(self, queue: str) -> float:
        """Messages of the queue that were done each second, from the first look until none was left."""
        first = self.samples[0]
        last = next(sample for sample in self.samples if not sample.waiting[queue])
        return first.waiting[queue] / max(0.001, last.at - first.at)

    def slowest(self, path: str) -> float:
        return max(sample.seconds[path] for sample in self.samples)

    def private_kib(self, name: str) -> tuple[float, float]:
        """The median of the second tenth of the drain, when everything is warm, and of the last."""
        values = [sample.held[name].private_kib for sample in self.samples]
        tenth = max(1, len(values) // 10)
        return statistics.median(values[tenth : 2 * tenth]), statistics.median(values[-tenth:])


def waiting(metrics: str) -> dict[str, int]:
    """How many messages of each queue are not done, out of the metrics."""
    found: Counter[str] = Counter()
    for line in metrics.splitlines():
        if line.startswith("stint_messages{") and 'state="dead"' not in line:
            found[line.split('"')[1]] += int(line.rpartition(" ")[2])
    return dict(found)


def backlog(stint: Installation, bill_ids: list[str], count: int) -> None:
    """Half of it bills to be summed again, and half mail, promised all at once and in one transaction."""
    mail = SendMail(to="nobody@example.com", subject="News", paragraphs=("Hello,", "there is news.")).model_dump(mode="json")
    with stint.sql() as conn, conn.transaction():
        conn.execute("UPDATE time_bills SET seconds = 0, stale = true")
        for model, body, parameters in (
            (
                RecomputeBills,
                "jsonb_build_object('bill_ids', jsonb_build_array((%s::text[])[1 + n %% %s]))",
                (bill_ids, len(bill_ids)),
            ),
            (SendMail, "%s::jsonb || jsonb_build_object('to', format('person-%%s@example.com', n))", (json.dumps(mail),)),
        ):
            conn.execute(
                f"""
                INSERT INTO messages (id, actor, queue, body, max_attempts)
                SELECT gen_random_uuid(), %s, %s, {body}, %s FROM generate_series(1, %s) n
                """.encode(),
                (model.actor, model.queue, *parameters, model.max_attempts, count // 2),
            )
        conn.execute("NOTIFY stint_ready")


@dataclass
class Stops:
    """A person who starts and stops a timer again and again, and how long it took until it was answered and handled."""

    person: Person
    task: Json
    answered: list[float] = field(default_factory=list)
    handled: list[float] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)

    def keep_stopping(self, over: threading.Event, *, every_seconds: float) -> None:
        while not over.wait(every_seconds):
            self.person.post(f"/api/tasks/{self.task['id']}/start")
            started_at = time.monotonic()
            stop = self.person.post(f"/api/tasks/{self.task['id']}/stop", status=202)
            self.answered.append(time.monotonic() - started_at)
            path = f"/api/time-entries/{stop['entryId']}"
            eventually(lambda path=path: self.person.http.get(path).status_code == 200, seconds=60, why="the entry is there")
            self.handled.append(time.monotonic() - started_at)
            self.entries.append(stop["entryId"])


def test_a_backlog_drains_with_flat_memory_while_fresh_stops_are_handled_at_once(running: Given, post: Counting) -> None:
    stint = running.stint
    admin, person = running.admin(), running.person()
    task = running.task(admin)
    bills = running.many_bills(admin, task, 200, seconds=1800)
    stops = Stops(person, task)
    running.stopped(person, task)
    over = threading.Event()
    stopping = threading.Thread(target=stops.keep_stopping, args=(over,), kwargs={"every_seconds": 2 if FULL else 0.5})

    backlog(stint, bills, BACKLOG)
    watch = Watch(stint, every_seconds=1 if FULL else 0.1)
    stopping.start()
    try:
        watch.until_empty()
    finally:
        over.set()
        stopping.join()
    report(watch, stops)

    # all of it was done, and exactly once
    running.settled()
    assert stint.rows("SELECT DISTINCT state FROM messages") == [("done",)]
    assert post.counts == Counter(f"person-{number}@example.com" for number in range(1, BACKLOG // 2 + 1))
    assert stint.rows("SELECT DISTINCT seconds, stale FROM time_bills WHERE id = ANY(%s)", bills) == [(1800, False)]
    assert stint.value("SELECT count(*) FROM time_entries WHERE user_id = %s", person.id) == len(stops.entries) + 1
    # nobody noticed
    assert len(stops.handled) >= 3 and max(stops.handled) < HANDLED_SECONDS
    for path in ("/health/ready", "/metrics"):
        assert watch.slowest(path) < QUICK_SECONDS, path
    # and nothing grew
    assert len(watch.samples) >= SAMPLES
    for name in PARTS:
        warm, end = watch.private_kib(name)
        assert end <= warm * 1.1 + 2048, f"{name} grew from {warm:.0f} to {end:.0f} KiB"


def report(watch: Watch, stops: Stops) -> None:
    first, last = watch.samples[0], watch.samples[-1]
    rates = ", ".join(f"{queue} {watch.rate(queue):.0f}/s" for queue in ("bills", "mail"))
    print(f"\n{BACKLOG} messages in {last.at - first.at:.0f} s: {rates}")
    for name in PARTS:
        warm, end = watch.private_kib(name)
        print(f"{name}: {first.held[name].private_kib} KiB at first, {warm:.0f} warm, {end:.0f} at the end")
    for what, taken in (("answered", stops.answered), ("handled", stops.handled)):
        cuts = [1000 * cut for cut in statistics.quantiles(taken, n=100, method="inclusive")]
        print(f"{len(taken)} stops {what}: p50 {cuts[49]:.0f}, p99 {cuts[98]:.0f}, max {1000 * max(taken):.0f} ms")
    print(", ".join(f"{path} at most {watch.slowest(path) * 1000:.0f} ms" for path in first.seconds))
