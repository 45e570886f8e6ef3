"""A model of Xero and of one bill: whatever is lost, late, throttled or repeated, Xero never has two entries of the bill, and
has what it should have once all is quiet. People change and delete the entry by hand: Stint overwrites nothing of that unless
an admin has chosen it, and shows that the bill differs only if somebody has changed its entry.

The real decisions and the real records are used, without Postgres. Xero is simulated with a clock of its own: a request may be
executed long after its answer was lost, lists are behind by up to the allowed lag, an Idempotency-Key is forgotten after six
minutes.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.settings import Settings
from schemas.xero.bill_calls import known_after, known_after_failure
from schemas.xero.bill_sync import known_before
from schemas.xero.client_errors import DoesNotExist, NotSent, OutcomeUnknown, RateLimited, Refused, XeroError
from schemas.xero.entries.entry import Entry, EntryContent, EntryPage
from schemas.xero.entry_records import EntryRecord
from schemas.xero.next_step import Bill, decide
from schemas.xero.planning.steps import Call, CallKind, Done, Wait
from schemas.xero.tokens import Access
from tests.support.sizes import MODEL_HISTORIES

SETTINGS = Settings(database_url="", secret_key="0123456789abcdef")  # the defaults, which are Xero's
ACCESS = Access("tenant", "token")
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY_SECONDS = 360.0
CALL_SECONDS, LATE_SECONDS, LAG_SECONDS = (
    SETTINGS.stint_xero_call_seconds,
    SETTINGS.stint_xero_late_seconds,
    60.0,
)
BILL = Bill(UUID(int=1), True, 60, "memo", START, "jo@example.com", "project", "task", "user", True, False)


@dataclass
class SimulatedEntry:
    """An entry, each content with the time since when it has it; None: it is deleted."""

    id: str
    versions: list[tuple[float, EntryContent | None]]
    locked: bool = False
    by_hand: list[EntryContent | None] = field(default_factory=list)  # what people have made of it

    def content(self, at: float) -> EntryContent | None:
        return next((content for since, content in reversed(self.versions) if since <= at), None)


@dataclass
class SimulatedXero:
    """Entries of one bill, remembered keys, and requests that are executed later. Times are seconds since the start."""

    dice: random.Random
    now: float = 0.0
    entries: list[SimulatedEntry] = field(default_factory=list)
    keys: dict[str, tuple[float, SimulatedEntry]] = field(default_factory=dict)
    contents: dict[str, EntryContent] = field(default_factory=dict)
    late: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    def up_to(self, most: float) -> float:
        """A number of seconds; the extremes are as likely as all between."""
        return self.dice.choice((0.0, self.dice.uniform(0, most), most))

    def advance(self, seconds: float) -> None:
        """Lets time pass, and executes the late requests that are due meanwhile."""
        ends = self.now + seconds
        rounded = ends + 1e-6  # Stint's times are rounded to microseconds
        while due := sorted((each for each in self.late if each[0] <= rounded), key=lambda each: each[0])[:1]:
            self.late.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
        self.now = max(self.now, ends)

    def existing(self) -> list[SimulatedEntry]:
        return [entry for entry in self.entries if entry.content(self.now) is not None]

    def create(self, key: str, content: EntryContent) -> Entry:
        assert self.contents.setdefault(key, content) == content, "a key is for one content"
        since, entry = self.keys.get(key, (-KEY_SECONDS, None))
        if entry is None or self.now - since >= KEY_SECONDS:
            entry = SimulatedEntry(f"e{len(self.entries)}", [(self.now, content)])
            self.entries.append(entry)
            self.keys[key] = (self.now, entry)
            assert len(self.existing()) == 1, f"two entries of the bill at {self.now}"
        return Entry(entry.id, content, "ACTIVE")

    def find(self) -> EntryPage:
        found = []
        for entry in self.entries:
            content = entry.content(self.now - self.up_to(LAG_SECONDS))
            if content is not None:
                found.append(Entry(entry.id, content, "LOCKED" if entry.locked else "ACTIVE"))
        return EntryPage(found, last=True)

    def change(self, entry_id: str, content: EntryContent | None) -> None:
        entry = self._entry(entry_id)
        if entry.locked:
            raise Refused("it is invoiced", status=400)
        entry.versions.append((self.now, content))

    def change_by_hand(self, entry: SimulatedEntry, content: EntryContent | None) -> None:
        entry.versions.append((self.now, content))
        entry.by_hand.append(content)

    def get(self, entry_id: str) -> Entry | None:
        try:
            entry = self._entry(entry_id)
        except DoesNotExist:
            return None
        content = entry.content(self.now)
        assert content is not None
        return Entry(entry.id, content, "LOCKED" if entry.locked else "ACTIVE")

    def _entry(self, entry_id: str) -> SimulatedEntry:
        for entry in self.existing():
            if entry.id == entry_id:
                return entry
        raise DoesNotExist("there is no such entry", status=404)


class History:
    """One bill, what Stint knows of it, and Xero."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.xero = SimulatedXero(self.dice)
        self.bill, self.record = BILL, EntryRecord()
        self.shown = "none"  # the bill's Xero status
        self.restored = False
        self.saved = self.bill, self.record, self.shown  # a backup of Postgres
        self.is_deletion_known = False  # somebody has deleted the entry of which Stint knew, and no admin has chosen anything

    def _read(self) -> EntryRecord:
        return replace(self.record, read_at=self._time())

    def _time(self) -> datetime:
        return START + timedelta(seconds=self.xero.now)

    # what people do

    def edit(self) -> None:
        if not self.bill.approved:
            self.bill = replace(self.bill, minutes=self.dice.randint(1, 500))

    def map(self) -> None:
        self.bill = replace(self.bill, task_id=self.dice.choice(["task", "other task"]))

    def approve(self) -> None:
        self.bill, self.record = replace(self.bill, approved=True), replace(self.record, withdrawing=False)

    def reopen(self) -> None:
        self.is_deletion_known = False
        if self.bill.approved and self.record.may_exist:
            self.record = replace(self.record, withdrawing=True, reopen_error=None, accepted=False, overwrite=False)
        else:
            self.bill = replace(self.bill, approved=False)

    def invoice(self) -> None:
        for entry in self.xero.existing():
            entry.locked = not entry.locked

    def edit_by_hand(self) -> None:
        """People change a time entry in Xero. They remove its mark only when Stint knows its id: without both it would be
        nobody's."""
        for entry in self.xero.existing():
            content = entry.content(self.xero.now)
            if content is None or entry.locked:
                continue
            changes: list[dict[str, object]] = [
                {"minutes": self.dice.choice([5, 60])},
                {"user_id": "other"},
                {"date_utc": START + timedelta(days=3)},
            ]
            if entry.id in self.record.entry_ids:
                changes.append({"description": "by hand"})
            self.xero.change_by_hand(entry, content.model_copy(update=self.dice.choice(changes)))

    def delete_by_hand(self) -> None:
        """After a restore only an entry that Stint knows: else a list that is behind may show one instead of another."""
        for entry in self.xero.existing():
            if not entry.locked and (entry.id in self.record.entry_ids or not self.restored):
                self.xero.change_by_hand(entry, None)
                may_be_own = self.record.withdrawing or self.record.overwrite or self.record.delete_attempted_at is not None
                self.is_deletion_known = entry.id in self.record.entry_ids and not may_be_own

    def send_again(self) -> None:
        """An admin sends a bill again that differs, or whose difference was accepted."""
        if self.shown == "differs" or self.record.accepted:
            self.record, self.shown = replace(self.record, overwrite=True, accepted=False), "queued"
            self.is_deletion_known = False

    def accept(self) -> None:
        if self.shown == "differs":
            self.record, self.shown = replace(self.record, accepted=True, overwrite=False), "synced"

    def back_up(self) -> None:
        self.saved = self.bill, self.record, self.shown

    def restore(self) -> None:
        """Postgres is restored to the time of the backup. What Stint has done in Xero since then looks as if people had, and is
        not told apart here."""
        self.bill, self.record, self.shown = self.saved
        self.bill = replace(self.bill, lost_before=self._time())
        self.is_deletion_known = False
        for entry in self.xero.entries:
            content = entry.content(self.xero.now)
            has_mark = content is not None and content.description.endswith(self.bill.mark)
            if not has_mark and entry.id not in self.record.entry_ids:  # it is nobody's any more
                entry.versions.append((self.xero.now, None))
        self.restored = True

    def check(self) -> None:
        """The periodic check reads a list, which may be behind: it records the status of an entry, and has the entry read that
        is otherwise than it is known, or missing."""
        record = self.record
        listed = {entry.id: entry for entry in self.xero.find().entries}
        if len(record.entry_ids) != 1 or record.outcome_unknown:
            return
        entry = listed.get(record.entry_ids[0])
        if entry is not None:
            error = None if entry.status == "ACTIVE" else record.reopen_error
            record = replace(record, entry_status=entry.status, refused=False, reopen_error=error)
        self.record = replace(record, recheck=record.recheck or not record.agrees_with(entry.content if entry else None))

    # what a worker does: one step, with what goes wrong

    def work(self, fault: str) -> bool:
        """One step of the worker; whether there may be more to do."""
        record = self._read()
        step = decide(self.bill, record, ACCESS, SETTINGS)
        if isinstance(step, Done):
            self.shown = step.status
            self._assert_somebody_has_changed_it()
            if step.reopen:
                self.bill, self.record = replace(self.bill, approved=False), record.withdrawn()
            return False
        if isinstance(step, Wait):
            self.record = record.retry_lookup() if step.retry_lookup else record
            self.xero.advance(step.seconds)
            return True
        self._assert_nothing_is_overwritten_unasked(step)
        self.record = known_before(record, step, at=self._time())
        if fault == "crash before":
            return True
        self.xero.advance(self.xero.up_to(2 * CALL_SECONDS))  # until the call is sent
        try:
            result = self._call(step, fault)
        except XeroError as error:
            self.record = known_after_failure(self._read(), step, error, planned_on=record)
            if isinstance(error, RateLimited):
                self.xero.advance(error.seconds)
        else:
            if fault != "crash after":
                self.record = known_after(self._read(), step, result, planned_on=record, settings=SETTINGS)
        return True

    def _assert_somebody_has_changed_it(self) -> None:
        if self.shown == "differs":
            assert self.record.difference is not None
            [entry] = [entry for entry in self.xero.entries if entry.id == self.record.entry_ids[0]]
            assert self.restored or self.record.difference.content in entry.by_hand, (self.record, entry)

    def _assert_nothing_is_overwritten_unasked(self, call: Call) -> None:
        match call.kind:
            case CallKind.update_entry:
                assert self.record.overwrite, self.record
            case CallKind.create_entry:
                assert not self.is_deletion_known, self.record
            case CallKind.delete_entry:
                assert self.record.withdrawing, self.record

    def _call(self, call: Call, fault: str) -> object:
        if fault == "throttled":
            raise RateLimited("no", seconds=self.dice.choice([1, 60, 130, 400, 3600]))
        if fault == "not sent":
            raise NotSent("no")
        if fault == "late" and call.kind is not CallKind.find_entry:
            at = self.xero.now + self.xero.up_to(LATE_SECONDS)
            self.xero.late.append((at, lambda: self._execute_late(call)))
        if fault in ("late", "lost before"):
            self.xero.advance(self.xero.up_to(CALL_SECONDS))
            raise OutcomeUnknown("no answer")
        result = self._execute(call)
        if fault == "lost after":
            self.xero.advance(self.xero.up_to(CALL_SECONDS))
            raise OutcomeUnknown("no answer")
        return result

    def _execute(self, call: Call) -> object:
        match call.kind:
            case CallKind.find_entry:
                return self.xero.find()
            case CallKind.create_entry if call.content is not None:
                return self.xero.create(f"{self.bill.id}:{call.revision}", call.content)
            case CallKind.update_entry:
                self.xero.change(call.entry_id, call.content)
                return None
            case CallKind.delete_entry:
                with suppress(DoesNotExist):
                    self.xero.change(call.entry_id, None)
                return None
            case CallKind.fetch_entry:
                return self.xero.get(call.entry_id)
        raise AssertionError(call.kind)

    def _execute_late(self, call: Call) -> None:
        with suppress(XeroError):  # nobody reads this answer
            self._execute(call)

    def settle(self) -> None:
        """A worker without faults, until nothing is left to do, or for a few steps."""
        for _ in range(4):
            if not self.work("none"):
                break

    def end(self) -> None:
        """Lets everything become quiet, lets an admin choose if the bill differs, and compares Xero with the bill."""
        for entry in self.xero.entries:
            entry.locked = False
        self._become_quiet()
        if self.restored and not self.bill.approved:  # the checks report an entry that was made after the backup
            self.approve()
            self._become_quiet()
        if self.shown == "differs":
            assert self.record.difference is not None
            assert self._in_xero() == ([self.record.difference.content] if self.record.difference.content else [])
            self.dice.choice([self.send_again, self.accept])()
            self._become_quiet()
        found = self._in_xero()
        if self.record.accepted:
            assert self.record.difference is not None and self.shown == "synced"
            assert found == ([self.record.difference.content] if self.record.difference.content else [])
            return
        expected = [(self.bill.minutes, self.bill.description, START, "user")] if self.bill.approved else []
        values = [(each.minutes, each.description, each.date_utc, each.user_id) for each in found]
        assert values == expected, (self.bill, self.record, self.xero.entries)
        assert self.shown == ("synced" if self.bill.approved else "none")

    def _become_quiet(self) -> None:
        for _ in range(2):
            self.check()
            steps = 0
            while self.work("none"):
                steps += 1
                assert steps < 20, (self.bill, self.record)
            self.xero.advance(1000)

    def _in_xero(self) -> list[EntryContent]:
        return [content for entry in self.xero.existing() if (content := entry.content(self.xero.now)) is not None]


FAULTS = ("none", "none", "lost before", "lost after", "late", "late", "throttled", "not sent", "crash before", "crash after")
STEPS = st.one_of(
    st.tuples(st.just("work"), st.sampled_from(FAULTS)),
    st.tuples(st.just("work"), st.sampled_from(FAULTS)),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 10.0, 55.0, 110.0, 190.0, 370.0])),
    st.tuples(st.sampled_from(["edit", "map", "approve", "reopen", "invoice", "check"]), st.none()),
    st.tuples(st.sampled_from(["approve", "reopen"]), st.none()),
    st.tuples(st.sampled_from(["back_up", "restore"]), st.none()),
    st.tuples(st.sampled_from(["edit_by_hand", "delete_by_hand", "check", "send_again", "accept"]), st.none()),
)


@settings(max_examples=MODEL_HISTORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.lists(STEPS, max_size=40))
def test_there_is_never_a_second_entry_and_in_the_end_the_right_one(seed: int, steps: list[tuple[str, object]]) -> None:
    history = History(seed)
    for name, argument in steps:
        if name == "work":
            history.work(str(argument))
        elif name == "wait":
            assert isinstance(argument, float)
            history.xero.advance(argument)
        else:
            getattr(history, name)()
    history.end()
