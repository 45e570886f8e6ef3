"""A running Stint and the model of it (hours.py): sends requests, and compares the answers and the data of the two."""

import asyncio
import signal
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn

import httpx2
import pika

from actors.runtime.broker import encode_reference
from ops.verify import verify
from tests.hours.model.comparison import bill_facts, bill_facts_of_json, entry_facts, entry_facts_of_json, key_of
from tests.hours.model.hours import HoursModel
from tests.hours.model.shapes import Area, Refused, Rounding, Worker, moment
from tests.support.firm_with_xero import Firm as FirmWithXero
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation
from tests.support.xero_sandbox import XeroSandbox
from tests.sync.clients import Store

PARTS = ("relay", "work:timers,bills", "work:xero,slack,mail")
FALLBACK = "everybody@example.com"  # the only user in Xero


class ResponseFacts(dict[str, Any]):
    """The JSON of a response. A missing field means that the model expected another response."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__(answer.json() if answer.content else {})
        self.answer = answer

    def __missing__(self, name: str) -> NoReturn:
        raise AssertionError(f"the model expected {name} in {described(self.answer)}")


def described(answer: httpx2.Response) -> str:
    sent = answer.request.content.decode()
    return f"{answer.request.method} {answer.request.url.raw_path.decode()} {sent}: {answer.status_code} {answer.text}"


class Environment:
    """Shared by all histories: a running Stint, and the Xero stand-in that it is connected to."""

    def __init__(self, stint: Installation, xero: XeroSandbox) -> None:
        self.stint, self.xero = stint, xero
        self.settings = stint.settings
        xero.disable_limits()
        xero.user(FALLBACK)
        given = Given(stint)
        FirmWithXero.new(stint, xero, given)
        given.close()

    @property
    def relay(self) -> Any:
        return self.stint.processes["relay"]

    def restart(self, part: str) -> None:
        """Kills the process with SIGKILL and starts it again, as a supervisor does."""
        self.stint.kill(part)
        self.stint.start(part)

    def faults(self) -> set[str]:
        """Broken invariants of `./stint verify`, dead letters and unrecognized messages."""
        messages = "SELECT id::text FROM messages WHERE state = 'dead' UNION SELECT id::text FROM unrecognized_messages"
        return {*asyncio.run(verify(self.settings)), *(f"message {row[0]}" for row in self.stint.rows(messages))}

    def shuffle(self) -> None:
        """Makes the relay publish waiting messages in another order than they were enqueued in."""
        with self.stint.sql() as conn:
            conn.execute(
                "UPDATE messages SET available_at = clock_timestamp() + random() * interval '0.2 s' WHERE state = 'ready'"
            )

    def deliver_again(self, pick: int, back: int) -> None:
        """Publishes a recent message again, with its latest delivery number or an earlier one."""
        query = "SELECT id, delivery_number, actor, queue FROM messages ORDER BY created_at DESC, id LIMIT 30"
        rows = self.stint.rows(query)
        message_id, delivery_number, actor, queue = rows[pick % len(rows)]
        body = encode_reference(message_id=message_id, delivery_number=max(delivery_number - back, 0), actor=actor, queue=queue)
        with pika.BlockingConnection(pika.URLParameters(self.stint.amqp_url)) as connection:
            connection.channel().basic_publish("", queue, body)


class ModeledFirm:
    """The people, customers and tasks of one history, with their model."""

    def __init__(self, environment: Environment, roundings: Iterable[Rounding]) -> None:
        self.environment, self.given, self.model = environment, Given(environment.stint), HoursModel()
        self.requests: list[str] = []
        self.admin = self.given.admin()
        consultants = self.given.people(2)
        self.people = [*consultants, self.admin]
        self.workers = {person.id: Worker(person.id, person is self.admin) for person in self.people}
        self.areas: list[Area] = []
        for rounding in roundings:
            self._open_customer(rounding)
        # two tasks in one area, so that their entries share bills
        for area in (self.areas[0], self.areas[0], self.areas[1], self.areas[2]):
            task = self.given.task(self.admin, {"id": area.customer}, pillarId=area.pillar)
            self.model.tasks[task["id"]] = area
        self.faults = environment.faults()  # left by an earlier history that failed
        self.versions: dict[str, list[tuple[int, Any]]] = {}
        self.stores = {person.id: Store(person).sync() for person in self.people}
        self.settled_at = datetime.now(UTC)

    def _open_customer(self, rounding: Rounding) -> None:
        """A customer with two pillars, all of them mapped to Xero."""
        project = self.environment.xero.project(f"Project {self.given.new_id()}")
        customer = self.given.customer(self.admin, xeroProjectId=project["projectId"])
        self.set_rounding(customer["id"], rounding)
        path = f"/api/customers/{customer['id']}/pillars"
        self.admin.post(path, {"name": "Hosting"})
        for pillar in self.admin.get(path)["items"]:
            task = self.environment.xero.task(project, pillar["name"])
            self.admin.put(f"{path}/{pillar['id']}", {"xeroTaskId": task["taskId"]})
            self.areas.append(Area(customer["id"], pillar["id"]))

    def set_rounding(self, customer: str, rounding: Rounding) -> None:
        rule = {"increment": rounding.increment, "mode": rounding.mode}
        self.admin.put(f"/api/customers/{customer}", {"rounding": rule})
        self.model.set_rounding(customer, rounding)

    def assert_agrees(self, answer: httpx2.Response, act: Callable[[ResponseFacts], int | None], *, success: int = 200) -> None:
        """Does the same in the model, which must succeed or be refused as the API did. `act` may return the status of a
        success."""
        self.requests.append(described(answer))
        try:
            status = act(ResponseFacts(answer)) or success
        except Refused as refusal:
            status = refusal.status
        assert answer.status_code == status, f"{status} expected, {self.requests[-1]}"

    # background work

    def pause(self) -> None:
        """Stops the relay, so that workers get no more messages; requests continue."""
        self.environment.relay.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.environment.relay.send_signal(signal.SIGCONT)

    def wait_until_settled(self) -> None:
        """Waits until Stint has processed all messages, and processes those of the model in the same order."""
        self.given.settled(seconds=90)
        rows = self.environment.stint.rows(
            """
            SELECT actor, coalesce(body -> 'bill_ids', jsonb_build_array(coalesce(body -> 'entry_id', body -> 'task_id',
                   body -> 'bill_id'))), done_at
            FROM messages WHERE actor = ANY(%s) AND done_at > %s ORDER BY done_at
            """,
            ["stop_timer", "move_entries", "recompute_bills", "sync_bill"],
            self.settled_at,
        )
        self.settled_at = max([self.settled_at, *(done_at for _, _, done_at in rows)])
        self.model.process_pending([(actor, subject_id) for actor, ids, _ in rows for subject_id in ids])

    # comparison

    def check(self, *, settled: bool) -> None:
        """Every bill, entry and timer is as in the model, and the invariants of `./stint verify` hold."""
        bills, entries = self._read("time-bills"), self._read("time-entries")
        self._name_bills(bills)
        self._assert_equal("bills", bills, {bill.id: bill_facts(bill) for bill in self.model.live_bills()}, bill_facts_of_json)
        self._assert_equal(
            "entries",
            entries,
            {entry.id: entry_facts(entry, self.model.entries.values()) for entry in self.model.live_entries()},
            entry_facts_of_json,
        )
        for person in self.people:
            self._check_timer(person)
        if settled:
            self._check_xero()
        faults = self.environment.faults() - self.faults
        assert not faults, faults

    def _read(self, path: str) -> list[Json]:
        customers = dict.fromkeys(area.customer for area in self.areas)
        pages = [self.admin.get(f"/api/{path}", customerId=customer, limit=1000) for customer in customers]
        return [row for page in pages for row in page["items"]]

    def _name_bills(self, rows: list[Json]) -> None:
        """Gives the ids of new bills to the model: a new bill is the open one of its key."""
        known = {bill.id for bill in self.model.bills}
        unnamed = {bill.key: bill for bill in self.model.live_bills() if bill.id is None}
        for row in rows:
            if row["id"] not in known and (bill := unnamed.get(key_of(row))) is not None:
                bill.id = row["id"]

    def _assert_equal(self, what: str, rows: list[Json], expected: dict[Any, Json], facts_of: Callable[[Json], Json]) -> None:
        found = {row["id"]: facts_of(row) for row in rows}
        differing = [
            f"{row_id}: {found.get(row_id)} found, {expected.get(row_id)} expected"
            for row_id in found.keys() | expected.keys()
            if found.get(row_id) != expected.get(row_id)
        ]
        assert not differing, "\n".join([what, *differing])
        for row in rows:
            self._check_version(row)

    def _check_version(self, row: Json) -> None:
        """The version grows with each change of the row, and never shrinks. `xero`, `locked` and `flags` do not count."""
        not_counted = {"xero", "locked", "flags", "updatedAt", "version"}
        content = {name: value for name, value in row.items() if name not in not_counted}
        history = self.versions.setdefault(row["id"], [(row["version"], content)])
        version, previous = history[-1]
        assert row["version"] > version if content != previous else row["version"] >= version, (previous, row)
        if row["version"] > version:
            history.append((row["version"], content))

    def _check_timer(self, person: Person) -> None:
        answer, timer = person.http.get("/api/active-timers/me"), self.model.timers.get(person.id)
        assert answer.status_code == (404 if timer is None else 200), (answer.text, timer)
        if timer is not None:
            row = answer.json()
            found = row["id"], row["taskId"], moment(row["startTime"]), row["notes"]
            assert found == (timer.id, timer.task, timer.start, timer.notes)

    def _check_xero(self) -> None:
        """An approved bill has one time entry with its minutes in Xero, any other bill none."""
        found: dict[str, list[int]] = {}
        for entry in self.environment.xero.entries():
            found.setdefault(entry["description"].rpartition("[bill:")[2].rstrip("]"), []).append(entry["duration"])
        for bill in self.model.bills:
            if bill.id is not None:
                assert found.get(bill.id, []) == ([] if bill.in_xero is None else [bill.in_xero]), (bill, found.get(bill.id))

    def check_store(self, person: Person) -> None:
        """The rows of a client after a sync, without tombstones, are those of its user."""
        store = self.stores[person.id]
        bills = {bill.id: bill_facts(bill) for bill in self.model.live_bills() if bill.key.user == person.id}
        entries = {
            entry.id: entry_facts(entry, self.model.entries.values())
            for entry in self.model.live_entries()
            if entry.user == person.id
        }
        assert {row_id: bill_facts_of_json(row) for row_id, row in store.rows["timeBills"].items()} == bills
        assert {row_id: entry_facts_of_json(row) for row_id, row in store.rows["timeEntries"].items()} == entries
        tasks = {row_id: Area(row["customerId"], row["pillarId"]) for row_id, row in store.rows["tasks"].items()}
        assert {row_id: area for row_id, area in tasks.items() if row_id in self.model.tasks} == self.model.tasks
        timer = self.model.timers.get(person.id)
        assert (store.timer and store.timer["id"]) == (timer and timer.id)

    def version(self, row_id: str | None, seen: str | None) -> Json:
        """The version to send with a change, for a client that has read the `seen` version of the row."""
        if seen is None:
            return {}
        known = [version for version, _ in self.versions.get(row_id or "", [(1, None)])]
        return {"version": known[-1] if seen == "latest" else known[-2] if len(known) > 1 else known[-1] + 1000}
