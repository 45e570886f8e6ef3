"""Simulated consultants who log hours. Each records the responses, and so knows which entries must exist at the end."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

from tests.faults.firm_at_work import FirmAtWork
from tests.faults.retrying_client import PatientClient
from tests.support.given import Json
from tests.sync.clients import Store

FIRST_DAY = date(2026, 1, 5)


@dataclass(frozen=True)
class Hours:
    """The fields of an entry that its owner decides."""

    task: str
    start: str
    seconds: int
    notes: str = ""

    @classmethod
    def of(cls, entry: Json) -> "Hours":
        return cls(entry["taskId"], entry["startTime"], entry["duration"], entry["notes"])


@dataclass
class Expected:
    """One entry: the state that it must have (None: deleted), and others that it may have, because a request was refused after
    an equal one had got no response."""

    hours: Hours | None
    maybe: list[Hours | None] = field(default_factory=list)

    def allows(self, found: Hours | None) -> bool:
        return found == self.hours or found in self.maybe


class Consultant:
    """Starts and stops timers, creates, changes and deletes entries, and corrects rejected ones."""

    def __init__(self, firm: FirmAtWork, number: int, seed: str) -> None:
        self.name = f"consultant {number}"
        self.firm, self.chance = firm, random.Random(f"{seed} {self.name}")
        self.by = firm.given.person()
        firm.xero.user(self.by.email)
        self.entries: dict[str, Expected] = {}
        self.timer: Json | None = None
        self.stop: tuple[str, Json] | None = None  # the last one, until that task is started again
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        what: list[Callable[[], None]] = [
            self._start,
            self._stop,
            self._log,
            self._edit,
            self._note,
            self._delete,
            self._repeat,
        ]
        chosen = self.chance.choices(what, weights=[4, 4, 3, 4, 2, 1, 1])[0]
        chosen()

    @property
    def http(self) -> PatientClient:
        client = self.by.http
        assert isinstance(client, PatientClient)
        return client

    def _start(self) -> None:
        task = self.chance.choice(self.firm.tasks)
        answer = self.http.post(f"/api/tasks/{task['id']}/start")
        assert answer.status_code in (200, 201), answer.text
        started = answer.json()
        if self.timer is not None and self.timer["id"] != started["id"]:
            # the answer that said so may have been lost, and the next one not say it any more
            if (stopped := started.get("stopped")) is not None:
                assert stopped["entryId"] == self.timer["id"]
                self._stopped(stopped)
            else:
                assert self.http.lost, f"{self.timer} was stopped, and the answer says nothing of it: {started}"
                self._read_stopped(self.timer)
        self.timer, self.done = started, self.done + Counter(["start"])
        if self.stop is not None and self.stop[0] == task["id"]:
            self.stop = None

    def _stop(self) -> None:
        if self.timer is None:
            return
        task_id = self.timer["taskId"]
        answer = self.http.post(f"/api/tasks/{task_id}/stop")
        assert answer.status_code == 202, answer.text
        assert answer.json()["entryId"] == self.timer["id"]
        self._stopped(answer.json())
        self.timer, self.stop = None, (task_id, answer.json())

    def _stopped(self, stop: Json) -> None:
        self.entries[stop["entryId"]] = Expected(Hours(stop["taskId"], stop["startTime"], stop["duration"]))
        self.done["stop"] += 1

    def _read_stopped(self, timer: Json) -> None:
        """A stop whose response was lost: its message in the outbox says what was stopped."""
        query = "SELECT body->>'end_time' FROM messages WHERE actor = 'stop_timer' AND body->>'entry_id' = %s"
        end = datetime.fromisoformat(self.firm.stint.value(query, timer["id"]))
        seconds = int((end - datetime.fromisoformat(timer["startTime"])).total_seconds())
        self.entries[timer["id"]] = Expected(Hours(timer["taskId"], timer["startTime"], seconds))
        self.done["stop"] += 1

    def _repeat(self) -> None:
        """The same stop once more has the same answer."""
        if self.stop is None:
            return
        task_id, first = self.stop
        answer = self.http.post(f"/api/tasks/{task_id}/stop")
        assert (answer.status_code, answer.json()) == (202, first), (answer.text, first)
        self.done["repeated stop"] += 1

    def _log(self) -> None:
        entry_id, task = str(uuid4()), self.chance.choice(self.firm.tasks)
        day = FIRST_DAY + timedelta(days=self.chance.randrange(20))
        start = f"{day}T{self.chance.randrange(7, 19):02}:{self.chance.randrange(60):02}:00Z"
        seconds = self.chance.randrange(60, 4 * 3600)
        body = {"id": entry_id, "taskId": task["id"], "startTime": start, "duration": seconds, "allowOverlap": True}
        answer = self.http.post("/api/time-entries", json=body)
        assert answer.status_code == 201, answer.text
        self.entries[entry_id] = Expected(Hours.of(answer.json()))
        assert Hours.of(answer.json()) == Hours(task["id"], start, seconds)
        self.done["entry by hand"] += 1

    def _edit(self) -> None:
        seconds = self.chance.randrange(60, 5 * 3600)
        body = {"duration": seconds, "allowOverlap": True}
        self._change(lambda hours: replace(hours, seconds=seconds), "PATCH", "", body, "edit")

    def _note(self) -> None:
        line = f"line {self.chance.randrange(10**6)}"

        def added(hours: Hours) -> Hours:
            return replace(hours, notes=f"{hours.notes}\n{line}" if hours.notes else line)

        self._change(added, "POST", "/notes", {"append": line}, "note")

    def _delete(self) -> None:
        self._change(lambda _: None, "DELETE", "", None, "delete")

    def _change(self, change: Callable[[Hours], Hours | None], method: str, rest: str, body: Json | None, what: str) -> None:
        """Changes an entry, if it is there already and nobody has approved it; reads it first, as a client does."""
        sure = [entry_id for entry_id, expected in self.entries.items() if expected.hours is not None and not expected.maybe]
        if not sure:
            return
        entry_id = self.chance.choice(sure)
        expected = self.entries[entry_id]
        assert expected.hours is not None
        read = self.http.get(f"/api/time-entries/{entry_id}")
        if read.status_code == 404:
            return  # a stop that is still on its way
        entry = read.json()
        assert expected.allows(Hours.of(entry)), f"{entry_id} is {Hours.of(entry)}, and was to be {expected}"
        desired = change(expected.hours)
        if body is not None:
            body |= {"version": entry["version"]}
        answer = self.http.request(method, f"/api/time-entries/{entry_id}{rest}", json=body)
        if answer.is_success or (answer.status_code == 404 and desired is None and self.http.lost):
            expected.hours = desired
            self.done[what] += 1
            return
        assert answer.status_code == 409, answer.text
        current = answer.json().get("current")
        if self.http.lost and current is not None and Hours.of(current) == desired:
            expected.hours = desired
            self.done[what] += 1
        elif self.http.lost:
            expected.maybe.append(desired)
        else:
            self.done["refused"] += 1


class Mover:
    """Moves tasks of its own, with hours on them, from customer to customer."""

    def __init__(self, firm: FirmAtWork, seed: str) -> None:
        self.name = "mover"
        self.firm, self.chance = firm, random.Random(f"{seed} {self.name}")
        self.consultant = Consultant(firm, 100, seed)
        self.by = self.consultant.by
        self.places = [(task["customerId"], task["pillarId"]) for task in firm.tasks]
        self.tasks = [firm.given.task(self.by, {"id": firm.tasks[0]["customerId"]}, title=f"Wanders {n}") for n in range(3)]
        self.firm = replace(firm, tasks=self.tasks)
        self.consultant.firm = self.firm
        self.at: dict[str, tuple[str, str]] = {task["id"]: (task["customerId"], task["pillarId"]) for task in self.tasks}
        self.done = self.consultant.done

    def act(self) -> None:
        if self.chance.random() < 0.6:
            self.consultant.act()
            self.done = self.consultant.done
            return
        task, place = self.chance.choice(self.tasks), self.chance.choice(self.places)
        answer = self.by.http.put(f"/api/tasks/{task['id']}", json={"customerId": place[0], "pillarId": place[1]})
        assert answer.status_code == 200, answer.text
        self.at[task["id"]] = place
        self.done["move"] += 1


class Desktop:
    """A client that works offline and syncs: what it keeps must be what the server has."""

    def __init__(self, firm: FirmAtWork, number: int, seed: str) -> None:
        self.name = f"desktop {number}"
        self.firm, self.chance = firm, random.Random(f"{seed} {self.name}")
        self.by = firm.given.person()
        firm.xero.user(self.by.email)
        self.store = Store(self.by)
        self.entries: dict[str, Expected] = {}
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        made = [self._made_offline() for _ in range(self.chance.randrange(4))]
        operations = [operation for operation, _ in made]
        answer = self.by.http.post("/api/sync", json={"lastSyncTimestamp": self.store.since, "operations": operations})
        assert answer.status_code == 200, answer.text
        for (operation, hours), result in zip(made, answer.json()["results"], strict=True):
            assert result["outcome"] == "applied", result
            self.entries[operation["data"]["id"]] = Expected(hours)
            self.done[f"offline {operation['kind']}"] += 1
        self.store.sync(limit=200)
        self.done["sync"] += 1

    def _made_offline(self) -> tuple[Json, Hours]:
        """An operation, and what it will make."""
        task, day = self.chance.choice(self.firm.tasks), FIRST_DAY + timedelta(days=self.chance.randrange(20))
        start = datetime.fromisoformat(f"{day}T08:00:00+00:00") + timedelta(seconds=self.chance.randrange(30_000))
        hours = Hours(task["id"], _utc(start), self.chance.randrange(60, 7200), f"offline {self.chance.random()}")
        data: Json = {"id": str(uuid4()), "taskId": hours.task, "startTime": hours.start, "notes": hours.notes}
        if self.chance.random() < 0.5:
            kind, data = "timer.stop", data | {"endTime": _utc(start + timedelta(seconds=hours.seconds))}
        else:
            kind, data = "entry.put", data | {"duration": hours.seconds, "allowOverlap": True}
        return {"opId": str(uuid4()), "kind": kind, "baseVersion": None, "data": data}, hours


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
