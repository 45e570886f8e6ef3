"""What is in the books: the shapes of the plain model of time and money."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

ZONE = "Europe/Berlin"  # of the firm
LONG = timedelta(hours=12)
OLDEST_START = timedelta(days=31)

# What a client knows of a row that it changes: its latest version, an older one, or it does not say.
Seen = Literal["latest", "older"] | None


class Refused(Exception):
    """What the API answers with that status, and nothing has changed but sums that were behind."""

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
    """Whoever logs time; an admin decides about it, too."""

    id: str
    is_admin: bool


@dataclass(frozen=True)
class Place:
    """Where a task stands, and an entry, and a bill."""

    customer: str
    pillar: str


@dataclass(frozen=True)
class Key:
    """What one open bill is for."""

    user: str
    place: Place
    day: date


@dataclass
class Timer:
    id: str
    task: str
    start: datetime
    notes: str


@dataclass(frozen=True)
class Stop:
    """What a stop promises: the entry to come."""

    entry: str
    user: str
    task: str
    start: datetime
    end: datetime
    notes: str


@dataclass(eq=False)
class Bill:
    """`seconds` is what it says, which may be behind its entries while it is stale."""

    key: Key
    rounding: Rounding
    id: str | None = None  # until it was seen
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
    place: Place
    start: datetime
    end: datetime
    notes: str
    bill: Bill | None = None  # None: imported, and not recomputed yet
    long: bool = False
    deleted: bool = False

    @property
    def seconds(self) -> int:
        return int((self.end - self.start).total_seconds())

    @property
    def key(self) -> Key:
        return Key(self.user, self.place, day_of(self.start))

    @property
    def locked(self) -> bool:
        return self.bill is not None and self.bill.status == "approved"


@dataclass(frozen=True)
class Promise:
    keep: Callable[[Any], None]
    of: Any


@dataclass(frozen=True)
class Change:
    """What a recompute made of a bill."""

    before: int | None
    after: int
    added: int


def day_of(start: datetime) -> date:
    return start.astimezone(ZoneInfo(ZONE)).date()


def now() -> datetime:
    return datetime.now(UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
