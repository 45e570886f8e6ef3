"""A plain model of time and money: the rules for hours, without processes, queues, transactions and networks.

Each action of a user is a method of `HoursModel` (or of its base, `BillModel`); it changes the model, or raises Refused with
the status of the API's answer. Ids and times, which only the database knows, are taken from the API's response. Work that a
message does later is in `pending`; `process_pending` does all of it. Its order matters: a bill whose last entry was deleted is
removed if the next entry is not on it yet, and that entry's new bill has another id, another memo and the latest rounding rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.hours.model.bills import BillModel
from tests.hours.model.shapes import (
    AHEAD,
    OLDEST_START,
    Area,
    Entry,
    Refused,
    Seen,
    Stop,
    Timer,
    Times,
    Worker,
    day_of,
    moment,
    now,
)


@dataclass
class HoursModel(BillModel):
    """The whole model: bills, and the actions on timers, entries and tasks."""

    stops: dict[tuple[str, str], Stop] = field(default_factory=dict)  # by user and task

    # timers

    def start(self, by: Worker, task: str, notes: str, response: Mapping[str, Any]) -> bool:
        """Whether it was started now; starting the running task again changes nothing."""
        self._check_task(task, 404)
        running = self.timers.get(by.id)
        if running is not None and running.task == task:
            return False
        self._insert_timer(by.id, Timer(response["id"], task, moment(response["startTime"]), notes), response["stopped"])
        return True

    def stop(self, by: Worker, task: str, response: Mapping[str, Any]) -> Stop:
        """A repeated stop gets the same answer, until the task is started again."""
        running = self.timers.get(by.id)
        if running is not None and running.task == task:
            return self._stop_running(by.id, moment(response["endTime"]))
        if (stop := self.stops.get((by.id, task))) is not None:
            return stop
        self._check_task(task, 404)
        raise Refused(409)

    def start_or_change_timer(
        self, by: Worker, user: str, task: str, start: datetime | None, notes: str | None, response: Mapping[str, Any]
    ) -> bool:
        """Whether it was started now. Another task's timer ends where this one starts, so that they do not overlap."""
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
        self._insert_timer(
            user,
            Timer(response["id"], task, start or moment(response["startTime"]), notes or ""),
            response["stopped"],
            start=start,
        )
        return True

    def discard_timer(self, by: Worker, user: str) -> None:
        if by.id != user and not by.is_admin:
            raise Refused(403)
        if self.timers.pop(user, None) is None:
            raise Refused(404)

    def _insert_timer(self, user: str, timer: Timer, stopped: Mapping[str, Any] | None, start: datetime | None = None) -> None:
        if (running := self.timers.get(user)) is not None:
            assert stopped is not None, "the response contains the stop of the timer that was running"
            before = start is not None and start > running.start
            self._stop_running(user, start if before and start else moment(stopped["endTime"]))
        self.timers[user] = timer
        self.stops.pop((user, timer.task), None)

    def _stop_running(self, user: str, end: datetime) -> Stop:
        timer = self.timers.pop(user)
        stop = Stop(timer.id, user, timer.task, timer.start, end, timer.notes)
        self.stops[user, timer.task] = stop
        self._enqueue("stop_timer", self._create_entry, stop)
        return stop

    def stop_offline(self, by: Worker, stop: Stop) -> None:
        """A client that was offline sends a whole stop: late time, which is never refused."""
        self._check_task(stop.task, 422)
        self._enqueue("stop_timer", self._create_entry, stop)

    def finish_stop(self, entry: str) -> None:
        """Creates the entry of a pending stop at once: a client that changes an entry does not wait for its message."""
        for message in self.pending:
            if isinstance(message.subject, Stop) and message.subject.entry == entry:
                self.pending.remove(message)
                message.handler(message.subject)
                return

    def _create_entry(self, stop: Stop) -> None:
        area = self.tasks[stop.task]
        entry = Entry(stop.entry, stop.task, stop.user, area, stop.start, stop.end, stop.notes)
        entry.bill = self._ensure_open_bill(entry.key)
        self._reopen_rejected(entry.bill)
        self.entries[entry.id] = entry
        self._recalculate(entry.bill)

    # entries

    def log(self, by: Worker, entry: Entry, *, allow_overlap: bool) -> None:
        if by.id != entry.user and not by.is_admin:
            raise Refused(403)
        if entry.end < entry.start or entry.end > now() + AHEAD:
            raise Refused(422)
        self._check_task(entry.task, 422)
        entry.area = self.tasks[entry.task]
        self._check_overlap(entry, entry.start, entry.end, allow_overlap)
        entry.bill = self._ensure_open_bill(entry.key)
        self.entries[entry.id] = entry
        self._changed(entry.bill)

    def change_times(self, by: Worker, entry_id: str, times: Times, *, allow_overlap: bool, seen: Seen) -> None:
        """A start or an end alone keeps the other, a duration alone keeps the start; all three must agree."""
        entry = self._own_entry(by, entry_id, seen)
        start, end, seconds = times
        if seconds is None:
            start, end = start or entry.start, end or entry.end
        elif start is None and end is not None:
            start = end - timedelta(seconds=seconds)
        else:
            start = start or entry.start
            end = end or start + timedelta(seconds=seconds)
        assert end is not None
        if end < start or end > now() + AHEAD or (seconds is not None and end - start != timedelta(seconds=seconds)):
            raise Refused(422)
        if entry.locked:
            raise Refused(409)
        self._check_overlap(entry, start, end, allow_overlap)
        left, moves = entry.bill, day_of(start) != day_of(entry.start)
        entry.start, entry.end = start, end
        if moves or left is None:
            entry.bill = self._ensure_open_bill(entry.key)
        self._leave(left, entry.bill)
        for bill in filter(None, {entry.bill, left}):
            self._changed(bill)

    def give_to_task(self, by: Worker, entry_id: str, task: str, seen: Seen) -> None:
        """The entry moves to a bill of the other task's customer and pillar."""
        entry = self._own_open_entry(by, entry_id, seen)
        left, key = entry.bill, entry.key
        if entry.task != task:
            entry.task, entry.area = task, self.tasks[task]
        if entry.key != key or left is None:
            entry.bill = self._ensure_open_bill(entry.key)
        self._leave(left, entry.bill)
        for bill in filter(None, {entry.bill, left}):
            self._changed(bill)

    def write_notes(self, by: Worker, entry_id: str, notes: str | None, append: str | None, seen: Seen) -> None:
        entry = self._own_open_entry(by, entry_id, seen)
        entry.notes = notes if notes is not None else "\n".join(line for line in (entry.notes, append) if line)
        self._reopen_rejected(entry.bill)

    def delete_entry(self, by: Worker, entry_id: str, seen: Seen) -> None:
        entry = self._own_open_entry(by, entry_id, seen)
        entry.deleted = True
        self._changed(entry.bill)

    def import_entry(self, entry: Entry) -> None:
        """An entry from an earlier system, without a bill."""
        entry.area = self.tasks[entry.task]
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

    # tasks

    def move_task(self, task: str, area: Area) -> None:
        """Its entries follow, except those on approved bills."""
        self._check_task(task, 404)
        if self.tasks[task] != area:
            self.tasks[task] = area
            self._enqueue("move_entries", self._move_entries, task)

    def _check_task(self, task: str, status: int) -> None:
        if task not in self.tasks:
            raise Refused(status)
