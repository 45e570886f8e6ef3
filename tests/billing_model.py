"""Time and money as a plain model: what becomes of hours in a firm without processes, queues, transactions and networks.

What people do are the methods of `Books`; each changes the books, or raises Refused with the status that the API answers. What
only the database knows, ids and the time, is told. What an actor does later is a promise; `work` keeps all of them, and in any
order they come to the same.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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


@dataclass
class Books:
    """All there is, and what people do to it."""

    roundings: dict[str, Rounding] = field(default_factory=dict)  # by customer
    tasks: dict[str, Place] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)  # by user: two running timers cannot exist
    stops: dict[tuple[str, str], Stop] = field(default_factory=dict)  # by user and task
    entries: dict[str, Entry] = field(default_factory=dict)
    bills: list[Bill] = field(default_factory=list)
    promised: list[Promise] = field(default_factory=list)

    def work(self) -> None:
        """What the actors do."""
        while self.promised:
            promise = self.promised.pop(0)
            promise.keep(promise.of)

    # timers

    def start(self, by: Worker, task: str, notes: str, told: Mapping[str, Any]) -> bool:
        """Whether it was started now; starting the running task again changes nothing."""
        self._check_task(task, 404)
        running = self.timers.get(by.id)
        if running is not None and running.task == task:
            return False
        self._begin(by.id, Timer(told["id"], task, moment(told["startTime"]), notes), told["stopped"])
        return True

    def stop(self, by: Worker, task: str, told: Mapping[str, Any]) -> Stop:
        """The same stop again gets the same answer, until the task is started again."""
        running = self.timers.get(by.id)
        if running is not None and running.task == task:
            return self._stop_running(by.id, moment(told["endTime"]))
        if (stop := self.stops.get((by.id, task))) is not None:
            return stop
        self._check_task(task, 404)
        raise Refused(409)

    def put_timer(
        self, by: Worker, user: str, task: str, start: datetime | None, notes: str | None, told: Mapping[str, Any]
    ) -> bool:
        """Whether it was started now. Another task's timer ends where this one begins, so that no minute is on both."""
        if by.id != user and not by.is_admin:
            raise Refused(403)
        running = self.timers.get(user)
        same = running is not None and (running.task, running.start) == (task, start)
        if start is not None and not same and not (now() - OLDEST_START < start < now() + timedelta(minutes=1)):
            raise Refused(422)
        self._check_task(task, 422)
        if running is not None and running.task == task:
            running.start, running.notes = start or running.start, running.notes if notes is None else notes
            return False
        self._begin(
            user, Timer(told["id"], task, start or moment(told["startTime"]), notes or ""), told["stopped"], since=start
        )
        return True

    def discard_timer(self, by: Worker, user: str) -> None:
        if by.id != user and not by.is_admin:
            raise Refused(403)
        if self.timers.pop(user, None) is None:
            raise Refused(404)

    def _begin(self, user: str, timer: Timer, stopped: Mapping[str, Any] | None, since: datetime | None = None) -> None:
        if (running := self.timers.get(user)) is not None:
            assert stopped is not None, "the timer that ran is stopped on the way"
            before = since is not None and since > running.start
            self._stop_running(user, since if before and since else moment(stopped["endTime"]))
        self.timers[user] = timer
        self.stops.pop((user, timer.task), None)

    def _stop_running(self, user: str, end: datetime) -> Stop:
        timer = self.timers.pop(user)
        stop = Stop(timer.id, user, timer.task, timer.start, end, timer.notes)
        self.stops[user, timer.task] = stop
        self._promise(self._make_entry, stop)
        return stop

    def stop_offline(self, by: Worker, stop: Stop) -> None:
        """A client that was away brings a stop as a whole: late time, which is never refused."""
        self._check_task(stop.task, 422)
        self._promise(self._make_entry, stop)

    def finish_stop(self, entry: str) -> None:
        """Who goes on to change an entry that is still a promise has it made at once."""
        for promise in self.promised:
            if isinstance(promise.of, Stop) and promise.of.entry == entry:
                self.promised.remove(promise)
                promise.keep(promise.of)
                return

    def _make_entry(self, stop: Stop) -> None:
        place = self.tasks[stop.task]
        long = stop.end - stop.start > LONG
        entry = Entry(stop.entry, stop.task, stop.user, place, stop.start, stop.end, stop.notes, long=long)
        entry.bill = self._open_bill(entry.key)
        self._late_time(entry.bill)
        self.entries[entry.id] = entry
        self._sum(entry.bill)

    # entries

    def log(self, by: Worker, entry: Entry, *, allow_overlap: bool) -> None:
        if by.id != entry.user and not by.is_admin:
            raise Refused(403)
        if entry.end < entry.start:
            raise Refused(422)
        self._check_task(entry.task, 422)
        entry.place = self.tasks[entry.task]
        self._check_overlap(entry, entry.start, entry.end, allow_overlap)
        entry.bill = self._open_bill(entry.key)
        self.entries[entry.id] = entry
        self._changed(entry.bill)
        self._late_time(entry.bill)

    def change_times(
        self,
        by: Worker,
        entry_id: str,
        start: datetime | None,
        end: datetime | None,
        seconds: int | None,
        *,
        allow_overlap: bool,
        seen: Seen,
    ) -> None:
        """A start or an end alone keeps the other, a duration alone keeps the start; all three must agree."""
        entry = self._own_entry(by, entry_id, seen)
        if seconds is None:
            start, end = start or entry.start, end or entry.end
        elif start is None and end is not None:
            start = end - timedelta(seconds=seconds)
        else:
            start = start or entry.start
            end = end or start + timedelta(seconds=seconds)
        assert end is not None
        if end < start or (seconds is not None and end - start != timedelta(seconds=seconds)):
            raise Refused(422)
        if entry.locked:
            raise Refused(409)
        self._check_overlap(entry, start, end, allow_overlap)
        left, moves = entry.bill, day_of(start) != day_of(entry.start)
        entry.start, entry.end = start, end
        if moves or left is None:
            entry.bill = self._open_bill(entry.key)
            self._late_time(entry.bill)
        for bill in {entry.bill, left} - {None}:
            self._touched(by, bill)

    def write_notes(self, by: Worker, entry_id: str, notes: str | None, append: str | None, seen: Seen) -> None:
        entry = self._own_open_entry(by, entry_id, seen)
        entry.notes = notes if notes is not None else "\n".join(line for line in (entry.notes, append) if line)
        if by.id == entry.user:
            self._late_time(entry.bill)

    def delete_entry(self, by: Worker, entry_id: str, seen: Seen) -> None:
        entry = self._own_open_entry(by, entry_id, seen)
        entry.deleted = True
        self._touched(by, entry.bill)

    def import_entry(self, entry: Entry) -> None:
        """From the system before: an entry that no bill has yet."""
        entry.place = self.tasks[entry.task]
        self.entries[entry.id] = entry

    def _own_entry(self, by: Worker, entry_id: str, seen: Seen) -> Entry:
        entry = self.entries.get(entry_id)
        if entry is None or entry.deleted:
            raise Refused(404)
        if by.id != entry.user and not by.is_admin:
            raise Refused(403)
        if seen == "older":
            raise Refused(409)
        return entry

    def _own_open_entry(self, by: Worker, entry_id: str, seen: Seen) -> Entry:
        entry = self._own_entry(by, entry_id, seen)
        if entry.locked:
            raise Refused(409)
        return entry

    def _check_overlap(self, entry: Entry, start: datetime, end: datetime, allowed: bool) -> None:
        for other in self.entries.values():
            if other is not entry and other.user == entry.user and not other.deleted and not allowed:
                if other.start < end and start < other.end:
                    raise Refused(409)

    # tasks and customers

    def move_task(self, task: str, place: Place) -> None:
        """Its entries follow, but for those on approved bills."""
        self._check_task(task, 404)
        if self.tasks[task] != place:
            self.tasks[task] = place
            self._promise(self._move_entries, task)

    def set_rounding(self, customer: str, rounding: Rounding) -> None:
        """For bills that are opened from now on."""
        self.roundings[customer] = rounding

    def _move_entries(self, task: str) -> None:
        for entry in self.live_entries():
            if entry.task == task and entry.place != self.tasks[task] and not entry.locked:
                left, entry.place = entry.bill, self.tasks[task]
                entry.bill = self._open_bill(entry.key)
                self._late_time(entry.bill)
                for bill in {left, entry.bill} - {None}:
                    self._sum(bill)

    def _check_task(self, task: str, status: int) -> None:
        if task not in self.tasks:
            raise Refused(status)

    # bills

    def approve(self, by: Worker, bill: Bill, seen: Seen) -> None:
        """Freezes what the admin has seen, and promises it to Xero."""
        self._decide(by, bill, seen)
        timer = self.timers.get(bill.key.user)
        running = timer is not None and Key(bill.key.user, self.tasks[timer.task], day_of(timer.start)) == bill.key
        if bill.status != "pending" or bill.minutes == 0 or running:
            raise Refused(409)
        bill.status, bill.xero, bill.approved_by = "approved", "queued", by.id
        self._promise(self._sync, bill)

    def reject(self, by: Worker, bill: Bill, note: str, seen: Seen) -> None:
        self._decide(by, bill, seen)
        if bill.status != "pending":
            raise Refused(409)
        bill.status, bill.rejection_note = "rejected", note

    def reopen(self, by: Worker, bill: Bill, seen: Seen) -> None:
        """Pending at once, or when what it has in Xero is gone."""
        self._decide(by, bill, seen)
        if bill.status != "approved" or bill.xero == "withdrawing":
            raise Refused(409)
        if bill.in_xero is None:
            self._reopen(bill)
        else:
            bill.xero = "withdrawing"
            self._promise(self._sync, bill)

    def write_memo(self, by: Worker, bill: Bill, memo: str, seen: Seen) -> None:
        self._check_bill(bill)
        if by.id != bill.key.user:
            raise Refused(403)
        self._look(bill, seen)
        if bill.status == "approved":
            raise Refused(409)
        bill.memo = memo
        self._late_time(bill)

    def recompute(self) -> dict[Key, Change]:
        """Gives bills to entries that have none, and corrects sums: what that changed. Approved bills are never touched."""
        before: dict[Key, int | None] = {bill.key: bill.seconds for bill in self.live_bills() if bill.status != "approved"}
        added: dict[Key, int] = {}
        for entry in self.live_entries():
            if entry.bill is None:
                entry.bill = self._open_bill(entry.key)
                self._late_time(entry.bill)
                added[entry.key] = added.get(entry.key, 0) + 1
        changes = {}
        for bill in self.live_bills():
            if bill.status != "approved":
                self._sum(bill)
                was = before.get(bill.key)
                if bill.key in added or was != bill.seconds:
                    changes[bill.key] = Change(was, bill.seconds, added.get(bill.key, 0))
        return changes

    def _decide(self, by: Worker, bill: Bill, seen: Seen) -> None:
        self._check_bill(bill)
        if not by.is_admin:
            raise Refused(403)
        self._look(bill, seen)

    def _check_bill(self, bill: Bill) -> None:
        if bill.deleted or bill not in self.bills:
            raise Refused(404)

    def _look(self, bill: Bill, seen: Seen) -> None:
        """A bill whose sum is behind is summed first: who names the version with the old figures has not seen the new ones."""
        shown = bill.seconds
        if bill.stale:
            self._sum(bill)
        if seen == "older" or (seen == "latest" and shown != bill.seconds):
            raise Refused(409)

    def _reopen(self, bill: Bill) -> None:
        """Takes in the bill that late time has opened for the same key."""
        twin = next((other for other in self.live_bills() if other.key == bill.key and other.status != "approved"), None)
        if twin is not None:
            for entry in self.entries_of(twin):
                entry.bill = bill
            twin.deleted = True
            bill.memo = "\n".join(memo for memo in (bill.memo, twin.memo) if memo)
        bill.status, bill.xero, bill.approved_by = "pending", "none", None
        self._sum(bill)
        for task in {entry.task for entry in self.entries_of(bill) if entry.place != self.tasks[entry.task]}:
            self._promise(self._move_entries, task)

    def _open_bill(self, key: Key) -> Bill:
        """A key has one open bill."""
        for bill in self.live_bills():
            if bill.key == key and bill.status != "approved":
                return bill
        self.bills.append(Bill(key, self.roundings[key.place.customer]))
        return self.bills[-1]

    def _touched(self, by: Worker, bill: Bill | None) -> None:
        self._changed(bill)
        if bill is not None and by.id == bill.key.user:
            self._late_time(bill)

    def _changed(self, bill: Bill | None) -> None:
        """An entry changed: the bill is behind until it is summed again."""
        if bill is not None:
            bill.stale = True
            self._promise(self._sum, bill)

    def _late_time(self, bill: Bill | None) -> None:
        """A rejected bill is pending again when its owner mends it, or time arrives."""
        if bill is not None and bill.status == "rejected":
            bill.status, bill.rejection_note = "pending", None

    def _sum(self, bill: Bill) -> None:
        if bill.status != "approved" and not bill.deleted:
            bill.seconds, bill.stale = sum(entry.seconds for entry in self.entries_of(bill)), False

    # Xero

    def _sync(self, bill: Bill) -> None:
        """Approved, one time entry with its minutes; anything else, none. An invoiced one cancels the reopening."""
        if bill.xero == "withdrawing" and not bill.invoiced:
            bill.in_xero = None
            self._reopen(bill)
        elif bill.status == "approved":
            bill.in_xero, bill.xero = bill.minutes, "synced"

    # who is there

    def live_bills(self) -> list[Bill]:
        return [bill for bill in self.bills if not bill.deleted]

    def live_entries(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if not entry.deleted]

    def entries_of(self, bill: Bill) -> Iterator[Entry]:
        return (entry for entry in self.live_entries() if entry.bill is bill)

    def _promise(self, keep: Callable[[Any], None], of: Any) -> None:
        self.promised.append(Promise(keep, of))


def now() -> datetime:
    return datetime.now(UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
