"""A comparison of Stint with a baseline, whose rounds alternate."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.bench.stage import Stage


@dataclass(frozen=True)
class Plan:
    """The extent of a measurement: rounds of each side, and seconds of load in each round."""

    rounds: int = 3
    seconds: int = 4
    clients: int = 8

    @property
    def share(self) -> float:
        """This run's share of a normal one, for measurements by number instead of time."""
        return min(1.0, self.rounds * self.seconds / 12)


@dataclass(frozen=True)
class Side:
    """The figures of one side, one for each round. `what` describes exactly what was measured."""

    what: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Target:
    """The target for the ratio ours/baseline, or for ours alone: at least or at most the bound."""

    bound: float
    at_least: bool
    of_ours: bool = False


@dataclass(frozen=True)
class Line:
    """One row of the table. `notes` has further facts about the measurement."""

    name: str
    ours: Side
    baseline: Side
    target: Target | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.ours.median / self.baseline.median

    @property
    def passed(self) -> bool | None:
        if self.target is None:
            return None
        value = self.ours.median if self.target.of_ours else self.ratio
        return value >= self.target.bound if self.target.at_least else value <= self.target.bound


@dataclass(frozen=True)
class Comparison:
    """One name of `--only`. Its measurement gives one or several lines."""

    name: str
    what: str
    measure: "Callable[[Stage, Plan], list[Line]]"


def alternate(
    say: Callable[[str], None], name: str, plan: Plan, ours: Callable[[], float], baseline: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Measures ours and the baseline alternately, and returns the figures of each, one for each round."""
    figures: tuple[list[float], list[float]] = ([], [])
    for number in range(1, plan.rounds + 1):
        for side, values in zip((ours, baseline), figures, strict=True):
            values.append(side())
        say(f"{name}: round {number} of {plan.rounds}: ours {figures[0][-1]:,.5g}, baseline {figures[1][-1]:,.5g}")
    return figures
