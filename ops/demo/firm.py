"""The demo's firm without its hours: users, customers, pillars and tasks."""

import random
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import cycle, islice
from uuid import UUID

from ops.demo import words as words
from schemas.customers.customers import DEFAULT_PILLAR, NewCustomer
from schemas.customers.tasks import NewTask, Priority, Source

ENTRIES_A_DAY = 7
ENTRIES_A_YEAR = 1_700
ROUNDINGS = [(1, "nearest"), (15, "up"), (6, "up"), (30, "nearest"), (5, "nearest"), (10, "up"), (15, "nearest"), (30, "up")]
# how often the status of a task has changed until then
STATUS_CHANGES = {"open": 0, "in_progress": 1, "done": 2, "archived": 3}
PRIORITIES: list[Priority] = ["low", "normal", "normal", "normal", "normal", "high", "high", "urgent"]
SOURCES: list[Source] = ["web", "web", "web", "desktop", "slack", "slack"]

# The tables in the order of their foreign keys, each with the columns of its rows.
USERS = "users (id, email, name, role, customer_id, created_at, joined_at, claims_at)"
CUSTOMERS = (
    "customers (id, name, email, phone, notes, active, rounding_increment, rounding_mode, xero_project_id, version,"
    " created_from, created_by, created_at)"
)
PILLARS = "pillars (id, customer_id, name, is_default, xero_task_id, version, created_at)"
TASKS = (
    "tasks (id, title, description, status, customer_id, pillar_id, assignee_id, priority, due_date, source, version,"
    " created_from, created_by, created_at)"
)


@dataclass(frozen=True)
class Size:
    """The size of a firm for a number of entries. A consultant's month looks the same in a small firm and in a large one. With
    a number of consultants, its calendar is shorter instead, and it has as many customers as after a year."""

    entries: int
    consultants: int
    admins: int
    customers: int
    days: int  # of the calendar, back from yesterday: a year, or less for few entries

    @classmethod
    def of(cls, entries: int, consultants: int | None = None) -> "Size":
        of_a_year = consultants * ENTRIES_A_YEAR if consultants else entries
        consultants = consultants or max(3, -(-entries // ENTRIES_A_YEAR))
        each = -(-entries // consultants)
        return cls(
            entries=entries,
            consultants=consultants,
            admins=2 + consultants // 50,
            customers=max(4, round(12 * (of_a_year / 10_000) ** 0.61)),
            days=min(365, 14 + each * 8 // (5 * ENTRIES_A_DAY)),
        )


@dataclass(frozen=True)
class Project:
    """A project in Xero, and its tasks that take time."""

    id: str
    task_ids: list[str]


@dataclass(frozen=True, eq=False)
class Person:
    """An admin or consultant of the firm."""

    id: UUID
    email: str


@dataclass(frozen=True)
class Area:
    """A pillar of a customer, with its tasks. Each bill is for one of them."""

    pillar_id: UUID
    pillar: str
    customer: "Customer"
    tasks: list[tuple[date, UUID]] = field(default_factory=list)  # oldest first, each with the day of its creation

    def current(self, day: date) -> list[UUID]:
        """The two newest tasks of that day, on which consultants work."""
        known = max(2, bisect_left(self.tasks, day, key=lambda task: task[0]))
        return [task_id for _, task_id in self.tasks[known - 2 : known]]


@dataclass(frozen=True)
class Customer:
    """A customer and the consultants who work for it. An inactive one has no entries within the demo's year."""

    id: UUID
    name: str
    domain: str
    active: bool
    increment: int
    mode: str
    created: datetime
    areas: list[Area] = field(default_factory=list)
    team: list[Person] = field(default_factory=list)


@dataclass(frozen=True)
class Firm:
    """The whole firm, and its rows for the database."""

    admins: list[Person]
    consultants: list[Person]
    customers: list[Customer]
    rows: dict[str, list[tuple[object, ...]]]

    def areas_of(self, consultant: Person) -> list[Area]:
        """The areas in which the consultant works."""
        return [area for customer in self.customers if consultant in customer.team for area in customer.areas]


def new_id(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


class FirmBuilder:
    """Creates a firm. `first` and `last` are the first and the last day of its hours; `taken` are addresses already in use;
    `projects` are those in Xero that its customers get, one after another."""

    def __init__(
        self,
        rng: random.Random,
        size: Size,
        first: date,
        last: date,
        taken: Container[str],
        projects: Sequence[Project] = (),
    ) -> None:
        self.rng, self.size, self.first, self.last, self.projects = rng, size, first, last, projects
        self.project_of: dict[UUID, Project | None] = {}
        self.names = self._names(taken)
        self.rows: dict[str, list[tuple[object, ...]]] = {USERS: [], CUSTOMERS: [], PILLARS: [], TASKS: []}

    def firm(self) -> Firm:
        size = self.size
        admins = [self._person("internal_admin") for _ in range(size.admins)]
        consultants = [self._person("internal_user") for _ in range(size.consultants)]
        customers = [self._customer(number, name, admins) for number, name in enumerate(self._company_names(size.customers))]
        active = [customer for customer in customers if customer.active]
        self._assign_consultants(active, consultants)
        for customer in active[::3]:
            self._person("customer_admin", customer)
            self._person("customer_user", customer)
        for customer in customers:
            self._add_pillars(customer)
            for area in customer.areas:
                self._add_tasks(area, admins)
        return Firm(admins, consultants, customers, self.rows)

    def _names(self, taken: Container[str]) -> Iterator[tuple[str, str]]:
        """Names, each with the local part of its address, without repetition."""
        names = [f"{first} {last}" for first in words.FIRST_NAMES for last in words.LAST_NAMES]
        for name in self.rng.sample(names, len(names)):
            address = _address(name, between=".")
            if f"{address}@example.com" not in taken:
                yield name, address

    def _company_names(self, count: int) -> list[str]:
        return self.rng.sample([f"{firm} {trade}" for firm in words.FIRMS for trade in words.TRADES], count)

    def _person(self, role: str, customer: Customer | None = None) -> Person:
        name, address = next(self.names)
        domain = f"{customer.domain}.example.com" if customer else "example.com"
        person = Person(new_id(self.rng), f"{address}@{domain}")
        if customer is not None:
            since = self._moment(customer.created.date(), 1, 30)
        else:
            since = self._moment(self.first, *((-2_000, -1_510) if role == "internal_admin" else (-900, -30)))
        self.rows[USERS].append((person.id, person.email, name, role, customer and customer.id, since, since, since))
        return person

    def _customer(self, number: int, name: str, admins: list[Person]) -> Customer:
        rng = self.rng
        increment, mode = ROUNDINGS[number % len(ROUNDINGS)]
        since = self._moment(self.first, -1_500, -60)
        customer = Customer(new_id(rng), name, _address(name, between="-"), number % 12 != 3, increment, mode, created=since)
        new = NewCustomer.model_validate(
            {
                "id": customer.id,
                "name": name,
                "email": f"{rng.choice(['office', 'accounts', 'it', 'hello'])}@{customer.domain}.example.com",
                "phone": f"+44 20 7946 0{rng.randrange(1_000):03}",
                "notes": rng.choice([*words.FIRM_NOTES, "", "", ""]),
                "rounding": {"increment": increment, "mode": mode},
            }
        )
        by = rng.choice(admins).id
        # an inactive customer was active when its tasks came; a project in Xero is chosen afterwards, too
        project = self.projects[number % len(self.projects)] if self.projects else None
        version = 1 + (not customer.active) + (project is not None)
        self.rows[CUSTOMERS].append(
            (
                new.id, name, new.email, new.phone, new.notes, customer.active, increment, mode, project and project.id,
                version, new.fingerprint(), by, since,
            )
        )  # fmt: skip
        self.project_of[customer.id] = project
        return customer

    def _assign_consultants(self, customers: list[Customer], consultants: list[Person]) -> None:
        """Gives each consultant two to four customers. Every customer gets a consultant if there are enough of them."""
        deck = cycle(self.rng.sample(customers, len(customers)))
        for consultant in consultants:
            for customer in islice(deck, min(len(customers), self.rng.randint(2, 4))):
                customer.team.append(consultant)

    def _add_pillars(self, customer: Customer) -> None:
        further = self.rng.sample([name for name in words.PILLARS if name != DEFAULT_PILLAR], self.rng.randint(2, 4))
        project = self.project_of[customer.id]
        for number, name in enumerate([DEFAULT_PILLAR, *further]):
            area = Area(new_id(self.rng), name, customer)
            customer.areas.append(area)
            since = customer.created if name == DEFAULT_PILLAR else self._moment(customer.created.date(), 1, 30)
            xero_task = project.task_ids[number % len(project.task_ids)] if project else None
            version = 1 + (xero_task is not None)
            self.rows[PILLARS].append((area.pillar_id, customer.id, name, number == 0, xero_task, version, since))

    def _add_tasks(self, area: Area, admins: list[Person]) -> None:
        """Creates tasks over the whole time: two from before the first day, two in progress, and a new one without assignee."""
        rng, days = self.rng, (self.last - self.first).days
        titles = rng.sample(words.PILLARS[area.pillar], rng.randint(6, 10))
        if not area.customer.active:
            came = [-rng.randint(2, 29) for _ in titles]
        else:
            came = sorted(-rng.randint(2, 29) if n < 2 else rng.randint(0, max(0, days - 4)) for n in range(len(titles) - 1))
            came.append(max(0, days - rng.randint(2, 9)))
        for number, (title, day) in enumerate(zip(titles, came, strict=True)):
            left = len(titles) - number  # 1: the new one; 2 and 3: in progress
            task_id = self._task(area, title, self.first + timedelta(days=day), left, admins)
            if left > 1:
                area.tasks.append((self.first + timedelta(days=day), task_id))

    def _task(self, area: Area, title: str, came: date, left: int, admins: list[Person]) -> UUID:
        rng, team = self.rng, area.customer.team
        if not area.customer.active or (left > 3 and (self.last - came).days > 300):
            status = "archived"
        else:
            status = "open" if left == 1 else "in_progress" if left <= 3 else "done"
        assignee = rng.choice(team).id if team and left > 1 else None
        due = came + timedelta(days=rng.randint(7, 60)) if rng.random() < 0.6 else None
        new = NewTask.model_validate(
            {
                "id": new_id(rng),
                "title": title.format(where=rng.choice(words.PLACES), who=rng.choice(words.FIRST_NAMES)),
                "description": rng.choice(words.DESCRIPTIONS),
                "customerId": area.customer.id,
                "pillarId": area.pillar_id,
                "assigneeId": assignee,
                "priority": rng.choice(PRIORITIES),
                "dueDate": due,
                "source": rng.choice(SOURCES),
            }
        )
        assert new.id is not None
        self.rows[TASKS].append(
            (
                new.id, new.title, new.description, status, new.customer_id, new.pillar_id, assignee, new.priority, due,
                new.source, 1 + STATUS_CHANGES[status], new.fingerprint(), rng.choice(team or admins).id,
                self._moment(came, 0, 0),
            )
        )  # fmt: skip
        return new.id

    def _moment(self, day: date, earliest: int, latest: int) -> datetime:
        """A random working hour, `earliest` to `latest` days after that day."""
        clock = time(self.rng.randint(7, 16), self.rng.randrange(60), self.rng.randrange(60), self.rng.randrange(10**6), UTC)
        return datetime.combine(day + timedelta(days=self.rng.randint(earliest, latest)), clock)


def _address(name: str, *, between: str) -> str:
    """The name in lower case without accents, for an address."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", between, plain)
