"""A week of time bills as a grid: people and days, with sums and what they planned to work. Pure calculations."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from schemas.hours.time_bills import Status
from schemas.hours.weeks.bills import GridFilter, PersonBills, WeekBill
from schemas.identity.work_calendar import WorkCalendar


@dataclass(frozen=True)
class Bills:
    """Some bills with their sums."""

    bills: list[WeekBill]

    @property
    def minutes(self) -> int:
        """What is billed."""
        return sum(bill.minutes for bill in self.bills)

    @property
    def seconds(self) -> int:
        """What is recorded."""
        return sum(bill.seconds for bill in self.bills)

    @property
    def flags(self) -> list[str]:
        """The flags of all of them, each once."""
        return list(dict.fromkeys(flag for bill in self.bills for flag in bill.flags))

    def count(self, status: Status) -> int:
        """How many have that status."""
        return sum(bill.status == status for bill in self.bills)


@dataclass(frozen=True)
class Cell(Bills):
    """A person's day. `planned`: the seconds that they planned to work, 0 for a day that is not over. `has_come`: it is not
    after today, so its bills can be approved."""

    day: date
    planned: int
    is_working_day: bool
    has_come: bool
    is_over: bool

    @property
    def to_approve(self) -> list[WeekBill]:
        """The pending bills, if they can be approved."""
        return [bill for bill in self.bills if bill.status == "pending" and self.has_come]


@dataclass(frozen=True)
class PersonWeek(Bills):
    """A person's week."""

    id: UUID
    name: str
    cells: list[Cell]

    @property
    def planned(self) -> int:
        """The seconds that the person planned to work, on the days before today."""
        return sum(cell.planned for cell in self.cells)

    @property
    def missing(self) -> int:
        """How many of these seconds are not recorded."""
        return max(0, self.planned - sum(cell.seconds for cell in self.cells if cell.is_over))

    def of_day(self, day: date) -> Cell | None:
        """The cell of that day, if it is in the week."""
        return next((cell for cell in self.cells if cell.day == day), None)


@dataclass(frozen=True)
class Grid(Bills):
    """The people that are shown, in order, with all their bills that are."""

    first: date
    people: list[PersonWeek]

    @property
    def days(self) -> list[date]:
        """The seven days."""
        return _days(self.first)

    @property
    def to_approve(self) -> list[WeekBill]:
        """All pending bills that are shown and can be approved."""
        return [bill for person in self.people for cell in person.cells for bill in cell.to_approve]

    def of_day(self, day: date) -> Bills:
        """Everybody's bills of that day."""
        return Bills([bill for bill in self.bills if bill.date == day])

    def person(self, user_id: UUID) -> PersonWeek | None:
        """That person's week, if it is shown."""
        return next((person for person in self.people if person.id == user_id), None)


def make_grid(
    people: Collection[PersonBills],
    calendars: Mapping[UUID, WorkCalendar],
    filters: GridFilter,
    *,
    first: date,
    today: date,
) -> Grid:
    """The grid of the week from the first day on. If the filters hide bills, only people with bills are shown, and nothing is
    said about what they planned."""
    shown = []
    for person in people:
        bills = [bill for bill in person.bills if filters.shows(bill)]
        if bills or not filters.is_of_bills:
            calendar = None if filters.is_of_bills else calendars.get(person.id)
            cells = [_cell(bills, day, calendar, today) for day in _days(first)]
            shown.append(PersonWeek(bills, person.id, person.name, cells))
    return Grid([bill for person in shown for bill in person.bills], first, shown)


def _cell(bills: list[WeekBill], day: date, calendar: WorkCalendar | None, today: date) -> Cell:
    works, is_over = calendar is None or calendar.is_working_day(day), day < today
    planned = calendar.planned_seconds(day) if calendar is not None and is_over else 0
    return Cell([bill for bill in bills if bill.date == day], day, planned, works, day <= today, is_over)


def _days(first: date) -> list[date]:
    return [first + timedelta(days=n) for n in range(7)]
