"""What a random history does with hours: timers, time entries, what clients that were away bring; each beside the model."""

from datetime import UTC, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.billing.firm import Firm, House
from tests.billing.shapes import ZONE, Bill, Entry, Rounding, Seen, Stop, Worker, moment, now
from tests.given import Json, Person

CONSULTANT, ADMIN = st.sampled_from([0, 0, 1]), 2
ANYBODY = st.sampled_from([0, 0, 0, 1, 1, ADMIN])
DECIDES = st.sampled_from([ADMIN] * 7 + [0])
OWNER = st.sampled_from([None] * 6 + [ADMIN, 0])  # None: whose it is
PICK = st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 4, 6, 9, 13])
TASK = st.integers(0, 3)
PLACE = st.integers(0, 3)
SEEN = st.sampled_from(["latest"] * 4 + [None, None, "older"])
# what is on both sides of where some rule rounds; and what no rule rounds, and leaves a sum where it is
EDGES = [0, 1, 29, 30, 149, 150, 179, 180, 299, 300, 449, 450, 899, 900, 901]
SECONDS = st.sampled_from([*EDGES, *EDGES, 1800, 1800, 3600, 3600, 7200, 45_000, 90_000])
MINUTE = st.sampled_from([0, 1, 30, 60, 545, 600, 601, 720, 900, 1320, 1410, 1439])
When = tuple[int, int, int]
WHEN = st.tuples(st.integers(0, 1), MINUTE, st.sampled_from([0, 0, 17, 59]))  # days back, minute and second of the day
MINUTES_BACK = st.sampled_from([None, None, 1, 7, 61, -10, 50_000])  # some of them cannot be
CLOCK_SKEW = timedelta(minutes=1)
NOTE = st.sampled_from(["", "read logs", "Ümläute ✓"])
ROUNDING = st.builds(Rounding, st.sampled_from([1, 5, 6, 10, 15, 30]), st.sampled_from(["nearest", "up"]))


class Hours(RuleBasedStateMachine):
    """One firm's days. Its relay sleeps at times: then promises wait, and late time comes to bills that are decided."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self.house = house
        self.asleep = False
        self.logged: list[tuple[Person, Json]] = []

    @initialize(
        first=ROUNDING, second=ROUNDING, hours=st.lists(st.tuples(CONSULTANT, TASK, WHEN, SECONDS), min_size=2, max_size=5)
    )
    def a_firm(self, first: Rounding, second: Rounding, hours: list[tuple[int, int, When, int]]) -> None:
        """It has worked a little already."""
        self.firm = Firm(self.house, [first, second])
        self.books, self.agree = self.firm.books, self.firm.agree
        self.today = now().astimezone(ZoneInfo(ZONE)).date()
        for who, task, when, seconds in hours:
            self._log(who, who, self.task(task), self.at(when), seconds, overlap=True)

    # who and what

    def by(self, who: int) -> tuple[Person, Worker]:
        person = self.firm.people[who]
        return person, self.firm.workers[person.id]

    def task(self, pick: int) -> str:
        return list(self.books.tasks)[pick]

    def bills(self) -> list[Bill]:
        """Those that were seen, the latest first; at the end those that are gone."""
        seen = [bill for bill in reversed(self.books.bills) if bill.id is not None]
        return sorted(seen, key=lambda bill: bill.deleted)

    def approved(self) -> list[Bill]:
        return [bill for bill in self.bills() if bill.status == "approved" and not bill.deleted]

    def in_xero(self) -> list[Bill]:
        return [bill for bill in self.approved() if bill.xero == "synced"]

    def bill(self, pick: int, first: str = "") -> Bill:
        """One of them, those of that status first."""
        bills = sorted(self.bills(), key=lambda bill: bill.deleted or bill.status != first)
        return bills[pick % len(bills)]

    def entry(self, pick: int, who: int | None) -> tuple[str, Person, Worker]:
        """One of the latest first, and at the end one that is gone, or never was; and who changes it, mostly its owner."""
        entries = sorted(reversed(self.books.entries.values()), key=lambda entry: entry.deleted)
        entry = entries[pick % len(entries)] if entries else None
        owners = [number for number, person in enumerate(self.firm.people) if entry and person.id == entry.user]
        return entry.id if entry else str(uuid4()), *self.by(who if who is not None else [*owners, 0][0])

    def at(self, when: When) -> datetime:
        days, minute, second = when
        midnight = datetime.combine(self.today - timedelta(days=days), time(), ZoneInfo(ZONE))
        return midnight.astimezone(UTC) + timedelta(minutes=minute, seconds=second)

    def past(self, when: When) -> datetime:
        """That time, or the same of an earlier day."""
        return self.at(when) if self.at(when) < now() else self.at((when[0] + 1, *when[1:]))

    # timers

    @rule(who=ANYBODY, task=TASK, notes=NOTE)
    def start(self, who: int, task: int, notes: str) -> None:
        person, worker = self.by(who)
        answer = person.http.post(f"/api/tasks/{self.task(task)}/start", json={"notes": notes})
        self.agree(answer, lambda told: 201 if self.books.start(worker, self.task(task), notes, told) else 200)

    @precondition(lambda self: self.books.timers or self.books.stops)
    @rule(who=ANYBODY, task=st.one_of(st.none(), st.none(), TASK))
    def stop(self, who: int, task: int | None) -> None:
        """A timer that runs; or one that may not run, or was stopped before."""
        running_at = [number for number, person in enumerate(self.firm.people) if person.id in self.books.timers]
        person, worker = self.by(running_at[0] if task is None and running_at else who)
        running = self.books.timers.get(person.id)
        chosen = running.task if task is None and running is not None else self.task(task or 0)
        answer = person.http.post(f"/api/tasks/{chosen}/stop", params={"wait": 0 if self.asleep else 10})
        stopped: list[Stop] = []

        def expected(told: Json) -> int:
            stopped.append(self.books.stop(worker, chosen, told))
            if not self.asleep:
                self.books.work()
            entry = self.books.entries.get(stopped[0].entry)
            return 202 if self.asleep or entry is None or entry.deleted else 200

        self.agree(answer, expected)
        for stop in stopped:
            said = answer.json()
            found = said["entryId"], said["taskId"], moment(said["startTime"]), moment(said["endTime"]), said["duration"]
            assert found == (stop.entry, stop.task, stop.start, stop.end, int((stop.end - stop.start).total_seconds()))

    @rule(who=ANYBODY, whose=ANYBODY, task=TASK, back=st.one_of(MINUTES_BACK, WHEN), notes=st.one_of(st.none(), NOTE))
    def put_timer(self, who: int, whose: int, task: int, back: int | When | None, notes: str | None) -> None:
        person, worker = self.by(who)
        owner = self.firm.people[whose if who == ADMIN or whose == ADMIN else who].id
        start = now().replace(microsecond=0) - timedelta(minutes=back) if isinstance(back, int) else back and self.past(back)
        body = {"taskId": self.task(task), "startTime": start and start.isoformat(), "notes": notes}
        answer = person.http.put(f"/api/active-timers/{owner}", json=body)

        def expected(told: Json) -> int:
            return 201 if self.books.put_timer(worker, owner, self.task(task), start, notes, told) else 200

        self.agree(answer, expected)

    @rule(who=ANYBODY, whose=st.one_of(st.none(), ANYBODY))
    def discard_timer(self, who: int, whose: int | None) -> None:
        person, worker = self.by(who)
        owner = self.firm.people[who if whose is None else whose].id
        answer = person.http.delete(f"/api/active-timers/{owner}")
        self.agree(answer, lambda _: self.books.discard_timer(worker, owner) or 204)

    # entries

    @rule(who=ANYBODY, whose=ANYBODY, task=TASK, when=WHEN, seconds=SECONDS, overlap=st.booleans())
    def log(self, who: int, whose: int, task: int, when: When, seconds: int, overlap: bool) -> None:
        self._log(who, whose, self.task(task), self.at(when), seconds, overlap)

    def _log(self, who: int, whose: int, task: str, start: datetime, seconds: int, overlap: bool) -> None:
        person, worker = self.by(who)
        owner = self.firm.people[whose].id
        entry = Entry(str(uuid4()), task, owner, self.books.tasks[task], start, start + timedelta(seconds=seconds), "by hand")
        body: Json = {"id": entry.id, "taskId": task, "userId": owner, "startTime": start.isoformat(), "duration": seconds}
        body |= {"notes": entry.notes, "allowOverlap": overlap}
        self.agree(
            person.http.post("/api/time-entries", json=body),
            lambda _: self.books.log(worker, entry, allow_overlap=overlap) or 201,
        )
        self.logged.append((person, body))

    @rule(pick=PICK)
    def log_again(self, pick: int) -> None:
        """The same request once more: the same entry, unless it is gone by now."""
        person, body = self.logged[-1 - pick % len(self.logged)]
        if (entry := self.books.entries.get(body["id"])) is not None:
            answer = person.http.post("/api/time-entries", json=body)
            self.agree(answer, lambda _: 409 if entry.deleted else 201)

    @rule(
        who=OWNER,
        pick=PICK,
        start=st.one_of(st.none(), WHEN),
        end=st.one_of(st.none(), st.none(), WHEN),
        seconds=st.one_of(st.none(), SECONDS),
        overlap=st.booleans(),
        seen=SEEN,
    )
    def change_times(
        self,
        who: int | None,
        pick: int,
        start: When | None,
        end: When | None,
        seconds: int | None,
        overlap: bool,
        seen: Seen,
    ) -> None:
        if start is end is seconds is None:
            return
        entry_id, person, worker = self.entry(pick, who)
        times = start and self.at(start), end and self.at(end), seconds
        body: Json = {"allowOverlap": overlap, **self.firm.version(entry_id, seen), "duration": seconds}
        body |= {"startTime": times[0] and times[0].isoformat(), "endTime": times[1] and times[1].isoformat()}
        answer = person.http.patch(f"/api/time-entries/{entry_id}", json=body)
        self.agree(answer, lambda _: self.books.change_times(worker, entry_id, *times, allow_overlap=overlap, seen=seen))

    @rule(who=OWNER, pick=PICK, note=NOTE, append=st.booleans(), seen=SEEN)
    def write_notes(self, who: int | None, pick: int, note: str, append: bool, seen: Seen) -> None:
        entry_id, person, worker = self.entry(pick, who)
        notes, line = (None, note or "one more") if append else (note, None)
        body = {"append": line} if append else {"notes": notes}
        answer = person.http.post(f"/api/time-entries/{entry_id}/notes", json=body | self.firm.version(entry_id, seen))
        self.agree(answer, lambda _: self.books.write_notes(worker, entry_id, notes, line, seen))

    @rule(who=OWNER, pick=PICK, seen=SEEN)
    def delete_entry(self, who: int | None, pick: int, seen: Seen) -> None:
        entry_id, person, worker = self.entry(pick, who)
        answer = person.http.delete(f"/api/time-entries/{entry_id}", params=self.firm.version(entry_id, seen))
        self.agree(answer, lambda _: self.books.delete_entry(worker, entry_id, seen) or 204)

    # tasks and customers

    @rule(who=ANYBODY, task=TASK, place=PLACE)
    def move_task(self, who: int, task: int, place: int) -> None:
        person, _ = self.by(who)
        to = self.firm.places[place]
        answer = person.http.put(f"/api/tasks/{self.task(task)}", json={"customerId": to.customer, "pillarId": to.pillar})
        self.agree(answer, lambda _: self.books.move_task(self.task(task), to))

    @rule(place=PLACE, rounding=ROUNDING)
    def set_rounding(self, place: int, rounding: Rounding) -> None:
        self.firm.set_rounding(self.firm.places[place].customer, rounding)

    # clients that were away

    @rule(who=ANYBODY, task=TASK, when=WHEN, seconds=SECONDS, append=NOTE, delete=st.booleans())
    def push(self, who: int, task: int, when: When, seconds: int, append: str, delete: bool) -> None:
        self._push(who, self.task(task), self.past(when), seconds, append, delete)

    def _push(self, who: int, task: str, start: datetime, seconds: int, append: str, delete: bool) -> None:
        """A stop that was made offline, and what its user did to the entry then; sent twice, done once."""
        person, worker = self.by(who)
        if abs(start + timedelta(seconds=seconds) - now()) < 2 * CLOCK_SKEW:  # too near to know how it will be taken
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
        self.books.stop_offline(worker, stop)
        if append or delete:
            self.books.finish_stop(stop.entry)
        if append:
            self.books.write_notes(worker, stop.entry, None, append, None)
        if delete:
            self.books.delete_entry(worker, stop.entry, None)


def times(stop: Stop) -> Json:
    return {"startTime": stop.start.isoformat(), "endTime": stop.end.isoformat()}


def operation(kind: str, row_id: str, *, base: int | None = None, **data: object) -> Json:
    return {"opId": str(uuid4()), "kind": kind, "baseVersion": base, "data": {"id": row_id, **data}}
