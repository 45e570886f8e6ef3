"""One run of `./stint faults`: work while faults are injected, work without faults, then the comparison."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.faults import facts, resources
from tests.faults.fault_injector import PROCESSES, SERVERS, Weather
from tests.faults.firm import WholeFirm, whole_firm
from tests.faults.people import People

WARM_UP_SECONDS = 15.0  # caches and pools fill; what processes hold then is what they are compared with
SETTLE_SECONDS = 240.0
ACTIONS_PER_MINUTE, FAULTS_PER_MINUTE = 300, 10  # of a run: it lasts longer if a busy machine manages fewer in its minutes
Say = Callable[[float, str], None]  # how many seconds are over, and what is going on


@dataclass(frozen=True)
class Report:
    """What a run did, which faults it had, and which differences it found."""

    seed: str
    done: Counter[str]  # what was acknowledged, by kind
    struck: Counter[str]  # faults, by name
    events: list[str]  # each fault, with the time at which it began and ended
    answers: Counter[int]
    lost: int
    slowest_seconds: float
    slow_for_slack: list[float]
    repeated_mails: int
    repeated_posts: int
    replayed: int
    settled_seconds: float
    waited_for: str  # the last that there was to do
    differences: list[str]
    leaks: list[str]

    @property
    def is_clean(self) -> bool:
        return not self.differences and not self.leaks


def run(seed: str, home: Path, *, minutes: float, say: Say = lambda _, __: None, consultants: int = 8) -> Report:
    """Runs in this thread, which must be the main one, with all data and logs below `home`. Faults are injected for that many
    minutes, and until there were ACTIONS_PER_MINUTE and FAULTS_PER_MINUTE. The same seed gives the same actions of each user
    and the same faults in the same order; how they overlap depends on the machine."""
    with whole_firm(home) as firm:
        people = People.of(firm, seed, consultants=consultants)
        say(0, "warming up")
        people.begin()
        time.sleep(WARM_UP_SECONDS)
        firm.wait_until_warm(seconds=120)
        firm.fill_pools()
        before = _held(firm)
        weathers = _storm(firm, people, seed, minutes * 60, say)
        say(minutes * 60, "waiting until everybody has an answer")
        people.end()
        settled_seconds, waited_for, replayed, problems = _settle(firm)
        say(minutes * 60, "comparing what is there with what was promised")
        found = problems + facts.differences(firm, people)
        leaks = resources.after_rest(before, lambda: _held(firm), seconds=30)
        return Report(
            seed=seed,
            done=people.done,
            struck=sum((weather.struck for weather in weathers), Counter()),
            events=sorted(event for weather in weathers for event in weather.events),
            answers=firm.traffic.answers,
            lost=firm.traffic.lost,
            slowest_seconds=firm.traffic.slowest_seconds,
            slow_for_slack=sorted(seconds for member in people.members for seconds in member.slow),
            repeated_mails=_repeated(str(mail.message["Message-ID"]) for mail in firm.mail.mails),
            repeated_posts=_repeated(str(message.get("metadata")) for message in firm.posts()),
            replayed=replayed,
            settled_seconds=settled_seconds,
            waited_for=waited_for,
            differences=found,
            leaks=leaks,
        )


def _storm(firm: WholeFirm, people: People, seed: str, seconds: float, say: Say) -> list[Weather]:
    """Two kinds of weather at once; what happens to servers happens in this thread, or they would end with another."""
    over = threading.Event()
    processes = Weather(PROCESSES, f"{seed} processes", pause_seconds=12)
    servers = Weather(SERVERS, f"{seed} servers", pause_seconds=6)
    started_at = time.monotonic()

    def watch() -> None:
        while not over.wait(1):
            past, minutes = time.monotonic() - started_at, seconds / 60
            acted = sum(people.done.values())
            struck = sum(processes.struck.values()) + sum(servers.struck.values())
            weather = ", ".join(filter(None, (processes.now, servers.now))) or "fair for a moment"
            say(past, f"{acted:,} promises; {weather}")
            is_enough = acted > ACTIONS_PER_MINUTE * minutes and struck > FAULTS_PER_MINUTE * minutes
            if (past > seconds and is_enough) or people.broken:
                over.set()

    threads = [threading.Thread(target=watch), threading.Thread(target=processes.rage, args=(firm, over))]
    for thread in threads:
        thread.start()
    servers.rage(firm, over)
    for thread in threads:
        thread.join()
    firm.heal()
    for weather in (processes, servers):
        if weather.failed is not None:
            raise weather.failed
    return [processes, servers]


def _settle(firm: WholeFirm) -> tuple[float, str, int, list[str]]:
    """How long the outbox took to become empty, what was left last, how many messages were dead then, and what did not go
    well."""
    started_at = time.monotonic()
    try:
        waited_for = facts.settle(firm, seconds=SETTLE_SECONDS)
        seconds = time.monotonic() - started_at
        return seconds, waited_for, facts.replay_the_dead(firm), []
    except AssertionError as error:
        return time.monotonic() - started_at, "", 0, [str(error)]


def _held(firm: WholeFirm) -> resources.Snapshot:
    pids = {kind: firm.pids(kind) for kind in ("api", "work", "relay")}
    return resources.snapshot(pids, database_url=firm.stint.database_url, rabbitmq_pid=firm.servers.rabbitmq.pids[0])


def _repeated(names: Iterable[str]) -> int:
    counted = Counter(names)
    return sum(counted.values()) - len(counted)
