"""A desktop client of one user, and a simple model of what the server should do with the operations that it sends."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.support.answers import Json
from tests.support.given import Person
from tests.sync.clients import Store


@dataclass
class Task:
    title: str
    status: str = "open"
    version: int = 1


@dataclass
class Entry:
    task: str
    start: str
    end: str
    notes: str
    version: int = 1
    deleted: bool = False
    locked: bool = False

    def facts(self) -> tuple[Any, ...]:
        return self.task, self.start, self.end, self.notes, self.version, self.locked


@dataclass
class Timer:
    id: str
    task: str
    start: str
    notes: str
    version: int = 1


@dataclass
class Model:
    """The rows that the server should have: a model without processes, transactions and networks."""

    tasks: dict[str, Task] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    timer: Timer | None = None
    outcomes: dict[str, str] = field(default_factory=dict)

    def push(self, operations: list[Json]) -> list[str]:
        """The outcomes of a request's operations, by the rules of docs/api.md."""
        now: dict[tuple[str, int], int] = {}
        refused: set[str] = set()
        return [self._once(operation, now, refused) for operation in operations]

    def _once(self, operation: Json, now: dict[tuple[str, int], int], refused: set[str]) -> str:
        kind, data, base = operation["kind"], operation["data"], operation["baseVersion"]
        row = data["id"]
        meant = now.get((row, base), base)
        if (known := self.outcomes.get(operation["opId"])) is not None:
            outcome, _, version = known.partition(" ")
        else:
            builds_on_refused = row in refused and base is not None and kind != "timer.stop"
            outcome = "conflict" if builds_on_refused else getattr(self, "_" + kind.replace(".", "_"))(data, meant)
            version = ""
            if outcome == "applied" and kind != "timer.stop":
                version = str(self._version(row) or "")
            self.outcomes[operation["opId"]] = f"{outcome} {version}"
        if outcome == "applied" and kind == "entry.notes" and base is None:
            base = meant = int(version) - 1
        if outcome != "applied":
            refused.add(row)
        elif base is not None and version:
            for (other, earlier), then in list(now.items()):
                if other == row and then == meant:
                    now[row, earlier] = int(version)
            now[row, base] = int(version)
        return outcome

    def _version(self, row: str) -> int | None:
        if row in self.entries:
            return None if self.entries[row].deleted else self.entries[row].version
        if row in self.tasks:
            return self.tasks[row].version
        return self.timer.version if self.timer is not None else None

    def _task_put(self, data: Json, base: int | None) -> str:
        if base is None:
            self.tasks[data["id"]] = Task(data["title"])
            return "applied"
        task = self.tasks.get(data["id"])
        if task is None:
            return "rejected"
        if task.version != base:
            return "conflict"
        task.title, task.status = data.get("title", task.title), data.get("status", task.status)
        task.version += 1
        return "applied"

    def _timer_start(self, data: Json, base: None) -> str:
        started = Timer(data["id"], data["taskId"], data["startTime"], data["notes"])
        if self.timer is not None:
            same = (self.timer.id, self.timer.task, self.timer.start) == (started.id, started.task, started.start)
            return "applied" if same else "conflict"
        task = self.tasks.get(started.task)
        if started.id not in self.entries and task is None:
            return "rejected"
        if started.id in self.entries or task is None or task.status == "archived":
            return "conflict"
        self.timer = started
        return "applied"

    def _timer_stop(self, data: Json, base: int | None) -> str:
        notes = data["notes"]
        stopped = Entry(data["taskId"], data["startTime"], data["endTime"], notes or "")
        timer, made = self.timer, self.entries.get(data["id"])
        if timer is not None and timer.id == data["id"]:
            same = timer.start == stopped.start and notes in (None, timer.notes)
            if timer.task != stopped.task or not (same if base is None else base == timer.version):
                return "conflict"
            self.timer, stopped.notes = None, timer.notes if notes is None else notes
        elif made is not None:
            same = (made.task, made.start, made.end) == (stopped.task, stopped.start, stopped.end)
            return "applied" if same and not made.deleted and notes in (None, made.notes) else "conflict"
        elif stopped.task not in self.tasks:
            return "rejected"
        self.entries[data["id"]] = stopped
        return "applied"

    def _entry_put(self, data: Json, base: None) -> str:
        task = self.tasks.get(data["taskId"])
        if task is None or task.status == "archived":
            return "conflict" if task else "rejected"
        self.entries[data["id"]] = Entry(data["taskId"], data["startTime"], later(data["startTime"], data["duration"]), "")
        return "applied"

    def _changed(self, data: Json, base: int | None, change: Callable[[Entry], Entry]) -> str:
        entry = self.entries.get(data["id"])
        if entry is None:
            return "rejected"
        if entry.deleted or entry.locked or (base is not None and base != entry.version):
            return "conflict"
        self.entries[data["id"]] = replace(change(entry), version=entry.version + 1)
        return "applied"

    def _entry_patch(self, data: Json, base: int | None) -> str:
        return self._changed(data, base, lambda entry: replace(entry, end=later(entry.start, data["duration"])))

    def _entry_notes(self, data: Json, base: int | None) -> str:
        def write(entry: Entry) -> Entry:
            added = "\n".join(filter(None, [entry.notes, data.get("append")]))
            return replace(entry, notes=data.get("notes", added))

        return self._changed(data, base, write)

    def _entry_delete(self, data: Json, base: int | None) -> str:
        if data["id"] in self.entries and self.entries[data["id"]].deleted:
            return "applied"
        return self._changed(data, base, lambda entry: replace(entry, deleted=True))


def later(time: str, seconds: int) -> str:
    return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Desktop:
    """A client with a store, a queue of operations whose results it does not know yet, and the timer that it believes to
    run."""

    def __init__(self, name: str, by: Person, since: str, model: Model, customer: str) -> None:
        self.name, self.by, self.model, self.customer = name, by, model, customer
        self.store = Store(by)
        self.store.since = since
        self.queue: list[Json] = []
        self.requests: list[tuple[Json, list[Json]]] = []
        self.sent_ids: set[str] = set()
        self.results: dict[str, str] = {}
        self.running: Json | None = None  # {id, taskId, startTime, version}

    def queue_operation(self, kind: str, row: str, base: int | None = None, **data: Any) -> None:
        operation: Json = {"opId": str(uuid4()), "kind": kind, "baseVersion": base, "data": {"id": row, **data}}
        self.queue.append(operation)
        self.sent_ids.add(operation["opId"])

    def known_versions(self, kind: str) -> dict[str, int]:
        """The customer's rows that a user can choose on this client, with the versions that the client knows; a new row will
        have version 1. The store may contain rows of other customers: a cursor goes back to the oldest open transaction."""
        new = {"tasks": ("task.put",), "timeEntries": ("entry.put", "timer.stop")}[kind]
        made = {operation["data"]["id"]: 1 for operation in self.queue if operation["kind"] in new}
        gone = {operation["data"]["id"] for operation in self.queue if operation["kind"] == "entry.delete"}
        synced = [row for row in self.store.rows[kind].values() if row["customerId"] == self.customer]
        known = made | {row["id"]: row["version"] for row in synced}
        return {row: version for row, version in known.items() if row not in gone}

    def sync(self, *, lost: bool = False) -> None:
        """Sends the queue. With `lost`, the client never gets the answer."""
        body: Json = {"lastSyncTimestamp": self.store.since, "operations": list(self.queue)}
        expected = self.model.push(body["operations"])
        answer = self.by.post("/api/sync", body, status=200)
        results = answer["results"]
        assert [result["outcome"] for result in results] == expected, (body["operations"], results)
        self.requests.append((body, results))
        if lost:
            return
        for operation, result in zip(self.queue, results, strict=True):
            assert result["outcome"] == "applied" or result["mine"] == operation["data"]
            self.results[operation["opId"]] = result["outcome"]
        self.queue = []
        first = answer["syncTimestamp"]
        self.store.store_page(answer)
        assert answer["nextCursor"] is None
        self.store.since = first
        self.running = self.store.timer

    def send_again(self, number: int) -> None:
        """Sends an old request again: its operations were executed already, and the results are the same."""
        if self.requests:
            body, results = self.requests[number % len(self.requests)]
            assert self.by.post("/api/sync", body, status=200)["results"] == results
