"""Simulated users who work at the same time."""

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from tests.faults.consultants import Consultant, Desktop, Mover
from tests.faults.firm import WholeFirm
from tests.faults.scenario import Approver, Inviter
from tests.faults.slack_members import SlackMember

PAUSE_AT_MOST = 0.6  # seconds between two things that somebody does


class Worker(Protocol):
    """A simulated user with a list of actions."""

    name: str

    def act(self) -> None: ...


@dataclass
class People:
    """All users, each in a thread, until `stop`."""

    consultants: list[Consultant]
    approver: Approver
    mover: Mover
    desktops: list[Desktop]
    inviter: Inviter
    members: list[SlackMember]
    pause_at_most: float = PAUSE_AT_MOST
    broken: list[str] = field(default_factory=list)  # promises that somebody saw broken
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def of(cls, firm: WholeFirm, seed: str, *, consultants: int = 8) -> "People":
        return cls(
            [Consultant(firm, number, seed) for number in range(consultants)],
            Approver(firm, seed),
            Mover(firm, seed),
            [Desktop(firm, number, seed) for number in range(2)],
            Inviter(firm, seed),
            [SlackMember(firm, number, seed) for number in range(2)],
        )

    @property
    def everybody(self) -> list[Worker]:
        return [*self.consultants, self.approver, self.mover, *self.desktops, self.inviter, *self.members]

    @property
    def with_hours(self) -> list[Consultant | Desktop]:
        return [*self.consultants, self.mover.consultant, *self.desktops]

    @property
    def done(self) -> Counter[str]:
        """The number of acknowledged actions, by kind."""
        found: Counter[str] = Counter()
        for person in self.everybody:
            found += person.done  # type: ignore[attr-defined]
        return found

    def begin(self) -> None:
        for person in self.everybody:
            thread = threading.Thread(target=self._work, args=(person,), name=person.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Lets each finish what they are at, and returns when all have."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, person: Worker) -> None:
        pause = random.Random(person.name)
        while not self._over.is_set() and not self.broken:
            try:
                person.act()
            except Exception as error:
                self.broken.append(f"{person.name}: {type(error).__name__}: {error}")
                return
            self._over.wait(pause.uniform(0, self.pause_at_most))
