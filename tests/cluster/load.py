"""Users at work on the cluster, and how long they had to wait."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from tests.faults.consultants import Consultant, Desktop, Mover
from tests.faults.firm_at_work import FirmAtWork
from tests.faults.people import PAUSE_AT_MOST, People
from tests.faults.scenario import Approver, Inviter

STOPPERS, CONSULTANTS = 3, 2
LOOK_SECONDS = 0.2
SHORT_PAUSE_AT_MOST = 2.0  # in the short run, where a busy machine has other tests to run


@dataclass
class Stop:
    """An acknowledged stop. Times are of time.monotonic()."""

    entry_id: str
    acknowledged_at: float
    billed_at: float | None = None


class Stopper(Consultant):
    """Starts and stops timers, and nothing else, as fast as the pauses between allow."""

    def __init__(self, firm: FirmAtWork, number: int, seed: str) -> None:
        super().__init__(firm, 200 + number, seed)
        self.stops: list[Stop] = []

    def act(self) -> None:
        self._start()
        self._stop()

    def _stopped(self, stop: dict[str, object]) -> None:
        super()._stopped(stop)
        self.stops.append(Stop(str(stop["entryId"]), time.monotonic()))


@dataclass(frozen=True)
class Waits:
    """Of one fault, in seconds: the longest time without any acknowledged stop, and from a stop to its place on a bill."""

    gap: float
    bill_p50: float
    bill_worst: float


@dataclass
class Load:
    """Everybody, and a thread that looks whether each stop is on a bill."""

    people: People
    stoppers: list[Stopper]
    failed: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def of(cls, firm: FirmAtWork, seed: str, *, pause_at_most: float = PAUSE_AT_MOST) -> "Load":
        stoppers = [Stopper(firm, number, seed) for number in range(STOPPERS)]
        consultants = [Consultant(firm, number, seed) for number in range(CONSULTANTS)]
        people = People(
            [*stoppers, *consultants],
            Approver(firm, seed),
            Mover(firm, seed),
            [Desktop(firm, 0, seed)],
            Inviter(firm, seed),
            [],
            pause_at_most,
        )
        return cls(people, stoppers)

    def begin(self) -> None:
        self.people.begin()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Everybody gets their last answer, and each stop its bill."""
        self.people.end()
        ends = time.monotonic() + 120
        while any(stop.billed_at is None for stop in self.stops) and time.monotonic() < ends and not self.failed:
            time.sleep(LOOK_SECONDS)
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        left = sum(stop.billed_at is None for stop in self.stops)
        if left:
            self.failed.append(f"{left} stops are on no bill")

    @property
    def stops(self) -> list[Stop]:
        return sorted(
            (stop for stopper in self.stoppers for stop in list(stopper.stops)), key=lambda stop: stop.acknowledged_at
        )

    def waits(self, began: float, ended: float) -> Waits:
        """Of the time between both."""
        return waits(self.stops, began, ended)

    def slowest(self, began: float, ended: float) -> str:
        """What the message of the stop that waited longest for its bill went through, of those between both."""
        here = [stop for stop in self.stops if stop.billed_at and stop.acknowledged_at < ended and stop.billed_at > began]
        if not here:
            return "no stop"
        slow = max(here, key=lambda stop: (stop.billed_at or ended) - stop.acknowledged_at)
        query = """
            SELECT delivery_number, attempts, extract(epoch FROM sent_at - created_at)::float,
                   extract(epoch FROM done_at - created_at)::float
            FROM messages WHERE actor = 'stop_timer' AND body->>'entry_id' = %s
        """
        published, attempts, sent, done = self.people.approver.firm.stint.rows(query, slow.entry_id)[0]
        return (
            f"acknowledged {slow.acknowledged_at - began:.1f} s after the fault began, "
            f"published {published} times, the last time {sent or 0:.1f} s and handled {done or 0:.1f} s after the stop, "
            f"{attempts} failed attempts"
        )

    def _look(self) -> None:
        try:
            while not self._over.wait(LOOK_SECONDS):
                for stop in self.stops:
                    if stop.billed_at is None and self._is_billed(stop):
                        stop.billed_at = time.monotonic()
        except Exception as error:
            self.failed.append(f"{type(error).__name__}: {error}")

    def _is_billed(self, stop: Stop) -> bool:
        query = "SELECT count(*) FROM time_entries WHERE id = %s AND bill_id IS NOT NULL"
        return bool(self.people.approver.firm.stint.value(query, stop.entry_id))


def waits(stops: Sequence[Stop], began: float, ended: float) -> Waits:
    """Of stops in the order of their acknowledgement. A stop counts if it waited for its bill at some time between both."""
    times = [stop.acknowledged_at for stop in stops]
    before = max((at for at in times if at <= began), default=began)
    points = [before, *(at for at in times if began < at < ended), ended]
    gap = max(later - earlier for earlier, later in pairwise(points))
    seconds = [
        (stop.billed_at or ended) - stop.acknowledged_at
        for stop in stops
        if stop.acknowledged_at < ended and (stop.billed_at or ended) > began
    ]
    return Waits(gap, median(seconds) if seconds else 0.0, max(seconds, default=0.0))
