"""A comparison of Stint with a baseline, whose rounds alternate."""

import statistics
from collections.abc import Callable, Mapping, Sequence
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
    """The figures of one side, one for each round. `what` describes exactly what was measured. `cpu`: milliseconds of CPU time
    of each kind of process, per request or pair of requests, if that was measured."""

    what: str
    unit: str
    values: Sequence[float]
    cpu: Mapping[str, float] = field(default_factory=dict)

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
    """One row of the table. `baseline` is None where it could not be measured here. `notes` has further facts about the
    measurement."""

    name: str
    ours: Side
    baseline: Side | None
    target: Target | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.ours.median / self.baseline.median if self.baseline else None

    @property
    def passed(self) -> bool | None:
        """Whether the target is met; None without a target, or without the baseline that it compares with."""
        if self.target is None:
            return None
        value = self.ours.median if self.target.of_ours else self.ratio
        if value is None:
            return None
        return value >= self.target.bound if self.target.at_least else value <= self.target.bound


@dataclass(frozen=True)
class Comparison:
    """One name of `--only`, and the lines of the table that its measurement gives."""

    name: str
    what: str
    lines: tuple[str, ...]
    measure: "Callable[[Stage, Plan], list[Line]]"
    uses_peer: bool = False


def alternate(
    say: Callable[[str], None], name: str, plan: Plan, sides: Mapping[str, Callable[[], float]]
) -> dict[str, list[float]]:
    """Measures the sides alternately, and returns the figures of each, one for each round."""
    figures: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(1, plan.rounds + 1):
        for side, measure in sides.items():
            figures[side].append(measure())
            say(f"{name}: round {number} of {plan.rounds}: {side} {figures[side][-1]:,.5g}")
    return figures
