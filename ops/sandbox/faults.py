"""Faults to order: which requests fail, and how."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ops.sandbox.http import Request

KINDS = (
    "status",  # another answer instead of the right one; nothing is done
    "stall",  # done at once, answered `seconds` later
    "late",  # nothing for `seconds`, and only then done and answered, also when nobody waits any more
    "drop_before",  # the connection ends, nothing is done
    "drop_after",  # done, and then the connection ends without a byte
    "half",  # done, and the connection ends in the middle of the answer
    "trickle",  # done, and the answer comes in ten pieces over `seconds`
)
_STORM_STATUSES = (500, 503, 429, 401)


class Rule(BaseModel):
    """Which requests meet a fault. All conditions hold together; `nth` and `probability` are about requests that match."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=f"^({'|'.join(KINDS)}|any)$")
    method: str | None = None
    path: str = ""  # a regular expression, searched for
    nth: tuple[int, ...] = ()  # which of the matching ones, counted from 1; empty: all
    probability: float = 1
    seed: int = 0
    count: int | None = None  # how often at most
    status: int = 500
    retry_after: int | None = Field(None, alias="retryAfter")
    problem: str | None = None  # X-Rate-Limit-Problem
    seconds: float = 1


@dataclass(frozen=True)
class Fault:
    """What one request meets."""

    kind: str
    status: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Armed:
    rule: Rule
    dice: random.Random
    matched: int = 0
    used: int = 0


class Faults:
    """The rules in force; the first that strikes decides."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def replace(self, rules: list[dict[str, Any]]) -> None:
        """Raises ValidationError for a rule that is none."""
        parsed = [Rule.model_validate(rule) for rule in rules]
        self._armed = [_Armed(rule, random.Random(rule.seed)) for rule in parsed]  # noqa: S311 - to be repeatable

    def met_by(self, request: Request) -> Fault | None:
        """The fault that this request meets, if any; each request asks once."""
        return next((fault for armed in self._armed if (fault := _strike(armed, request))), None)


def _strike(armed: _Armed, request: Request) -> Fault | None:
    rule = armed.rule
    if (rule.method and rule.method != request.method) or not re.search(rule.path, request.path):
        return None
    armed.matched += 1
    if rule.nth and armed.matched not in rule.nth:
        return None
    if armed.dice.random() >= rule.probability or (rule.count is not None and armed.used >= rule.count):
        return None
    armed.used += 1
    return _random_fault(armed) if rule.kind == "any" else Fault(rule.kind, rule.status, rule.seconds, _headers(rule))


def _random_fault(armed: _Armed) -> Fault:
    kind, status = armed.dice.choice(KINDS), armed.dice.choice(_STORM_STATUSES)
    headers = {"Retry-After": "1", "X-Rate-Limit-Problem": "minute"} if (kind, status) == ("status", 429) else {}
    return Fault(kind, status, armed.rule.seconds, headers)


def _headers(rule: Rule) -> dict[str, str]:
    headers = {}
    if rule.retry_after is not None:
        headers["Retry-After"] = str(rule.retry_after)
    if rule.problem is not None:
        headers["X-Rate-Limit-Problem"] = rule.problem
    return headers
