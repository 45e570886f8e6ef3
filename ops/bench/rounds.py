"""What a comparison is, and how its two sides take turns."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.bench.stage import Stage


@dataclass(frozen=True)
class Plan:
    """How long to measure: rounds of each side, and seconds of load in each round where that decides."""

    rounds: int = 3
    seconds: int = 4
    clients: int = 8

    @property
    def share(self) -> float:
        """How much of an ordinary run this is, for what is counted and not timed."""
        return min(1.0, self.rounds * self.seconds / 12)


@dataclass(frozen=True)
class Side:
    """One side's figures, one per round; `what` says exactly what was measured."""

    what: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Target:
    """What is wanted of the ratio ours/floor, or of ours alone: at least, or at most, the bound."""

    bound: float
    at_least: bool
    of_ours: bool = False


@dataclass(frozen=True)
class Line:
    """One row of the table. `notes` is what one has to know beside the figures."""

    name: str
    ours: Side
    floor: Side
    target: Target | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.ours.median / self.floor.median

    @property
    def passed(self) -> bool | None:
        if self.target is None:
            return None
        value = self.ours.median if self.target.of_ours else self.ratio
        return value >= self.target.bound if self.target.at_least else value <= self.target.bound


@dataclass(frozen=True)
class Comparison:
    """What `--only` names: measured together, it gives one line or more."""

    name: str
    what: str
    measure: "Callable[[Stage, Plan], list[Line]]"


def alternate(
    say: Callable[[str], None], name: str, plan: Plan, ours: Callable[[], float], floor: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Ours, the floor, ours, the floor, …: the figures of each, round by round."""
    figures: tuple[list[float], list[float]] = ([], [])
    for number in range(1, plan.rounds + 1):
        for side, values in zip((ours, floor), figures, strict=True):
            values.append(side())
        say(f"{name}: round {number} of {plan.rounds}: ours {figures[0][-1]:,.5g}, floor {figures[1][-1]:,.5g}")
    return figures
