"""The steps of a random history: timers, time entries and offline clients; each is compared with the model."""

from datetime import UTC, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.hours.model.installation import Environment, ModeledFirm
from tests.hours.model.shapes import AHEAD, ZONE, Bill, Entry, Rounding, Seen, Stop, Worker, moment, now
from tests.support.given import Json, Person

CONSULTANT, ADMIN = st.sampled_from([0, 0, 1]), 2
ANY_PERSON = st.sampled_from([0, 0, 0, 1, 1, ADMIN])
DECIDING_PERSON = st.sampled_from([ADMIN] * 7 + [0])
OWNER_OR_OTHER = st.sampled_from([None] * 6 + [ADMIN, 0])  # None: the owner
PICK = st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 4, 6, 9, 13])
TASK = st.integers(0, 3)
AREA = st.integers(0, 3)
SEEN = st.sampled_from(["latest"] * 4 + [None, None, "older"])
# seconds on both sides of the edges of the rounding rules, and 0, which leaves a sum as it is
EDGES = [0, 1, 29, 30, 149, 150, 179, 180, 299, 300, 449, 450, 899, 900, 901]
LENGTHS = [*EDGES, *EDGES, 1800, 1800, 3600, 3600, 7200, 45_000, 90_000]
SECONDS = st.sampled_from(LENGTHS)
MINUTE = st.sampled_from([0, 1, 30, 60, 545, 600, 601, 720, 900, 1320, 1410, 1439])
When = tuple[int, int, int]
WHEN = st.tuples(st.integers(0, 1), MINUTE, st.sampled_from([0, 0, 17, 59]))  # days back, minute and second of the day
MINUTES_BACK = st.sampled_from([None, None, 1, 7, 61, -10, 50_000])  # some of them are refused
CLOCK_SKEW = timedelta(minutes=1)
NOTE = st.sampled_from(["", "read logs", "Ümläute ✓"])
ROUNDING = st.builds(Rounding, st.sampled_from([1, 5, 6, 10, 15, 30]), st.sampled_from(["nearest", "up"]))


class HourRules(RuleBasedStateMachine):
    """Some days of one firm. At times its relay is paused: then messages wait, and late time arrives for decided bills."""

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self.environment = environment
        self.paused = False
        self.logged: list[tuple[Person, Json]] = []

    @initialize(
        first=ROUNDING, second=ROUNDING, hours=st.lists(st.tuples(CONSULTANT, TASK, WHEN, SECONDS), min_size=2, max_size=5)
    )
    def create_firm(self, first: Rounding, second: Rounding, hours: list[tuple[int, int, When, int]]) -> None:
        """Some entries exist already."""
        self.firm = ModeledFirm(self.environment, [first, second])
        self.model, self.assert_agrees = self.firm.model, self.firm.assert_agrees
        self.today = now().astimezone(ZoneInfo(ZONE)).date()
        for who, task, when, seconds in hours:
            self._log(who, who, self.task(task), self.at(when), seconds, overlap=True)

    # choices

    def by(self, who: int) -> tuple[Person, Worker]:
        person = self.firm.people[who]
        return person, self.firm.workers[person.id]

    def task(self, pick: int) -> str:
        return list(self.model.tasks)[pick]

    def bills(self) -> list[Bill]:
        """Those with known ids, the latest first; deleted ones at the end."""
        seen = [bill for bill in reversed(self.model.bills) if bill.id is not None]
        return sorted(seen, key=lambda bill: bill.deleted)

    def approved(self) -> list[Bill]:
        return [bill for bill in self.bills() if bill.status == "approved" and not bill.deleted]

    def in_xero(self) -> list[Bill]:
        return [bill for bill in self.approved() if bill.xero == "synced"]

    def bill(self, pick: int, first: str = "") -> Bill:
        """One of the bills; those of the status `first` come first."""
        bills = sorted(self.bills(), key=lambda bill: bill.deleted or bill.status != first)
        return bills[pick % len(bills)]

    def entry(self, pick: int, who: int | None) -> tuple[str, Person, Worker]:
        """One of the entries (the latest first, deleted ones last), or an unknown id; and the person who changes it, mostly the
        owner."""
        entries = sorted(reversed(self.model.entries.values()), key=lambda entry: entry.deleted)
        entry = entries[pick % len(entries)] if entries else None
        owners = [number for number, person in enumerate(self.firm.people) if entry and person.id == entry.user]
        return entry.id if entry else str(uuid4()), *self.by(who if who is not None else [*owners, 0][0])

    def at(self, when: When) -> datetime:
        days, minute, second = when
        midnight = datetime.combine(self.today - timedelta(days=days), time(), ZoneInfo(ZONE))
        found = midnight.astimezone(UTC) + timedelta(minutes=minute, seconds=second)
        # so close to the limit of a day ahead that the outcome would depend on the clock
        is_close = any(abs(found + timedelta(seconds=seconds) - now() - AHEAD) < CLOCK_SKEW for seconds in LENGTHS)
        return found - 5 * CLOCK_SKEW if is_close else found

    def past(self, when: When) -> datetime:
        """That time, or a day earlier if it is in the future."""
        return self.at(when) if self.at(when) < now() else self.at((when[0] + 1, *when[1:]))

    # timers

    @rule(who=ANY_PERSON, task=TASK, notes=NOTE)
    def start(self, who: int, task: int, notes: str) -> None:
        person, worker = self.by(who)
        answer = person.http.post(f"/api/tasks/{self.task(task)}/start", json={"notes": notes})
        self.assert_agrees(answer, lambda response: 201 if self.model.start(worker, self.task(task), notes, response) else 200)

    @precondition(lambda self: self.model.timers or self.model.stops)
    @rule(who=ANY_PERSON, task=st.one_of(st.none(), st.none(), TASK))
    def stop(self, who: int, task: int | None) -> None:
        """Stops a running timer; or any task's, which may not be running, or may have been stopped before."""
        running_people = [number for number, person in enumerate(self.firm.people) if person.id in self.model.timers]
        person, worker = self.by(running_people[0] if task is None and running_people else who)
        running = self.model.timers.get(person.id)
        stopped_task = running.task if task is None and running is not None else self.task(task or 0)
        answer = person.http.post(f"/api/tasks/{stopped_task}/stop", params={"wait": 0 if self.paused else 10})
        stopped: list[Stop] = []

        def expected(response: Json) -> int:
            stopped.append(self.model.stop(worker, stopped_task, response))
            if not self.paused:
                self.model.process_pending()
            entry = self.model.entries.get(stopped[0].entry)
            return 202 if self.paused or entry is None or entry.deleted else 200

        self.assert_agrees(answer, expected)
        for stop in stopped:
            body = answer.json()
            found = body["entryId"], body["taskId"], moment(body["startTime"]), moment(body["endTime"]), body["duration"]
            assert found == (stop.entry, stop.task, stop.start, stop.end, int((stop.end - stop.start).total_seconds()))

    @rule(who=ANY_PERSON, whose=ANY_PERSON, task=TASK, back=st.one_of(MINUTES_BACK, WHEN), notes=st.one_of(st.none(), NOTE))
    def start_or_change_timer(self, who: int, whose: int, task: int, back: int | When | None, notes: str | None) -> None:
        person, worker = self.by(who)
        owner = self.firm.people[whose if who == ADMIN or whose == ADMIN else who].id
        start = now().replace(microsecond=0) - timedelta(minutes=back) if isinstance(back, int) else back and self.past(back)
        body = {"taskId": self.task(task), "startTime": start and start.isoformat(), "notes": notes}
        answer = person.http.put(f"/api/active-timers/{owner}", json=body)

        def expected(response: Json) -> int:
            return 201 if self.model.start_or_change_timer(worker, owner, self.task(task), start, notes, response) else 200

        self.assert_agrees(answer, expected)

    @rule(who=ANY_PERSON, whose=st.one_of(st.none(), ANY_PERSON))
    def discard_timer(self, who: int, whose: int | None) -> None:
        person, worker = self.by(who)
        owner = self.firm.people[who if whose is None else whose].id
        answer = person.http.delete(f"/api/active-timers/{owner}")
        self.assert_agrees(answer, lambda _: self.model.discard_timer(worker, owner), success=204)

    # entries

    @rule(who=ANY_PERSON, whose=ANY_PERSON, task=TASK, when=WHEN, seconds=SECONDS, overlap=st.booleans())
    def log(self, who: int, whose: int, task: int, when: When, seconds: int, overlap: bool) -> None:
        self._log(who, whose, self.task(task), self.at(when), seconds, overlap)

    def _log(self, who: int, whose: int, task: str, start: datetime, seconds: int, overlap: bool) -> None:
        person, worker = self.by(who)
        owner = self.firm.people[whose].id
        entry = Entry(str(uuid4()), task, owner, self.model.tasks[task], start, start + timedelta(seconds=seconds), "by hand")
        body: Json = {"id": entry.id, "taskId": task, "userId": owner, "startTime": start.isoformat(), "duration": seconds}
        body |= {"notes": entry.notes, "allowOverlap": overlap}
        self.assert_agrees(
            person.http.post("/api/time-entries", json=body),
            lambda _: self.model.log(worker, entry, allow_overlap=overlap),
            success=201,
        )
        self.logged.append((person, body))

    @rule(pick=PICK)
    def log_again(self, pick: int) -> None:
        """Repeats a request: the same entry, unless it has been deleted."""
        person, body = self.logged[-1 - pick % len(self.logged)]
        if (entry := self.model.entries.get(body["id"])) is not None:
            answer = person.http.post("/api/time-entries", json=body)
            self.assert_agrees(answer, lambda _: 409 if entry.deleted else 201)

    @rule(
        who=OWNER_OR_OTHER,
        pick=PICK,
        change=st.tuples(st.one_of(st.none(), WHEN), st.one_of(st.none(), st.none(), WHEN), st.one_of(st.none(), SECONDS)),
        overlap=st.booleans(),
        seen=SEEN,
    )
    def change_times(
        self, who: int | None, pick: int, change: tuple[When | None, When | None, int | None], overlap: bool, seen: Seen
    ) -> None:
        """Sends any combination of start, end and duration."""
        if change == (None, None, None):
            return
        entry_id, person, worker = self.entry(pick, who)
        start, end, seconds = change
        times = start and self.at(start), end and self.at(end), seconds
        body: Json = {"allowOverlap": overlap, **self.firm.version(entry_id, seen), "duration": seconds}
        body |= {"startTime": times[0] and times[0].isoformat(), "endTime": times[1] and times[1].isoformat()}
        answer = person.http.patch(f"/api/time-entries/{entry_id}", json=body)
        self.assert_agrees(answer, lambda _: self.model.change_times(worker, entry_id, times, allow_overlap=overlap, seen=seen))

    @rule(who=OWNER_OR_OTHER, pick=PICK, task=TASK, seen=SEEN)
    def give_to_task(self, who: int | None, pick: int, task: int, seen: Seen) -> None:
        entry_id, person, worker = self.entry(pick, who)
        body = {"taskId": self.task(task), **self.firm.version(entry_id, seen)}
        answer = person.http.patch(f"/api/time-entries/{entry_id}", json=body)
        self.assert_agrees(answer, lambda _: self.model.give_to_task(worker, entry_id, self.task(task), seen))

    @rule(who=OWNER_OR_OTHER, pick=PICK, note=NOTE, append=st.booleans(), seen=SEEN)
    def write_notes(self, who: int | None, pick: int, note: str, append: bool, seen: Seen) -> None:
        entry_id, person, worker = self.entry(pick, who)
        notes, line = (None, note or "one more") if append else (note, None)
        body = {"append": line} if append else {"notes": notes}
        answer = person.http.post(f"/api/time-entries/{entry_id}/notes", json=body | self.firm.version(entry_id, seen))
        self.assert_agrees(answer, lambda _: self.model.write_notes(worker, entry_id, notes, line, seen))

    @rule(who=OWNER_OR_OTHER, pick=PICK, seen=SEEN)
    def delete_entry(self, who: int | None, pick: int, seen: Seen) -> None:
        entry_id, person, worker = self.entry(pick, who)
        answer = person.http.delete(f"/api/time-entries/{entry_id}", params=self.firm.version(entry_id, seen))
        self.assert_agrees(answer, lambda _: self.model.delete_entry(worker, entry_id, seen), success=204)

    # tasks and customers

    @rule(who=ANY_PERSON, task=TASK, area=AREA)
    def move_task(self, who: int, task: int, area: int) -> None:
        person, _ = self.by(who)
        to = self.firm.areas[area]
        answer = person.http.put(f"/api/tasks/{self.task(task)}", json={"customerId": to.customer, "pillarId": to.pillar})
        self.assert_agrees(answer, lambda _: self.model.move_task(self.task(task), to))

    @rule(area=AREA, rounding=ROUNDING)
    def set_rounding(self, area: int, rounding: Rounding) -> None:
        self.firm.set_rounding(self.firm.areas[area].customer, rounding)

    # offline clients

    @rule(who=ANY_PERSON, task=TASK, when=WHEN, seconds=SECONDS, append=NOTE, delete=st.booleans())
    def push(self, who: int, task: int, when: When, seconds: int, append: str, delete: bool) -> None:
        self._push(who, self.task(task), self.past(when), seconds, append, delete)

    def _push(self, who: int, task: str, start: datetime, seconds: int, append: str, delete: bool) -> None:
        """A stop that was made offline, with changes of its entry; sent twice, applied once."""
        person, worker = self.by(who)
        if (
            abs(start + timedelta(seconds=seconds) - now()) < 2 * CLOCK_SKEW
        ):  # so close to now that the outcome would depend on the clock
            start -= timedelta(days=1)
        stop = Stop(str(uuid4()), person.id, task, start, start + timedelta(seconds=seconds), "offline")
        is_future = stop.end > now()
        operations = [operation("timer.stop", stop.entry, taskId=task, notes=stop.notes, **times(stop))]
        if append and not is_future:
            operations.append(operation("entry.notes", stop.entry, append=append))
        if delete and not is_future:
            operations.append(operation("entry.delete", stop.entry, base=len(operations)))
        body = {"lastSyncTimestamp": self.firm.stores[person.id].since, "operations": operations}
        for _ in range(2):
            results = person.post("/api/sync", body, 200)["results"]
            assert {result["outcome"] for result in results} == {"rejected" if is_future else "applied"}, results
        if is_future:
            return
        self.model.stop_offline(worker, stop)
        if append or delete:
            self.model.finish_stop(stop.entry)
        if append:
            self.model.write_notes(worker, stop.entry, None, append, None)
        if delete:
            self.model.delete_entry(worker, stop.entry, None)


def times(stop: Stop) -> Json:
    return {"startTime": stop.start.isoformat(), "endTime": stop.end.isoformat()}


def operation(kind: str, row_id: str, *, base: int | None = None, **data: object) -> Json:
    return {"opId": str(uuid4()), "kind": kind, "baseVersion": base, "data": {"id": row_id, **data}}
