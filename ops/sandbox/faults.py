"""Injected faults: which requests fail, and how."""

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
    "late",  # done and answered only after `seconds`, even if the client has closed the connection
    "drop_before",  # the connection ends, nothing is done
    "drop_after",  # done, and then the connection ends without a byte
    "half",  # done, and the connection ends in the middle of the answer
    "trickle",  # done, and the answer comes in ten pieces over `seconds`
)
_STORM_STATUSES = (500, 503, 429, 401, 403)
_STORM_LIMITS: tuple[dict[str, str], ...] = (  # the headers of 429: every limit of Xero's, also without Retry-After
    {"Retry-After": "1", "X-Rate-Limit-Problem": "minute"},
    {"Retry-After": "2", "X-Rate-Limit-Problem": "day"},
    {"Retry-After": "1", "X-Rate-Limit-Problem": "appminute"},
    {"Retry-After": "1", "X-Rate-Limit-Problem": "concurrent"},
    {"X-Rate-Limit-Problem": "concurrent"},
    {"Retry-After": "1"},
)


class Rule(BaseModel):
    """Which requests get a fault: those that meet all conditions. `nth` and `probability` apply to requests that match."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(pattern=f"^({'|'.join(KINDS)}|any)$")
    method: str | None = None
    path: str = ""  # a regular expression, searched for
    nth: tuple[int, ...] = ()  # which of the matching ones, counted from 1; empty: all
    probability: float = 1
    seed: int = 0
    count: int | None = None  # how many times at most
    status: int = 500
    retry_after: int | None = Field(None, alias="retryAfter")
    problem: str | None = None  # X-Rate-Limit-Problem
    body: str | None = None  # of the answer of a `status`, instead of a standard one
    seconds: float = 1
    late_seconds: float | None = Field(None, alias="lateSeconds")  # of kind any: a late request is late by up to this


@dataclass(frozen=True)
class Fault:
    """The fault of one request."""

    kind: str
    status: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass
class _ActiveRule:
    rule: Rule
    dice: random.Random
    matched: int = 0
    used: int = 0


class Faults:
    """The active rules. The first one that applies to a request decides."""

    def __init__(self) -> None:
        self._active: list[_ActiveRule] = []

    def replace(self, rules: list[dict[str, Any]]) -> None:
        """Replaces all rules. Raises ValidationError for an invalid one."""
        parsed = [Rule.model_validate(rule) for rule in rules]
        self._active = [_ActiveRule(rule, random.Random(rule.seed)) for rule in parsed]  # noqa: S311 - to be repeatable

    def for_request(self, request: Request) -> Fault | None:
        """The fault for this request, or None. Call it once for each request: it counts."""
        return next((fault for active in self._active if (fault := _apply(active, request))), None)


def _apply(active: _ActiveRule, request: Request) -> Fault | None:
    rule = active.rule
    if (rule.method and rule.method != request.method) or not re.search(rule.path, request.path):
        return None
    active.matched += 1
    if rule.nth and active.matched not in rule.nth:
        return None
    if active.dice.random() >= rule.probability or (rule.count is not None and active.used >= rule.count):
        return None
    active.used += 1
    if rule.kind == "any":
        return _random_fault(active)
    return Fault(rule.kind, rule.status, rule.seconds, _headers(rule), rule.body)


def _random_fault(active: _ActiveRule) -> Fault:
    kind, status = active.dice.choice(KINDS), active.dice.choice(_STORM_STATUSES)
    headers = active.dice.choice(_STORM_LIMITS) if (kind, status) == ("status", 429) else {}
    late, seconds = active.rule.late_seconds, active.rule.seconds
    return Fault(kind, status, active.dice.uniform(0, late) if kind == "late" and late is not None else seconds, headers)


def _headers(rule: Rule) -> dict[str, str]:
    headers = {}
    if rule.retry_after is not None:
        headers["Retry-After"] = str(rule.retry_after)
    if rule.problem is not None:
        headers["X-Rate-Limit-Problem"] = rule.problem
    return headers
