"""The data of the model of time and money."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

ZONE = "Europe/Berlin"  # the time zone that bills' days are in
LONG = timedelta(hours=12)
OLDEST_START = timedelta(days=31)
AHEAD = timedelta(hours=24)  # hours may lie this far ahead

# The version that a client sends with a change: the latest one of the row, an older one, or none.
Seen = Literal["latest", "older"] | None
Times = tuple[datetime | None, datetime | None, int | None]  # start, end and seconds of a change


class Refused(Exception):
    """The API refuses the request with this status; nothing changes, except the sums of stale bills."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Rounding:
    increment: int
    mode: str

    def minutes(self, seconds: int) -> int:
        step = 60 * self.increment
        steps = -(-seconds // step) if self.mode == "up" else (2 * seconds + step) // (2 * step)
        return steps * self.increment


@dataclass(frozen=True)
class Worker:
    """A user who logs time; an admin also decides about bills."""

    id: str
    is_admin: bool


@dataclass(frozen=True)
class Area:
    """The customer and the pillar of a task, an entry or a bill."""

    customer: str
    pillar: str


@dataclass(frozen=True)
class Key:
    """What a bill is for; each key has at most one open bill."""

    user: str
    area: Area
    day: date


@dataclass
class Timer:
    id: str
    task: str
    start: datetime
    notes: str


@dataclass(frozen=True)
class Stop:
    """A stop: the facts of the entry that it will create."""

    entry: str
    user: str
    task: str
    start: datetime
    end: datetime
    notes: str


@dataclass(eq=False)
class Bill:
    """`seconds` may differ from the sum of the entries while the bill is stale."""

    key: Key
    rounding: Rounding
    id: str | None = None  # until the test has read it
    status: Literal["pending", "approved", "rejected"] = "pending"
    rejection_note: str | None = None
    memo: str = ""
    seconds: int = 0
    stale: bool = False
    approved_by: str | None = None
    xero: Literal["none", "queued", "synced", "withdrawing"] = "none"
    in_xero: int | None = None  # minutes
    invoiced: bool = False
    deleted: bool = False

    @property
    def minutes(self) -> int:
        return self.rounding.minutes(self.seconds)


@dataclass(eq=False)
class Entry:
    id: str
    task: str
    user: str
    area: Area
    start: datetime
    end: datetime
    notes: str
    bill: Bill | None = None  # None: imported, and not recomputed yet
    deleted: bool = False

    @property
    def seconds(self) -> int:
        return int((self.end - self.start).total_seconds())

    @property
    def long(self) -> bool:
        return self.end - self.start > LONG

    def overlaps(self, other: "Entry") -> bool:
        """Whether it shares time with another entry of the same user."""
        shares_time = other.start < self.end and self.start < other.end
        return other is not self and other.user == self.user and not (other.deleted or self.deleted) and shares_time

    @property
    def key(self) -> Key:
        return Key(self.user, self.area, day_of(self.start))

    @property
    def locked(self) -> bool:
        return self.bill is not None and self.bill.status == "approved"


@dataclass(eq=False)
class PendingMessage:
    """A message whose handler has not run yet."""

    actor: str
    handler: Callable[[Any], None]
    subject: Any

    @property
    def subject_id(self) -> str | None:
        """The id of the entry, task or bill. A bill may get it after the message was enqueued."""
        match self.subject:
            case Stop():
                return self.subject.entry
            case Bill():
                return self.subject.id
            case task:
                return str(task)


@dataclass(frozen=True)
class Change:
    """What a recompute changed on a bill, in seconds."""

    before: int | None
    after: int
    added: int


def day_of(start: datetime) -> date:
    return start.astimezone(ZoneInfo(ZONE)).date()


def now() -> datetime:
    return datetime.now(UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
