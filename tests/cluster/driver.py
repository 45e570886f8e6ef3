"""A run: people work while one fault after the other strikes, then what is there is compared with what was acknowledged."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.faults import BILL_SECONDS, Fault
from tests.cluster.load import Load, Waits
from tests.cluster.site import site
from tests.faults import facts
from tests.faults.people import PAUSE_AT_MOST

WARM_UP_SECONDS = 5.0
REST_SECONDS = 4.0  # between two faults
SETTLE_SECONDS = 240.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Struck:
    """A fault that struck: when it began, and what people waited."""

    fault: Fault
    waits: Waits
    slowest: str  # what the stop that waited longest for its bill went through

    @property
    def is_too_long(self) -> bool:
        return self.waits.gap > self.fault.limit_seconds


@dataclass
class Report:
    seed: str
    struck: list[Struck] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    settled_seconds: float = 0.0
    replayed: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """In words; empty if all went as it should."""
        late = [
            f"{each.fault}: no stop was acknowledged for {each.waits.gap:.1f} s, the limit is {each.fault.limit_seconds:g} s"
            for each in self.struck
            if each.is_too_long
        ]
        unbilled = [
            f"{each.fault}: from a stop to its bill it took {each.waits.bill_worst:.1f} s, the limit is {BILL_SECONDS:g} s; "
            f"{each.slowest}"
            for each in self.struck
            if each.waits.bill_worst > BILL_SECONDS
        ]
        return [*self.differences, *late, *unbilled]

    def as_json(self) -> dict[str, Any]:
        struck = [
            {"fault": each.fault.name, "limit": each.fault.limit_seconds, "slowest": each.slowest} | asdict(each.waits)
            for each in self.struck
        ]
        return vars(self) | {"struck": struck}


def run(
    seed: str,
    home: Path,
    faults: Sequence[Fault],
    *,
    minutes: float = 0.0,
    pause_at_most: float = PAUSE_AT_MOST,
    say: Say = lambda _: None,
) -> Report:
    """Runs in this thread, which must be the main one, with all data and logs below `home`: each fault once, in an order that
    the seed gives, and again until the minutes are over. `pause_at_most`: seconds between two things that somebody does."""
    chance, report = random.Random(seed), Report(seed)
    say("starting three hosts")
    with site(home) as cluster:
        load = Load.of(cluster.firm, seed, pause_at_most=pause_at_most)
        load.begin()
        time.sleep(WARM_UP_SECONDS)
        ends, times = time.monotonic() + 60 * minutes, list[tuple[Fault, float, float]]()
        while not times or (time.monotonic() < ends and not load.people.broken):
            for fault in chance.sample(faults, len(faults)):
                say(fault.name)
                began = time.monotonic()
                heal = fault.strike(cluster, chance)
                time.sleep(fault.hold_seconds)
                heal()
                cluster.wait_until_whole()
                time.sleep(REST_SECONDS)
                times.append((fault, began, time.monotonic()))
                say(f"{fault.name}: {load.waits(began, time.monotonic())}")
                if load.people.broken:
                    break
        say("waiting until everybody has an answer")
        load.end()
        say("waiting until the outbox is empty")
        started_at = time.monotonic()
        try:
            facts.settle(cluster.firm, seconds=SETTLE_SECONDS)
            report.replayed = facts.replay_the_dead(cluster.firm)
        except AssertionError as error:
            report.differences.append(str(error))
        report.settled_seconds = time.monotonic() - started_at
        for fault, began, ended in times:
            report.struck.append(Struck(fault, load.waits(began, ended), load.slowest(began, ended)))
            say(f"the slowest bill of {fault}: {report.struck[-1].slowest}")
        say("comparing what is there with what was acknowledged")
        report.differences += [*load.failed, *facts.differences(cluster.firm, load.people)]
        report.done, report.answers = load.people.done, cluster.firm.traffic.answers
        report.lost = cluster.firm.traffic.lost
    return report
