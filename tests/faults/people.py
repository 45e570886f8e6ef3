"""The people of the firm at work: each knows what was promised to them, and so what must be there in the end."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import httpx

from ops.sandbox import slack_app
from ops.sandbox.slack_app import Sent
from ops.sandbox.slack_workspace import new_hook, new_trigger
from tests.api.test_sync import Store
from tests.faults.asking import PAUSE_SECONDS, PatientClient
from tests.faults.firm import WholeFirm
from tests.given import Json, Person

FIRST_DAY = date(2026, 1, 5)
PAUSE_AT_MOST = 0.6  # seconds between two things that somebody does


@dataclass(frozen=True)
class Hours:
    """What one entry holds, as far as its owner decides it."""

    task: str
    start: str
    seconds: int
    notes: str = ""

    @classmethod
    def of(cls, entry: Json) -> "Hours":
        return cls(entry["taskId"], entry["startTime"], entry["duration"], entry["notes"])


@dataclass
class Expected:
    """One entry: what it must be (None: deleted), or else may be, since a request for it was refused after one like it had
    been lost."""

    hours: Hours | None
    maybe: list[Hours | None] = field(default_factory=list)

    def allows(self, found: Hours | None) -> bool:
        return found == self.hours or found in self.maybe


class Worker(Protocol):
    """Somebody with things to do."""

    name: str

    def act(self) -> None: ...


class Consultant:
    """Starts and stops timers, writes hours by hand, changes and deletes them, and goes over rejected ones."""

    def __init__(self, firm: WholeFirm, number: int, seed: str) -> None:
        self.name = f"consultant {number}"
        self.firm, self.chance = firm, random.Random(f"{seed} {self.name}")
        self.by = firm.given.person()
        firm.xero.user(self.by.email)
        self.entries: dict[str, Expected] = {}
        self.timer: Json | None = None
        self.stop: tuple[str, Json] | None = None  # the last one, until that task is started again
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        what: list[Callable[[], None]] = [self._start, self._stop, self._log, self._edit, self._note, self._delete, self._repeat]
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
        """A stop whose answer was lost: the ledger of the one who was promised it is the message itself."""
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
        wanted = change(expected.hours)
        if body is not None:
            body |= {"version": entry["version"]}
        answer = self.http.request(method, f"/api/time-entries/{entry_id}{rest}", json=body)
        if answer.is_success or (answer.status_code == 404 and wanted is None and self.http.lost):
            expected.hours = wanted
            self.done[what] += 1
            return
        assert answer.status_code == 409, answer.text
        current = answer.json().get("current")
        if self.http.lost and current is not None and Hours.of(current) == wanted:
            expected.hours = wanted
            self.done[what] += 1
        elif self.http.lost:
            expected.maybe.append(wanted)
        else:
            self.done["refused"] += 1


class Approver:
    """The admin: approves, rejects, reopens, recomputes, moves tasks to and fro. Nobody else does."""

    def __init__(self, firm: WholeFirm, seed: str) -> None:
        self.name = "admin"
        self.firm, self.by, self.chance = firm, firm.admin, random.Random(f"{seed} {self.name}")
        self.approved: dict[str, tuple[int, int]] = {}  # seconds and minutes of each, as they were answered
        self.maybe: set[str] = set()  # bills of which the last was lost and then refused
        self.inactive: dict[str, str] = {}  # pillars that were made inactive, by id: their names
        self.done: Counter[str] = Counter()
        self.spare: list[Json] = [self._pillar(number) for number in range(4)]

    def _pillar(self, number: int) -> Json:
        path = f"/api/customers/{self.firm.tasks[0]['customerId']}/pillars"
        return self.by.post(path, {"name": f"Pillar {number} {uuid4()}"})

    def act(self) -> None:
        what = [self._approve, self._approve_all, self._reject, self._reopen, self._recompute, self._inactivate]
        self.chance.choices(what, weights=[8, 3, 2, 4, 1, 0.3])[0]()

    @property
    def http(self) -> PatientClient:
        client = self.by.http
        assert isinstance(client, PatientClient)
        return client

    def _some(self, status: str, count: int = 1) -> list[Json]:
        day = FIRST_DAY + timedelta(days=self.chance.randrange(20))
        parameters = {"status": status, "startDate": str(day), "endDate": str(day + timedelta(days=2))}
        answer = self.http.get("/api/time-bills", params=parameters)
        assert answer.status_code == 200, answer.text
        bills = [bill for bill in answer.json()["items"] if bill["id"] not in self.maybe]
        return self.chance.sample(bills, min(count, len(bills)))

    def _patch(self, bill: Json, **body: Any) -> Json | None:
        """The bill as it is now, if it went as it was meant."""
        answer = self.http.patch(f"/api/time-bills/{bill['id']}", json=body | {"version": bill["version"]})
        if answer.status_code == 200:
            return answer.json()  # type: ignore[no-any-return]
        assert answer.status_code in (404, 409), answer.text
        if not self.http.lost:
            self.done["refused"] += 1
            return None
        current = answer.json().get("current")
        if current is not None and current["status"] == body["status"]:
            return current  # type: ignore[no-any-return]
        self.maybe.add(bill["id"])
        return None

    def _approve(self) -> None:
        for bill in self._some("pending"):
            if (now := self._patch(bill, status="approved")) is not None:
                self.approved[bill["id"]] = (now["seconds"], now["minutes"])
                self.done["approval"] += 1

    def _approve_all(self) -> None:
        bills = self._some("pending", 5)
        if not bills:
            return
        body = {"bills": [{"id": bill["id"], "version": bill["version"]} for bill in bills]}
        answer = self.http.post("/api/time-bills/approve-all", json=body)
        assert answer.status_code == 200, answer.text
        lost = self.http.lost
        for seen, result in zip(bills, answer.json()["results"], strict=True):
            current = result.get("current")
            if result["outcome"] == "approved":
                # what was approved is what was seen: its version said so
                self.approved[seen["id"]] = (seen["seconds"], seen["minutes"])
            elif lost and current is not None and current["status"] == "approved":
                self.approved[seen["id"]] = (current["seconds"], current["minutes"])
            else:
                if lost:
                    self.maybe.add(seen["id"])
                continue
            self.done["approval"] += 1

    def _reject(self) -> None:
        for bill in self._some("pending"):
            if self._patch(bill, status="rejected", rejectionNote="not agreed") is not None:
                self.done["rejection"] += 1

    def _reopen(self) -> None:
        for bill in self._some("approved"):
            # from when it is asked for: what its owner does right after may come before the answer
            before = self.approved.pop(bill["id"], None)
            if self._patch(bill, status="pending") is not None:
                self.done["reopening"] += 1
            elif before is not None and bill["id"] not in self.maybe:
                self.approved[bill["id"]] = before

    def _recompute(self) -> None:
        answer = self.http.post("/api/time-bills/recompute", json={"dryRun": self.chance.random() < 0.3})
        assert answer.status_code == 202, answer.text
        self.done["recompute"] += 1

    def _inactivate(self) -> None:
        if not self.spare:
            return
        pillar = self.spare.pop()
        answer = self.http.put(f"/api/customers/{pillar['customerId']}/pillars/{pillar['id']}", json={"active": False})
        assert answer.status_code == 200, answer.text
        self.inactive[pillar["id"]] = pillar["name"]
        self.done["pillar made inactive"] += 1


class Mover:
    """Moves tasks of its own, with hours on them, from customer to customer."""

    def __init__(self, firm: WholeFirm, seed: str) -> None:
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

    def __init__(self, firm: WholeFirm, number: int, seed: str) -> None:
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


class Inviter:
    """Invites a customer's people."""

    def __init__(self, firm: WholeFirm, seed: str) -> None:
        self.name = "inviter"
        self.firm, self.chance, self.by = firm, random.Random(f"{seed} {self.name}"), firm.given.person()
        self.invited: list[str] = []
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        if len(self.invited) >= 40 or self.chance.random() < 0.8:  # there are limits to inviting
            return
        email, customer_id = f"{uuid4()}@acme.example", self.firm.tasks[0]["customerId"]
        body = {"email": email, "name": "Jo Miller", "role": "customer_user"}
        answer = self.by.http.post(f"/api/customers/{customer_id}/users/invite", json=body)
        client = self.by.http
        assert isinstance(client, PatientClient)
        assert answer.status_code == 201 or (answer.status_code == 409 and client.lost), answer.text
        self.invited.append(email)
        self.done["invitation"] += 1


class SlackMember:
    """Somebody in Slack who makes tasks by form, and presses again when told to."""

    def __init__(self, firm: WholeFirm, number: int, seed: str) -> None:
        self.name = f"slack {number}"
        self.firm, self.chance = firm, random.Random(f"{seed} {self.name}")
        self.by = firm.given.person()
        self.id = firm.slack.user(self.by.email)
        self.titles: list[str] = []
        self.slow: list[float] = []  # answers past 3 seconds, in seconds: Slack would have shown an error
        self.done: Counter[str] = Counter()

    def act(self) -> None:
        if self.chance.random() < 0.5:
            self._hand_over(self._command())
            self.done["command"] += 1
            return
        title = f"From Slack {uuid4()}"
        for _ in range(600):
            # each press is a request of its own, with the same form
            content = self._hand_over(self._submission(title))
            if content is not None and "Sorry" not in json.dumps(content):
                break
        else:
            raise AssertionError(f"{title}: told to press again for minutes")
        self.titles.append(title)
        self.done["form"] += 1

    def _hand_over(self, sent: Sent) -> Json | None:
        """The answer's content ({} for none), or None when there was no answer, as while the API starts again."""
        with suppress(httpx.TransportError):
            answer = httpx.post(f"{self.firm.stint.url}{sent.path}", content=sent.body, headers=sent.headers, timeout=30)
            self.firm.traffic.note(answer)
            assert answer.status_code == 200, f"Slack gets {answer.status_code}: {answer.text}"
            if answer.elapsed.total_seconds() > 3:
                self.slow.append(answer.elapsed.total_seconds())
            return answer.json() if answer.content else {}
        self.firm.traffic.note_lost()
        threading.Event().wait(PAUSE_SECONDS)
        return None

    def _command(self) -> Sent:
        hook = self.firm.stint.environment["SLACK_API_URL"].removesuffix("/api/") + new_hook()
        return slack_app.command(
            user=self.id, channel=self.firm.channel, text="Mend it", trigger_id=new_trigger(), response_url=hook
        )

    def _submission(self, title: str) -> Sent:
        customer_id = self.firm.tasks[0]["customerId"]
        element = {"type": "plain_text_input", "action_id": "title", "initial_value": title}
        select = {"type": "external_select", "action_id": "customer", "initial_option": {"value": customer_id}}
        view = {
            "id": f"V{title.rpartition(' ')[2].replace('-', '').upper()}",
            "type": "modal",
            "callback_id": "create_task",
            "private_metadata": json.dumps({"channel_id": self.firm.channel, "customer_id": customer_id}),
            "blocks": [
                {"type": "input", "block_id": "title", "element": element},
                {"type": "input", "block_id": "customer", "element": select},
            ],
        }
        return slack_app.submission(view, {}, user=self.id, trigger_id=new_trigger())


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class People:
    """All of them, at work in a thread each until they are told that it is over."""

    consultants: list[Consultant]
    approver: Approver
    mover: Mover
    desktops: list[Desktop]
    inviter: Inviter
    members: list[SlackMember]
    broken: list[str] = field(default_factory=list)  # promises that somebody saw broken
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def of(cls, firm: WholeFirm, seed: str, *, consultants: int = 8) -> "People":
        return cls(
            [Consultant(firm, number, seed) for number in range(consultants)],
            Approver(firm, seed),
            Mover(firm, seed),
            [Desktop(firm, number, seed) for number in range(2)],
            Inviter(firm, seed),
            [SlackMember(firm, number, seed) for number in range(2)],
        )

    @property
    def everybody(self) -> list[Worker]:
        return [*self.consultants, self.approver, self.mover, *self.desktops, self.inviter, *self.members]

    @property
    def with_hours(self) -> list[Consultant | Desktop]:
        return [*self.consultants, self.mover.consultant, *self.desktops]

    @property
    def done(self) -> Counter[str]:
        """What was acknowledged, by kind."""
        found: Counter[str] = Counter()
        for person in self.everybody:
            found += person.done  # type: ignore[attr-defined]
        return found

    def begin(self) -> None:
        for person in self.everybody:
            thread = threading.Thread(target=self._work, args=(person,), name=person.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Lets each finish what they are at, and returns when all have."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, person: Worker) -> None:
        pause = random.Random(person.name)
        while not self._over.is_set() and not self.broken:
            try:
                person.act()
            except Exception as error:
                self.broken.append(f"{person.name}: {type(error).__name__}: {error}")
                return
            self._over.wait(pause.uniform(0, PAUSE_AT_MOST))
