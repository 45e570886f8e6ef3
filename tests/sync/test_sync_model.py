"""Two desktop clients of one user, offline and online in turn, against a simple model: in the end clients, server and model
agree, nothing is lost, and the user is informed of every change that was not applied.

A history is a list of steps, each a few numbers. Hypothesis generates histories, and shortens one that fails.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as generated
from hypothesis import strategies as st

from tests.support.answers import Json
from tests.support.given import Given, Person
from tests.support.installation import eventually
from tests.support.sizes import HISTORIES, examples
from tests.sync.desktop import Desktop, Entry, Model, Task, Timer, later

Step = tuple[str, int, int]  # the action, the number of the desktop, and the number of the row

OFFLINE = ["new task", "edit task", "edit task", "start", "start", "stop", "stop", "stop alone", "log", "patch", "patch"]
OFFLINE += ["rewrite", "rewrite", "append", "delete"]
ONLINE = ["sync"] * 6 + ["lost", "lost", "repeat"]
ELSEWHERE = ["web start", "web stop", "web shift", "web note", "web delete", "web task", "approve"]
STEPS = st.lists(
    st.tuples(st.sampled_from(OFFLINE * 2 + ONLINE * 2 + ELSEWHERE), st.integers(0, 1), st.integers(0, 3)),
    min_size=10,
    max_size=35,
)


class History:
    """One user's two desktops, and the same user in a browser."""

    def __init__(self, firm: "Firm") -> None:
        self.by, self.admin, self.given = firm.by, firm.admin, firm.given
        self.by.http.delete("/api/active-timers/me")
        self.customer = self.given.customer(self.by)["id"]
        since = self.by.get("/api/customers", limit=1)["syncTimestamp"]
        self.model = Model()
        for number in range(2):
            task = self.by.post("/api/tasks", {"title": f"Task {number}", "customerId": self.customer})
            self.model.tasks[task["id"]] = Task(task["title"])
        self.desktops = [Desktop(name, self.by, since, self.model, self.customer) for name in ("laptop", "phone")]
        self.since = since
        self.clock = datetime.now(UTC) - timedelta(days=20)
        for desktop in self.desktops:
            desktop.sync()

    def now(self) -> str:
        """The time on all clocks: some minutes after the previous step."""
        self.clock += timedelta(minutes=20)
        return self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    def take(self, step: Step) -> None:
        action, desktop, pick = step
        method = getattr(self, "_" + action.replace(" ", "_"))
        if action in ELSEWHERE:
            method(pick)
        else:
            method(self.desktops[desktop], pick)

    # actions of a desktop, online or offline

    def _new_task(self, on: Desktop, pick: int) -> None:
        on.queue_operation("task.put", str(uuid4()), title=f"New {pick}", customerId=self.customer)

    def _edit_task(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("tasks"), pick):
            status: Json = {0: {"status": "archived"}, 1: {"status": "open"}}.get(pick, {})
            on.queue_operation("task.put", *chosen, title=f"{on.name} {self.now()}", **status)

    def _start(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("tasks"), pick):
            self._stop(on, pick)  # a client stops the timer that it knows of first
            on.running = {"id": str(uuid4()), "taskId": chosen[0], "startTime": self.now(), "version": 1}
            on.queue_operation("timer.start", on.running["id"], taskId=chosen[0], startTime=on.running["startTime"], notes="")

    def _stop(self, on: Desktop, pick: int) -> None:
        timer, on.running = on.running, None
        if timer is not None:
            base, notes = (None, None) if pick % 2 else (timer["version"], f"stopped on {on.name}")
            times: Json = {"startTime": timer["startTime"], "endTime": self.now()}
            on.queue_operation("timer.stop", timer["id"], base, taskId=timer["taskId"], notes=notes, **times)

    def _stop_alone(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("tasks"), pick):
            times: Json = {"startTime": self.now(), "endTime": self.now()}
            on.queue_operation("timer.stop", str(uuid4()), taskId=chosen[0], notes=None, **times)

    def _log(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("tasks"), pick):
            times: Json = {"startTime": self.now(), "duration": 600}
            on.queue_operation("entry.put", str(uuid4()), taskId=chosen[0], allowOverlap=True, **times)

    def _patch(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("timeEntries"), pick):
            on.queue_operation("entry.patch", *chosen, duration=60 * (1 + pick), allowOverlap=True)

    def _rewrite(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("timeEntries"), pick):
            on.queue_operation("entry.notes", *chosen, notes=f"{on.name} {self.now()}")

    def _append(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("timeEntries"), pick):
            on.queue_operation("entry.notes", chosen[0], append=f"{on.name} {self.now()}")

    def _delete(self, on: Desktop, pick: int) -> None:
        if chosen := choose(on.known_versions("timeEntries"), pick):
            on.queue_operation("entry.delete", *chosen)

    def _sync(self, on: Desktop, pick: int) -> None:
        on.sync()

    def _lost(self, on: Desktop, pick: int) -> None:
        on.sync(lost=True)

    def _repeat(self, on: Desktop, pick: int) -> None:
        on.send_again(pick)

    # actions elsewhere: by the same user in a browser, and by an admin

    def _web_start(self, pick: int) -> None:
        chosen = choose({row: 1 for row, task in self.model.tasks.items() if task.status != "archived"}, pick)
        if chosen and self.model.timer is None:
            body = {"taskId": chosen[0], "startTime": self.now(), "notes": "web"}
            timer = self.by.put("/api/active-timers/me", body, status=201)
            self.model.timer = Timer(timer["id"], chosen[0], timer["startTime"], "web")

    def _web_stop(self, pick: int) -> None:
        if (timer := self.model.timer) is not None:
            stop = self.by.post(f"/api/tasks/{timer.task}/stop", status=202)
            assert (stop["entryId"], stop["startTime"]) == (timer.id, timer.start)
            self.model.entries[timer.id] = Entry(timer.task, timer.start, stop["endTime"], timer.notes)
            self.model.timer = None

    def _web_shift(self, pick: int) -> None:
        if (timer := self.model.timer) is not None:
            changed = self.by.put("/api/active-timers/me", {"taskId": timer.task, "startTime": later(timer.start, 60)})
            timer.start, timer.version = changed["startTime"], changed["version"]

    def _web_note(self, pick: int) -> None:
        if chosen := self._on_the_web(pick):
            self.by.post(f"/api/time-entries/{chosen}/notes", {"append": "web"}, status=200)
            assert self.model.push([elsewhere("entry.notes", chosen, append="web")]) == ["applied"]

    def _web_delete(self, pick: int) -> None:
        if chosen := self._on_the_web(pick):
            self.by.delete(f"/api/time-entries/{chosen}")
            assert self.model.push([elsewhere("entry.delete", chosen)]) == ["applied"]

    def _web_task(self, pick: int) -> None:
        if chosen := choose({row: 1 for row in self.model.tasks}, pick):
            task = self.by.put(f"/api/tasks/{chosen[0]}", {"title": f"web {self.now()}"})
            self.model.tasks[chosen[0]] = Task(task["title"], task["status"], task["version"])

    def _approve(self, pick: int) -> None:
        """Approves or reopens every bill of this history. The model does not contain bills."""
        self._all_made()
        for bill in self.admin.get("/api/time-bills", customerId=self.customer)["items"]:
            status = {"approved": "pending", "pending": "approved"}[bill["status"]]
            self.admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": status})
        for row in self.by.get("/api/time-entries", customerId=self.customer, limit=1000)["items"]:
            entry = self.model.entries[row["id"]]
            # an entry that was moved from a merged bill has a new version
            entry.locked, entry.version = row["locked"], row["version"]

    def _on_the_web(self, pick: int) -> str | None:
        """The id of an entry that can be changed; waits until the server has created it."""
        rows = {row: 1 for row, entry in self.model.entries.items() if not entry.deleted and not entry.locked}
        if (chosen := choose(rows, pick)) is None:
            return None
        eventually(lambda: self.by.http.get(f"/api/time-entries/{chosen[0]}").status_code == 200)
        return chosen[0]

    def _all_made(self) -> None:
        made = sum(not entry.deleted for entry in self.model.entries.values())
        path, only = "/api/time-entries", {"customerId": self.customer, "limit": 1000}
        eventually(lambda: len(self.by.get(path, **only)["items"]) == made, why="every stop has become an entry")

    # after the history

    def check_agreement(self) -> None:
        """Checks that after a last sync both clients, the server and the model have the same rows."""
        for desktop in self.desktops:
            desktop.sync()
        self._all_made()
        for desktop in self.desktops:
            desktop.sync()
            assert (
                desktop.queue == [] and set(desktop.results) == desktop.sent_ids
            )  # the client knows the result of each operation
        laptop, phone = (desktop.store for desktop in self.desktops)
        for kind in ("tasks", "timeEntries"):
            mine = [of_customer(store.rows[kind], self.customer) for store in (laptop, phone)]
            assert mine[0] == mine[1] == self._on_the_server(kind)
        assert laptop.timer == phone.timer
        tasks = {row["id"]: Task(row["title"], row["status"], row["version"]) for row in laptop.rows["tasks"].values()}
        assert {row: task for row, task in tasks.items() if row in self.model.tasks} == self.model.tasks
        entries = {
            row["id"]: (row["taskId"], row["startTime"], row["endTime"], row["notes"], row["version"], row["locked"])
            for row in of_customer(laptop.rows["timeEntries"], self.customer).values()
        }
        assert entries == {row: entry.facts() for row, entry in self.model.entries.items() if not entry.deleted}
        timer = laptop.timer
        running = timer and Timer(timer["id"], timer["taskId"], timer["startTime"], timer["notes"], timer["version"])
        assert running == self.model.timer

    def _on_the_server(self, kind: str) -> dict[str, Json]:
        path = {"tasks": "/api/tasks", "timeEntries": "/api/time-entries"}[kind]
        return {row["id"]: row for row in self.by.get(path, customerId=self.customer, limit=1000)["items"]}


def choose(rows: dict[str, int], pick: int) -> tuple[str, int] | None:
    return list(rows.items())[pick % len(rows)] if rows else None


def of_customer(rows: dict[str, Json], customer: str) -> dict[str, Json]:
    return {row_id: row for row_id, row in rows.items() if row["customerId"] == customer}


def elsewhere(kind: str, row: str, **data: Any) -> Json:
    return {"opId": str(uuid4()), "kind": kind, "baseVersion": None, "data": {"id": row, **data}}


class Firm:
    """The users of all histories."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.by: Person = given.person()
        self.admin = given.admin()


@pytest.fixture
def firm(given: Given) -> Firm:
    return Firm(given)


def run_history(firm: Firm, steps: list[Step]) -> None:
    history = History(firm)
    for step in steps:
        history.take(step)
    history.check_agreement()


USUAL: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}


@generated(steps=STEPS)
@settings(max_examples=examples(40), **USUAL)
def test_two_desktops_agree_with_the_server_and_the_model(firm: Firm, steps: list[Step]) -> None:
    run_history(firm, steps)


@pytest.mark.slow
@pytest.mark.timeout(600)
@generated(steps=STEPS)
@settings(max_examples=HISTORIES, **USUAL)
def test_two_desktops_agree_in_long_histories(firm: Firm, steps: list[Step]) -> None:
    run_history(firm, steps)
