"""Commands in Slack, 50 at once, in each state of the servers: Slack gets each acknowledgement within 3 seconds, and each
person one answer. Prints what was measured:

    STINT_TEST_FULL=1 ./stint test --all -n 0 -s tests/faults/test_slack_load.py

With each killed process the requests are lost that it had accepted: Slack shows these as failed. They are counted.
"""

import asyncio
import itertools
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from ops.sandbox.slack import requests
from ops.sandbox.slack.workspace import new_hook, new_trigger
from ops.up.servers import Servers
from tests.faults.test_slack import signal_all
from tests.support.fork_server import Process
from tests.support.given import Given, Json
from tests.support.installation import CHECKOUT, Installation, eventually, new_database
from tests.support.sizes import FULL, SLACK_REQUESTS
from tests.support.slack_sandbox import SlackSandbox, running_slack_sandbox
from tests.support.up import tree

pytestmark = [pytest.mark.slow, pytest.mark.exclusive, pytest.mark.timeout(600)]
AT_ONCE, PEOPLE = 50, 20
ACKNOWLEDGED_SECONDS = 3.0
OUTAGE_SECONDS = 20.0 if FULL else 4.0
KILL_SECONDS = 5.0 if FULL else 2.5
KILLS = 6 if FULL else 2
KINDS = ("status", "list", "note", "title")
LOST = "was restarted before"
FIRST = itertools.count(1_000_000, 1_000_000)
# test_slack.py tests these states in each run, with more users at once
only_in_full = pytest.mark.skipif(not FULL, reason="STINT_TEST_FULL=1 measures it")
TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def slack() -> Iterator[SlackSandbox]:
    with running_slack_sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def stint(servers: Servers, slack: SlackSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with two API processes behind one socket, which their supervisor starts again when a test kills one."""
    tmp_path = tmp_path_factory.mktemp("load")
    for server in (servers.rabbitmq, servers.postgres):
        if not server.is_running():
            server.start()
        server.wait()
    installation = Installation(new_database(servers.database_url), servers.amqp_url, tmp_path, **slack.environment)
    command = ["ops.cli", "api", "--state", str(tmp_path / "state"), "--processes", "2", "--port", str(installation.port)]
    log = tmp_path / "api.log"
    installation.processes["api"] = Process(command, cwd=CHECKOUT, env=os.environ | installation.environment, log=log)
    try:
        installation.start("relay", "work").wait_until_ready()
        eventually(lambda: starts(installation) == 2, seconds=60)
        yield installation
    finally:
        installation.kill("api", signal.SIGTERM)
        installation.stop()


def starts(stint: Installation) -> int:
    """How many times an API process has started to accept connections."""
    return stint.log("api").count("Application startup complete")


@dataclass
class Sent:
    """One command, and what Slack got for it. `status` is None if the connection ended without an answer."""

    kind: str
    title: str
    hook: str
    seconds: float = 0.0
    status: int | None = None
    content: Json | None = None


@dataclass
class Crowd:
    """People who type commands at the same time."""

    stint: Installation
    slack: SlackSandbox
    channels: dict[str, str]  # of each person, by their id in Slack
    sent: list[Sent] = field(default_factory=list)
    first: int = 0  # the number in the title of the first command: each test has numbers of its own

    async def type(self, count: int, *, until: Callable[[], bool] = lambda: True) -> None:
        """Sends at least that many commands, and goes on until then, each over a connection of its own as Slack does."""
        connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            people = list(self.channels)

            async def one_after_another() -> None:
                while len(self.sent) < count or not until():
                    number = len(self.sent)
                    kind, person = KINDS[number % len(KINDS)], people[number // len(KINDS) % len(people)]
                    sent = Sent(kind, f"{kind} {self.first + number}.", new_hook())
                    self.sent.append(sent)
                    await self._hand_over(session, sent, person)

            await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))

    async def _hand_over(self, session: aiohttp.ClientSession, sent: Sent, person: str) -> None:
        text = {"title": f"Task {sent.title}", "note": f"note: {sent.title}"}.get(sent.kind, sent.kind)
        request = requests.command(
            user=person, channel=self.channels[person], text=text, trigger_id=new_trigger(),
            response_url=self.slack.url + sent.hook,
        )  # fmt: skip
        started = time.perf_counter()
        with suppress(aiohttp.ClientConnectionError):
            url = f"{self.stint.url}{request.path}"
            async with session.post(url, data=request.body, headers=request.headers) as answer:
                sent.content = await answer.json() if await answer.read() else None
                sent.status = answer.status
        sent.seconds = time.perf_counter() - started


@pytest.fixture
def crowd(stint: Installation, slack: SlackSandbox, given: Given) -> Crowd:
    channels = {}
    for person in given.people(PEOPLE):
        person.post(f"/api/tasks/{given.task(person)['id']}/start")
        channels[slack.user(person.email)] = slack.channel()
    crowd = Crowd(stint, slack, channels)
    asyncio.run(crowd.type(PEOPLE * len(KINDS)))  # Stint knows them, and each process is warm
    crowd.sent, crowd.first = [], next(FIRST)
    return crowd


def cpu_seconds(stint: Installation) -> float:
    """The CPU time of all API processes so far, also of those that have ended."""
    supervisor, total = stint.processes["api"].pid, 0
    assert supervisor is not None
    for pid in tree(supervisor):
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12]) + (int(fields[13]) + int(fields[14]) if pid == supervisor else 0)
    return total / TICKS


def run(crowd: Crowd, state: str, fault: Callable[[], object] | None = None) -> Counter[str]:
    """Sends the commands, while the fault goes on; prints and checks what Slack and the people got. Returns how often what
    came."""
    load_before, cpu = os.getloadavg()[0], cpu_seconds(crowd.stint)

    async def work() -> None:
        if fault is None:
            await crowd.type(SLACK_REQUESTS)
            return
        task = asyncio.create_task(asyncio.to_thread(fault))
        await crowd.type(SLACK_REQUESTS, until=task.done)
        await task

    asyncio.run(work())
    cpu, load = cpu_seconds(crowd.stint) - cpu, os.getloadavg()[0]
    acknowledged = [sent for sent in crowd.sent if sent.status is not None]
    seconds = sorted(sent.seconds for sent in acknowledged)
    came = follow_ups(crowd, acknowledged)
    shown = (statistics.median(seconds), seconds[int(len(seconds) * 0.99)], seconds[-1])
    milliseconds = [f"{value * 1000:.0f} ms" for value in shown]
    print(
        f"\n{state}: {len(crowd.sent)} commands, {AT_ONCE} at once, acknowledged after {' / '.join(milliseconds)} "
        f"(p50 / p99 / slowest); {len(crowd.sent) - len(acknowledged)} lost with a process; "
        f"{cpu / len(crowd.sent) * 1000:.1f} ms of CPU each; load {load_before:.1f} before, {load:.1f} after; "
        + ", ".join(f"{count} {what}" for what, count in came.most_common())
    )
    assert {sent.status for sent in acknowledged} == {200}
    assert seconds[-1] < ACKNOWLEDGED_SECONDS
    return came


def follow_ups(crowd: Crowd, acknowledged: list[Sent]) -> Counter[str]:
    """Checks that what was acknowledged is answered exactly once, and done at most once. Returns how often what came."""

    def answers() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for answer in crowd.slack.answers():
            found.setdefault(answer["path"], []).append(answer["text"])
        return found

    def forms() -> Counter[str]:
        return Counter(
            view["blocks"][0]["element"].get("initial_value", "") for view in crowd.slack.views() if view.get("submit")
        )

    def unanswered() -> list[Sent]:
        told, opened = answers(), forms()
        return [
            sent
            for sent in acknowledged
            if not told.get(sent.hook)
            and not opened[f"Task {sent.title}"]
            and (sent.content is None or "follows here" in sent.content["text"])
        ]

    eventually(lambda: not unanswered(), seconds=120, why="each command is answered")
    came: Counter[str] = Counter()
    told, opened = answers(), forms()
    notes = "\n".join(row[0] for row in crowd.stint.rows("SELECT notes FROM timers"))
    for sent in acknowledged:
        texts = ([sent.content["text"]] if sent.content else []) + told.get(sent.hook, [])
        final = [text for text in texts if "follows here" not in text and LOST not in text]
        came["answers that are lost, and told as lost"] += any(LOST in text for text in texts)
        came["apologies"] += any("Sorry" in text for text in final)
        came["answers behind the acknowledgement"] += bool(told.get(sent.hook)) or (not texts and sent.kind == "title")
        assert len(final) <= 1, (sent, texts)
        assert opened[f"Task {sent.title}"] <= 1, sent
        assert texts or opened[f"Task {sent.title}"] == 1, sent
        if sent.kind == "note" and not any("does not know whether" in text for text in final):
            assert notes.count(sent.title) == any("Your note is added" in text or "is done." in text for text in final), (
                sent,
                texts,
            )
    assert all(notes.count(sent.title) <= 1 for sent in crowd.sent if sent.kind == "note")
    return +came


@only_in_full
def test_all_is_well(crowd: Crowd) -> None:
    came = run(crowd, "all is well")
    assert came["apologies"] == 0


@only_in_full
def test_rabbitmq_is_killed(crowd: Crowd, servers: Servers) -> None:
    servers.rabbitmq.kill()
    try:
        came = run(crowd, "RabbitMQ is killed")
        assert came["apologies"] == 0
    finally:
        servers.rabbitmq.start()
        servers.rabbitmq.wait()


def test_postgres_is_frozen(crowd: Crowd, servers: Servers) -> None:
    pids = [servers.postgres.pids[0], *(row[0] for row in crowd.stint.rows("SELECT pid FROM pg_stat_activity"))]

    def freeze() -> None:
        time.sleep(0.5)
        signal_all(pids, signal.SIGSTOP)
        try:
            time.sleep(OUTAGE_SECONDS)
        finally:
            signal_all(pids, signal.SIGCONT)
        time.sleep(1)

    assert run(crowd, f"Postgres is frozen for {OUTAGE_SECONDS:g} s", freeze)["apologies"]


@only_in_full
def test_slack_stalls(crowd: Crowd) -> None:
    crowd.slack.inject_fault("late", path="/api/", seconds=OUTAGE_SECONDS)

    def stall() -> None:
        time.sleep(OUTAGE_SECONDS / 2)
        crowd.slack.clear_faults()

    assert run(crowd, f"each call of Slack's API takes {OUTAGE_SECONDS:g} s", stall)["apologies"]


def test_an_api_process_is_killed_again_and_again(crowd: Crowd) -> None:
    supervisor = crowd.stint.processes["api"].pid
    assert supervisor is not None

    def kill() -> None:
        for number in range(KILLS):
            time.sleep(0.5 if number == 0 else KILL_SECONDS)
            os.kill(tree(supervisor)[1:][-1 if number % 2 else 0], signal.SIGKILL)
        time.sleep(0.5)

    run(crowd, f"an API process is killed every {KILL_SECONDS:g} s, {KILLS} times", kill)
    lost = sum(sent.status is None for sent in crowd.sent)
    assert lost <= KILLS * AT_ONCE, "only what the killed process had accepted is lost"


def test_both_api_processes_are_restarted_in_turn(crowd: Crowd) -> None:
    supervisor = crowd.stint.processes["api"].pid
    assert supervisor is not None

    def restart() -> None:
        before = starts(crowd.stint)
        os.kill(supervisor, signal.SIGUSR2)
        eventually(lambda: starts(crowd.stint) == before + 2, seconds=90, why="both have started again")

    run(crowd, "both API processes are restarted in turn", restart)
    assert all(sent.status == 200 for sent in crowd.sent), "none is lost"
