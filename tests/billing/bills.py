"""Bills in the plain model: which entries add up to which, what is decided about them, and what becomes of that in Xero."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.billing.shapes import Bill, Change, Entry, Key, Place, Promise, Refused, Rounding, Seen, Timer, Worker, day_of


@dataclass
class Bills:
    """What is billed, and the promises that actors keep."""

    roundings: dict[str, Rounding] = field(default_factory=dict)  # by customer
    tasks: dict[str, Place] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)  # by user: two running timers cannot exist
    entries: dict[str, Entry] = field(default_factory=dict)
    bills: list[Bill] = field(default_factory=list)
    promised: list[Promise] = field(default_factory=list)

    def work(self) -> None:
        """What the actors do."""
        while self.promised:
            promise = self.promised.pop(0)
            promise.keep(promise.of)

    # what is decided

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

    # how they add up

    def set_rounding(self, customer: str, rounding: Rounding) -> None:
        """For bills that are opened from now on."""
        self.roundings[customer] = rounding

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

    def _move_entries(self, task: str) -> None:
        for entry in self.live_entries():
            if entry.task == task and entry.place != self.tasks[task] and not entry.locked:
                left, entry.place = entry.bill, self.tasks[task]
                entry.bill = self._open_bill(entry.key)
                self._late_time(entry.bill)
                for bill in {left, entry.bill} - {None}:
                    self._sum(bill)

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
