"""A real firm beside the plain model of it (books.py): how it is asked, and how the two are held against each other."""

import asyncio
import signal
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import httpx
import pika

from actors.broker import reference
from ops.verify import verify
from tests.api.test_sync import Store
from tests.billing.books import Books
from tests.billing.facts import bill_facts, entry_facts, key_of, shown_bill, shown_entry
from tests.billing.shapes import Place, Refused, Rounding, Worker, moment
from tests.firm_with_xero import Firm as FirmWithXero
from tests.given import Given, Json, Person
from tests.installation import Installation
from tests.sandbox import XeroSandbox

PARTS = ("relay", "work:timers,bills", "work:xero,slack,mail")
FALLBACK = "everybody@example.com"  # the one consultant whom Xero knows


class Told(dict[str, Any]):
    """The facts of an answer. Whoever misses one has not expected this answer."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.json() if answer.content else {})
        self.answer = answer

    def __missing__(self, name: str) -> NoReturn:
        raise AssertionError(f"the model has expected {name} in {described(self.answer)}")


def described(answer: httpx.Response) -> str:
    sent = answer.request.content.decode()
    return f"{answer.request.method} {answer.request.url.raw_path.decode()} {sent}: {answer.status_code} {answer.text}"


class House:
    """What all histories share: a running Stint, and the Xero that it is connected to."""

    def __init__(self, stint: Installation, xero: XeroSandbox) -> None:
        self.stint, self.xero = stint, xero
        self.settings = stint.settings
        xero.without_limits()
        xero.user(FALLBACK)
        given = Given(stint)
        FirmWithXero.new(stint, xero, given)
        given.close()

    @property
    def relay(self) -> Any:
        return self.stint.processes["relay"]

    def restart(self, part: str) -> None:
        """SIGKILL, and what a supervisor does."""
        self.stint.kill(part)
        self.stint.start(part)

    def faults(self) -> set[str]:
        """What breaks an invariant of `./stint verify`, and letters that are dead or a stranger's."""
        letters = "SELECT id::text FROM messages WHERE state = 'dead' UNION SELECT id::text FROM foreign_letters"
        return {*asyncio.run(verify(self.settings)), *(f"letter {row[0]}" for row in self.stint.rows(letters))}

    def shuffle(self) -> None:
        """What waits is published in another order than it was promised in."""
        with self.stint.sql() as conn:
            conn.execute(
                "UPDATE messages SET available_at = clock_timestamp() + random() * interval '0.2 s' WHERE state = 'ready'"
            )

    def deliver_again(self, pick: int, back: int) -> None:
        """RabbitMQ delivers a message once more: its latest publication, or one before."""
        query = "SELECT id, publication, actor, queue FROM messages ORDER BY created_at DESC, id LIMIT 30"
        rows = self.stint.rows(query)
        message_id, publication, actor, queue = rows[pick % len(rows)]
        body = reference(message_id=message_id, publication=max(publication - back, 0), actor=actor, queue=queue)
        with pika.BlockingConnection(pika.URLParameters(self.stint.amqp_url)) as connection:
            connection.channel().basic_publish("", queue, body)


class Firm:
    """The people, customers and tasks of one history, and their books as they should be."""

    def __init__(self, house: House, roundings: Iterable[Rounding]) -> None:
        self.house, self.given, self.books = house, Given(house.stint), Books()
        self.story: list[str] = []
        self.admin = self.given.admin()
        consultants = self.given.people(2)
        self.people = [*consultants, self.admin]
        self.workers = {person.id: Worker(person.id, person is self.admin) for person in self.people}
        self.places: list[Place] = []
        for rounding in roundings:
            self._open_customer(rounding)
        # two tasks at one place, so that their hours meet on bills
        for place in (self.places[0], self.places[0], self.places[1], self.places[2]):
            task = self.given.task(self.admin, {"id": place.customer}, pillarId=place.pillar)
            self.books.tasks[task["id"]] = place
        self.faults = house.faults()  # which an earlier history has left, and failed by
        self.versions: dict[str, list[tuple[int, Any]]] = {}
        self.stores = {person.id: Store(person).sync() for person in self.people}

    def _open_customer(self, rounding: Rounding) -> None:
        """A customer with two pillars, all of them mapped to Xero."""
        project = self.house.xero.project(f"Project {self.given.new_id()}")
        customer = self.given.customer(self.admin, xeroProjectId=project["projectId"])
        self.set_rounding(customer["id"], rounding)
        path = f"/api/customers/{customer['id']}/pillars"
        self.admin.post(path, {"name": "Hosting"})
        for pillar in self.admin.get(path)["items"]:
            task = self.house.xero.task(project, pillar["name"])
            self.admin.put(f"{path}/{pillar['id']}", {"xeroTaskId": task["taskId"]})
            self.places.append(Place(customer["id"], pillar["id"]))

    def set_rounding(self, customer: str, rounding: Rounding) -> None:
        wanted = {"increment": rounding.increment, "mode": rounding.mode}
        self.admin.put(f"/api/customers/{customer}", {"rounding": wanted})
        self.books.set_rounding(customer, rounding)

    def agree(self, answer: httpx.Response, expected: Callable[[Told], int | None]) -> None:
        """The model does the same, and comes to the same: the same status, or the same refusal."""
        self.story.append(described(answer))
        try:
            status = expected(Told(answer))
        except Refused as refusal:
            status = refusal.status
        assert answer.status_code == (status or 200), f"{status} expected, {self.story[-1]}"

    # at work, or not

    def sleeps(self) -> None:
        """Nothing is handed to the workers any more; people go on."""
        self.house.relay.send_signal(signal.SIGSTOP)

    def wakes(self) -> None:
        self.house.relay.send_signal(signal.SIGCONT)

    def settles(self) -> None:
        """Every promise is kept."""
        self.books.work()
        self.given.settled(seconds=90)

    # how it is

    def check(self, *, settled: bool) -> None:
        """Every bill, entry and timer is as in the books, and the invariants of `./stint verify` hold."""
        bills, entries = self._read("time-bills"), self._read("time-entries")
        self._name_bills(bills)
        self._agrees("bills", bills, {bill.id: bill_facts(bill) for bill in self.books.live_bills()}, shown_bill)
        self._agrees("entries", entries, {entry.id: entry_facts(entry) for entry in self.books.live_entries()}, shown_entry)
        for person in self.people:
            self._check_timer(person)
        if settled:
            self._check_xero()
        faults = self.house.faults() - self.faults
        assert not faults, faults

    def _read(self, path: str) -> list[Json]:
        customers = dict.fromkeys(place.customer for place in self.places)
        pages = [self.admin.get(f"/api/{path}", customerId=customer, limit=1000) for customer in customers]
        return [row for page in pages for row in page["items"]]

    def _name_bills(self, rows: list[Json]) -> None:
        """A bill that was not seen yet is the open one of its key."""
        known = {bill.id for bill in self.books.bills}
        unnamed = {bill.key: bill for bill in self.books.live_bills() if bill.id is None}
        for row in rows:
            if row["id"] not in known and (bill := unnamed.get(key_of(row))) is not None:
                bill.id = row["id"]

    def _agrees(self, what: str, rows: list[Json], expected: dict[Any, Json], shown: Callable[[Json], Json]) -> None:
        found = {row["id"]: shown(row) for row in rows}
        differing = [
            f"{row_id}: {found.get(row_id)} found, {expected.get(row_id)} expected"
            for row_id in found.keys() | expected.keys()
            if found.get(row_id) != expected.get(row_id)
        ]
        assert not differing, "\n".join([what, *differing])
        for row in rows:
            self._check_version(row)

    def _check_version(self, row: Json) -> None:
        """It moves on whenever the row says something else, and never back. What Xero makes of it, and locks, do not count."""
        says = {name: value for name, value in row.items() if name not in ("xero", "locked", "updatedAt", "version")}
        history = self.versions.setdefault(row["id"], [(row["version"], says)])
        version, said = history[-1]
        assert row["version"] > version if says != said else row["version"] >= version, (said, row)
        if row["version"] > version:
            history.append((row["version"], says))

    def _check_timer(self, person: Person) -> None:
        answer, timer = person.http.get("/api/active-timers/me"), self.books.timers.get(person.id)
        assert answer.status_code == (404 if timer is None else 200), (answer.text, timer)
        if timer is not None:
            row = answer.json()
            found = row["id"], row["taskId"], moment(row["startTime"]), row["notes"]
            assert found == (timer.id, timer.task, timer.start, timer.notes)

    def _check_xero(self) -> None:
        """Approved, one time entry with its minutes; anything else, none."""
        there: dict[str, list[int]] = {}
        for entry in self.house.xero.entries():
            there.setdefault(entry["description"].rpartition("[bill:")[2].rstrip("]"), []).append(entry["duration"])
        for bill in self.books.bills:
            if bill.id is not None:
                assert there.get(bill.id, []) == ([] if bill.in_xero is None else [bill.in_xero]), (bill, there.get(bill.id))

    def check_store(self, person: Person) -> None:
        """What a client keeps after a sync, tombstones taken out, is what its user has."""
        store = self.stores[person.id]
        bills = {bill.id: bill_facts(bill) for bill in self.books.live_bills() if bill.key.user == person.id}
        entries = {entry.id: entry_facts(entry) for entry in self.books.live_entries() if entry.user == person.id}
        assert {row_id: shown_bill(row) for row_id, row in store.rows["timeBills"].items()} == bills
        assert {row_id: shown_entry(row) for row_id, row in store.rows["timeEntries"].items()} == entries
        tasks = {row_id: Place(row["customerId"], row["pillarId"]) for row_id, row in store.rows["tasks"].items()}
        assert {row_id: place for row_id, place in tasks.items() if row_id in self.books.tasks} == self.books.tasks
        timer = self.books.timers.get(person.id)
        assert (store.timer and store.timer["id"]) == (timer and timer.id)

    def version(self, row_id: str | None, seen: str | None) -> Json:
        """The version that a client sends which has seen this of the row."""
        if seen is None:
            return {}
        known = [version for version, _ in self.versions.get(row_id or "", [(1, None)])]
        return {"version": known[-1] if seen == "latest" else known[-2] if len(known) > 1 else known[-1] + 1000}
