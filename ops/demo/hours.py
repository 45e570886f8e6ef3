"""A year of the demo's hours: entries and bills in the binary format of COPY.

This creates a million rows, so a row is one call of `struct`: each column begins with its length in bytes, and times are
microseconds since 2000, as in Postgres.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from struct import Struct
from zoneinfo import ZoneInfo

from ops.demo import words as words
from ops.demo.firm import ENTRIES_A_DAY, Area, Person

SECOND = 1_000_000  # microseconds
HOUR = 3_600  # seconds
DECIDED_DAYS, REVIEWED_DAYS = 42, 14  # of bills that are older, nearly all are approved or rejected; some of them
BATCH = 10_000  # entries in one COPY
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_HOLIDAYS = {(12, 24), (12, 25), (12, 26), (1, 1), (5, 1)}

ENTRIES = (
    "time_entries (id, user_id, task_id, customer_id, pillar_id, bill_id, start_time, end_time, date, created_at, updated_at,"
    " changed_xid, notes, flags)"
)
_entry = Struct(">h" + "i16s" * 6 + "iq" * 2 + "ii" + "iq" * 3).pack
BILLS = (
    "time_bills (id, user_id, customer_id, pillar_id, date, seconds, rounding_increment, created_at, updated_at, version,"
    " changed_xid, rounding_mode, memo, status, rejection_note, approved_by, approved_at, approved_seconds, xero_status,"
    " locked_xid)"
)
_bill = Struct(">h" + "i16s" * 4 + "ii" + "iq" + "ih" + "iq" * 2 + "ii" + "iq").pack
_approval = Struct(">" + "i16s" + "iq" * 2).pack
_xid = Struct(">iq").pack


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(4) + text.encode()


_NULL = b"\xff\xff\xff\xff"
_EMPTY = _text("")
_NO_FLAGS = bytes.fromhex("0000000c 00000000 00000000 00000019")  # an array without dimensions; 0x19 is the type text
_LONG_FLAG = bytes.fromhex("0000001c 00000001 00000000 00000019 00000001 00000001") + _text("long")
_NOTES = [_text(note) for note in words.NOTES] + [_text("")] * (len(words.NOTES) // 2)
_MEMOS = [_text(memo) for memo in words.MEMOS] + [_text("")] * (len(words.MEMOS) * 12)
_REJECTIONS = [_text(why) for why in words.REJECTIONS]
_LEFT_RUNNING = _text(words.LEFT_RUNNING)
_MODES = {mode: _text(mode) for mode in ("nearest", "up")}
_PENDING, _APPROVED, _REJECTED = _text("pending"), _text("approved"), _text("rejected")
_NO_XERO = _text("none")
# what approving a bill with minutes sets
_APPROVED_IN_XERO = {True: _text("queued"), False: _text("not_connected")}


@dataclass(frozen=True)
class Day:
    """A day in the firm's time zone."""

    date: date
    number: int  # of days since 2000
    midnight: int  # microseconds since 2000
    review: int  # the next Monday at nine, when an admin goes through the week
    age: int  # in days


def calendar(zone: str, today: date, days: int) -> list[Day]:
    """The last `days` days before today. Each day has one offset from UTC: clocks change at night, not in working hours."""
    tz = ZoneInfo(zone)

    def midnight(day: date) -> int:
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=tz)
        return (int((noon - _EPOCH).total_seconds()) - 12 * HOUR) * SECOND

    def on(age: int) -> Day:
        day = today - timedelta(days=age)
        monday = day + timedelta(days=7 - day.weekday())
        return Day(day, (day - _EPOCH.date()).days, midnight(day), midnight(monday) + 9 * HOUR * SECOND, age)

    return [on(age) for age in range(days, 0, -1)]


@dataclass
class Hours:
    """Rows in COPY's binary format, for ENTRIES and for BILLS."""

    entries: list[bytes] = field(default_factory=list)
    bills: list[bytes] = field(default_factory=list)


def binary(rows: Iterable[bytes]) -> bytes:
    """The input of a binary COPY: a header, the rows, and the end marker."""
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(rows) + b"\xff\xff"


@dataclass(frozen=True)
class _Shift:
    """One consultant's day of work."""

    user: bytes  # the consultant's id
    areas: Sequence[Area]
    entries: int
    left_running: bool


class HoursPlanner:
    """Plans the days of all consultants, then creates their rows. `xid` is the transaction that writes them; entries longer
    than `long_seconds` get the flag `long`; `connected`: to Xero, so that approved bills are queued for it."""

    def __init__(
        self,
        rng: random.Random,
        calendar: list[Day],
        admins: Sequence[Person],
        *,
        xid: int,
        long_seconds: float,
        connected: bool = False,
    ) -> None:
        self.rng, self.calendar, self.xid, self.long_seconds = rng, calendar, xid, long_seconds
        self.xero_status = _APPROVED_IN_XERO[connected]
        self.admins = [admin.id.bytes for admin in admins]
        self.ids = _ids(rng)
        self.shifts: dict[int, list[_Shift]] = {day.number: [] for day in calendar}

    def plan(self, consultant: Person, areas: Sequence[Area], entries: int) -> None:
        """Plans exactly `entries` entries of one consultant."""
        days = self._days_worked(entries)
        counts = self._counts(entries, len(days))
        weekends = [n for n, day in enumerate(days[:-1]) if day.age - days[n + 1].age > 1]
        # the last timer before a weekend may be left running: no entry of the next day can overlap it
        forgotten = set(self.rng.sample(weekends, min(len(weekends), self.rng.randint(0, 2))))
        for n, (day, count) in enumerate(zip(days, counts, strict=True)):
            if count:
                self.shifts[day.number].append(_Shift(consultant.id.bytes, areas, count, n in forgotten))

    def hours(self) -> Iterator[Hours]:
        """The planned rows, day by day, in batches. No two entries of a consultant overlap."""
        hours = Hours()
        for day in self.calendar:
            for shift in self.shifts[day.number]:
                self._add_day(hours, shift, day)
                if len(hours.entries) >= BATCH:
                    yield hours
                    hours = Hours()
        yield hours

    def _days_worked(self, entries: int) -> list[Day]:
        """Weekdays without holidays, a few days off and two weeks of vacation, and some Saturdays: the last of them, as many as
        `entries` needs."""
        rng, days = self.rng, self.calendar
        away = {n for start in rng.sample(range(len(days)), len(days) // 150) for n in range(start, start + 7)}
        worked = [
            day
            for n, day in enumerate(days)
            if n not in away
            and (day.date.month, day.date.day) not in _HOLIDAYS
            and rng.random() < (0.99 if day.date.weekday() < 5 else 0.05 if day.date.weekday() == 5 else 0)
        ]
        return worked[-max(1, -(-entries // ENTRIES_A_DAY)) :]

    def _counts(self, entries: int, days: int) -> list[int]:
        """The number of entries of each day, which varies a little."""
        each, more = divmod(entries, days)
        counts = [each + 1] * more + [each] * (days - more)
        self.rng.shuffle(counts)
        for _ in range(days):
            fewer, more = self.rng.randrange(days), self.rng.randrange(days)
            if counts[fewer] > 4 and counts[more] < each + 3:
                counts[fewer] -= 1
                counts[more] += 1
        return counts

    def _periods(self, count: int, *, left_running: bool) -> list[tuple[int, int]]:
        """Start and length in seconds of each entry of a day, which begins at about 8:00 and ends before 21:00."""
        random = self.rng.random
        weights = [0.35 + 1.3 * random() for _ in range(count)]
        scale = (6.6 + 1.4 * random()) * HOUR / sum(weights)
        at, periods = int((7.6 + 1.8 * random()) * HOUR), []
        for n, weight in enumerate(weights):
            periods.append((at, seconds := int(weight * scale)))
            at += seconds + int(random() * 4_000 / count)
            if n == (count - 1) // 2:
                at += int((0.5 + 0.5 * random()) * HOUR)  # lunch
        if left_running:
            periods[-1] = (periods[-1][0], int((12.2 + 2.8 * random()) * HOUR))
        return periods

    def _add_day(self, hours: Hours, shift: _Shift, day: Day) -> None:
        """Creates the entries of one day, in two or three areas with a bill each."""
        random, areas = self.rng.random, shift.areas
        periods = self._periods(shift.entries, left_running=shift.left_running)
        chosen = self.rng.sample(areas, min(len(areas), max(1, round(len(periods) / 2.5))))
        area_numbers = [n if n < len(chosen) else int(random() * len(chosen)) for n in range(len(periods))]
        self.rng.shuffle(area_numbers)
        for n, area in enumerate(chosen):
            self._add_bill(
                hours,
                shift.user,
                area,
                day,
                [period for number, period in zip(area_numbers, periods, strict=True) if number == n],
            )

    def _add_bill(self, hours: Hours, user: bytes, area: Area, day: Day, periods: list[tuple[int, int]]) -> None:
        """Creates one bill and its entries."""
        random, ids, xid = self.rng.random, self.ids, self.xid
        bill_id, customer, pillar = next(ids), area.customer.id.bytes, area.pillar_id.bytes
        tasks = [task_id.bytes for task_id in area.current(day.date)]
        total = longest = saved = 0
        first_saved = 0
        for start, seconds in periods:
            started = day.midnight + start * SECOND
            ended = started + seconds * SECOND
            saved = ended + int((0.1 + 0.8 * random()) * SECOND)  # when the actor would have written it
            first_saved = first_saved or saved
            total += seconds
            longest = max(longest, seconds)
            hours.entries.append(
                _entry(
                    14, 16, next(ids), 16, user, 16, tasks[int(random() * len(tasks))], 16, customer, 16, pillar, 16, bill_id,
                    8, started, 8, ended, 4, day.number, 8, saved, 8, saved, 8, xid,
                )
                + _NOTES[int(random() * len(_NOTES))]
                + (_LONG_FLAG if seconds > self.long_seconds else _NO_FLAGS)
            )  # fmt: skip
        decision, decided = self._decision(day, total, area.customer.increment, left_running=longest > 12 * HOUR)
        memo = _MEMOS[int(random() * len(_MEMOS))]
        # each new sum, the memo and the decision are one change each
        version = 1 + len(periods) + (memo != _EMPTY) + (decided > 0)
        hours.bills.append(
            _bill(
                20, 16, bill_id, 16, user, 16, customer, 16, pillar, 4, day.number, 8, total, 2, area.customer.increment,
                8, first_saved, 8, decided or saved, 4, version, 8, xid,
            )
            + _MODES[area.customer.mode]
            + memo
            + decision
        )  # fmt: skip

    def _decision(self, day: Day, seconds: int, increment: int, *, left_running: bool) -> tuple[bytes, int]:
        """The columns from `status` on, and when an admin decided (0: not yet)."""
        random = self.rng.random
        chance = random()
        decided = day.review + int(3 * HOUR * SECOND * random())
        if day.age > REVIEWED_DAYS and (left_running or chance < 0.02):
            why = _LEFT_RUNNING if left_running else _REJECTIONS[int(random() * len(_REJECTIONS))]
            return _REJECTED + why + _NULL * 3 + _NO_XERO + _NULL, decided
        billable = seconds >= increment * 60  # not rounded to zero, in either mode
        if billable and chance < (0.97 if day.age > DECIDED_DAYS else 0.4 if day.age > REVIEWED_DAYS else 0):
            approval = _approval(16, self.admins[int(random() * len(self.admins))], 8, decided, 8, seconds)
            return _APPROVED + _NULL + approval + self.xero_status + _xid(8, self.xid), decided
        return _PENDING + _NULL * 4 + _NO_XERO + _NULL, 0


def _ids(rng: random.Random) -> Iterator[bytes]:
    """UUIDs of version 4, created a thousand at a time: their version bits are set in all of them at once."""
    count = 1_000
    keep = int.from_bytes(bytes.fromhex("ffffffff ffff 0fff 3fff ffffffffffff") * count)
    mark = int.from_bytes(bytes.fromhex("00000000 0000 4000 8000 000000000000") * count)
    while True:
        made = (rng.getrandbits(128 * count) & keep | mark).to_bytes(16 * count)
        yield from (made[n : n + 16] for n in range(0, len(made), 16))
