"""The model of bills: which entries add up to which bill, how admins decide, and what Xero gets."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.hours.model.shapes import (
    Area,
    Bill,
    Change,
    Entry,
    Key,
    PendingMessage,
    Refused,
    Rounding,
    Seen,
    Timer,
    Worker,
    day_of,
    now,
)


@dataclass
class BillModel:
    """Tasks, timers, entries, bills, and the messages whose handlers have not run yet."""

    roundings: dict[str, Rounding] = field(default_factory=dict)  # by customer
    tasks: dict[str, Area] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)  # by user: two running timers cannot exist
    entries: dict[str, Entry] = field(default_factory=dict)
    bills: list[Bill] = field(default_factory=list)
    pending: list[PendingMessage] = field(default_factory=list)

    def process_pending(self, order: Iterable[tuple[str, str]] = ()) -> None:
        """Does what the workers do. `order`: actors and subjects in the order in which the workers processed them; messages
        that are not in it come last, in the order in which they were enqueued."""
        for actor, subject_id in order:
            for message in self.pending:
                if (message.actor, message.subject_id) == (actor, subject_id):
                    self._process(message)
                    break
        while self.pending:
            self._process(self.pending[0])

    def _process(self, message: PendingMessage) -> None:
        self.pending.remove(message)
        message.handler(message.subject)

    # decisions

    def approve(self, by: Worker, bill: Bill, seen: Seen) -> None:
        """Approves what the admin has seen, and enqueues its sync to Xero."""
        self._decide(by, bill, seen)
        if bill.xero == "withdrawing":
            bill.xero = "queued"
            self._enqueue("sync_bill", self._sync, bill)
            return
        timer = self.timers.get(bill.key.user)
        running = timer is not None and Key(bill.key.user, self.tasks[timer.task], day_of(timer.start)) == bill.key
        if bill.status == "approved" or running or bill.key.day > day_of(now()):
            raise Refused(409)
        bill.rejection_note = None
        bill.status, bill.xero, bill.approved_by = "approved", "queued" if bill.minutes else "none", by.id
        if bill.minutes:
            self._enqueue("sync_bill", self._sync, bill)

    def reject(self, by: Worker, bill: Bill, note: str, seen: Seen) -> None:
        self._decide(by, bill, seen)
        if bill.status != "pending":
            raise Refused(409)
        bill.status, bill.rejection_note = "rejected", note

    def reopen(self, by: Worker, bill: Bill, seen: Seen) -> None:
        """The bill is pending at once, or when its entry in Xero is deleted. A rejection can be taken back, too."""
        self._decide(by, bill, seen)
        if bill.status == "pending" or bill.xero == "withdrawing":
            raise Refused(409)
        if bill.status == "rejected":
            self._reopen_rejected(bill)
            return
        if bill.in_xero is None:
            self._reopen(bill)
        else:
            bill.xero = "withdrawing"
            self._enqueue("sync_bill", self._sync, bill)

    def write_memo(self, by: Worker, bill: Bill, memo: str, seen: Seen) -> None:
        self._check_exists(bill)
        if by.id != bill.key.user:
            raise Refused(403)
        self._check_seen(bill, seen)
        if bill.status == "approved":
            raise Refused(409)
        bill.memo = memo
        self._reopen_rejected(bill)

    def recompute(self) -> dict[Key, Change]:
        """Gives bills to entries without one, and corrects sums. Returns the changes by key. Approved bills are not changed."""
        before: dict[Key, int | None] = {bill.key: bill.seconds for bill in self.live_bills() if bill.status != "approved"}
        added: dict[Key, int] = {}
        for entry in self.live_entries():
            if entry.bill is None:
                entry.bill = self._ensure_open_bill(entry.key)
                self._reopen_rejected(entry.bill)
                added[entry.key] = added.get(entry.key, 0) + 1
        changes = {}
        for bill in self.live_bills():
            if bill.status != "approved":
                self._recalculate(bill)
                previous = before.get(bill.key)
                if bill.key in added or previous != bill.seconds or bill.deleted:
                    changes[bill.key] = Change(previous, bill.seconds, added.get(bill.key, 0))
        return changes

    def _decide(self, by: Worker, bill: Bill, seen: Seen) -> None:
        self._check_exists(bill)
        if not by.is_admin:
            raise Refused(403)
        self._check_seen(bill, seen)

    def _check_exists(self, bill: Bill) -> None:
        if bill.deleted or bill not in self.bills:
            raise Refused(404)

    def _check_seen(self, bill: Bill, seen: Seen) -> None:
        """Recalculates a stale bill first: a client that sends the version with the old sum has not seen the new one."""
        shown = bill.seconds
        if bill.stale:
            self._recalculate(bill)
        if bill.deleted:
            raise Refused(404)
        if seen == "older" or (seen == "latest" and shown != bill.seconds):
            raise Refused(409)

    # sums

    def set_rounding(self, customer: str, rounding: Rounding) -> None:
        """Applies to bills that are created from now on."""
        self.roundings[customer] = rounding

    def _ensure_open_bill(self, key: Key) -> Bill:
        """Each key has at most one open bill."""
        for bill in self.live_bills():
            if bill.key == key and bill.status != "approved":
                return bill
        self.bills.append(Bill(key, self.roundings[key.area.customer]))
        return self.bills[-1]

    def _changed(self, bill: Bill | None) -> None:
        """Somebody changed an entry: the bill is stale until it is recalculated, and pending if it was rejected."""
        if bill is not None and not bill.deleted:
            bill.stale = True
            self._enqueue("recompute_bills", self._recalculate, bill)
            self._reopen_rejected(bill)

    def _reopen_rejected(self, bill: Bill | None) -> None:
        """A rejected bill is pending again when somebody corrects something, or when late time arrives."""
        if bill is not None and bill.status == "rejected":
            bill.status, bill.rejection_note = "pending", None

    def _recalculate(self, bill: Bill) -> None:
        """A bill that no entry is on any more is gone."""
        if bill.status != "approved" and not bill.deleted:
            entries = list(self.entries_of(bill))
            bill.seconds, bill.stale, bill.deleted = sum(entry.seconds for entry in entries), False, not entries

    def _move_entries(self, task: str) -> None:
        went: dict[Bill, Bill] = {}
        for entry in self.live_entries():
            if entry.task == task and entry.area != self.tasks[task] and not entry.locked:
                left, entry.area = entry.bill, self.tasks[task]
                entry.bill = self._ensure_open_bill(entry.key)
                self._reopen_rejected(entry.bill)
                self._recalculate(entry.bill)
                if left is not None:
                    went[left] = entry.bill
        for left in sorted(went, key=self.bills.index):
            self._reopen_rejected(left)
            self._leave(left, went[left])
            self._recalculate(left)

    def _leave(self, left: Bill | None, now_on: Bill | None) -> None:
        """A bill whose last entry went to another bill is gone, and its memo goes along."""
        if left is not None and now_on is not None and left is not now_on and not any(self.entries_of(left)):
            self._recalculate(left)
            now_on.memo = "\n".join(memo for memo in (now_on.memo, left.memo) if memo)

    def _reopen(self, bill: Bill) -> None:
        """Merges the bill that late time has opened for the same key."""
        duplicate = next((other for other in self.live_bills() if other.key == bill.key and other.status != "approved"), None)
        if duplicate is not None:
            for entry in self.entries_of(duplicate):
                entry.bill = bill
            duplicate.deleted = True
            bill.memo = "\n".join(memo for memo in (bill.memo, duplicate.memo) if memo)
        bill.status, bill.xero, bill.approved_by = "pending", "none", None
        self._recalculate(bill)
        for task in {entry.task for entry in self.entries_of(bill) if entry.area != self.tasks[entry.task]}:
            self._enqueue("move_entries", self._move_entries, task)

    # Xero

    def _sync(self, bill: Bill) -> None:
        """An approved bill with minutes has one time entry in Xero, any other bill none. An invoiced entry cancels the
        reopening."""
        if bill.xero == "withdrawing" and not bill.invoiced:
            bill.in_xero = None
            self._reopen(bill)
        elif bill.status == "approved" and bill.minutes:
            bill.in_xero, bill.xero = bill.minutes, "synced"

    # what exists

    def live_bills(self) -> list[Bill]:
        return [bill for bill in self.bills if not bill.deleted]

    def live_entries(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if not entry.deleted]

    def entries_of(self, bill: Bill) -> Iterator[Entry]:
        return (entry for entry in self.live_entries() if entry.bill is bill)

    def _enqueue(self, actor: str, handler: Callable[[Any], None], subject: Any) -> None:
        self.pending.append(PendingMessage(actor, handler, subject))
