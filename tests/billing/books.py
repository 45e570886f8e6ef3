"""Time and money as a plain model: what becomes of hours in a firm without processes, queues, transactions and networks.

What people do are the methods of `Books` (and of Bills); each changes the books, or raises Refused with the status that the API
answers. What only the database knows, ids and the time, is told. What an actor does later is a promise; `work` keeps all of
them, and in any order they come to the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.billing.bills import Bills
from tests.billing.shapes import (
    LONG,
    OLDEST_START,
    Entry,
    Place,
    Refused,
    Seen,
    Stop,
    Timer,
    Worker,
    day_of,
    moment,
    now,
)


@dataclass
class Books(Bills):
    """All there is, and what people do to it."""

    stops: dict[tuple[str, str], Stop] = field(default_factory=dict)  # by user and task

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

    # tasks

    def move_task(self, task: str, place: Place) -> None:
        """Its entries follow, but for those on approved bills."""
        self._check_task(task, 404)
        if self.tasks[task] != place:
            self.tasks[task] = place
            self._promise(self._move_entries, task)

    def _check_task(self, task: str, status: int) -> None:
        if task not in self.tasks:
            raise Refused(status)
