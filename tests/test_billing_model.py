"""Random histories of a firm's hours against a plain model: whatever people do, in whatever order the work behind that is done,
and whoever is killed meanwhile, every bill, entry, timer, client's copy, and Xero are as the model says after every step.

STINT_TEST_SEED=… takes the same steps again.
"""

import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from tests.billing.firm import FALLBACK, PARTS, House
from tests.billing.hours import (
    ADMIN,
    ANYBODY,
    DECIDES,
    NOTE,
    OWNER,
    PICK,
    PLACE,
    SECONDS,
    SEEN,
    TASK,
    WHEN,
    Hours,
    When,
)
from tests.billing.shapes import ZONE, Bill, Entry, Refused, Seen, Worker
from tests.given import Json
from tests.installation import Installation, eventually, new_database
from tests.sandbox import a_xero
from tests.sizes import FULL

EXAMPLES, STEPS = (150, 60) if FULL else (4, 50)
# a worker that is killed in a call to Xero holds its lease for 21 seconds more
ACCIDENTS = PARTS if FULL else PARTS[:2]

PATIENCE = {
    "STINT_TIMEZONE": ZONE,
    "XERO_FALLBACK_USER": FALLBACK,
    "XERO_CALLS_PER_MINUTE": "100000",
    "STINT_XERO_LATE_SECONDS": "3",
    "STINT_XERO_CHECK_SECONDS": "2",
}


class History(Hours):
    """And what is decided about hours, and what happens to the processes meanwhile."""

    # bills

    @precondition(lambda self: self.bills())
    @rule(who=DECIDES, pick=PICK, seen=SEEN)
    def approve(self, who: int, pick: int, seen: Seen) -> None:
        bill = self.bill(pick, "pending")
        self._decide(who, bill, seen, lambda by: self.books.approve(by, bill, seen), status="approved")

    @precondition(lambda self: self.bills())
    @rule(who=DECIDES, pick=PICK, seen=SEEN)
    def reject(self, who: int, pick: int, seen: Seen) -> None:
        bill = self.bill(pick, "pending")
        change = {"status": "rejected", "rejectionNote": "Which server?"}
        self._decide(who, bill, seen, lambda by: self.books.reject(by, bill, "Which server?", seen), **change)

    @precondition(lambda self: self.bills())
    @rule(who=DECIDES, pick=PICK, seen=SEEN)
    def reopen(self, who: int, pick: int, seen: Seen) -> None:
        bill = self.bill(pick, "approved")
        self._decide(who, bill, seen, lambda by: self.books.reopen(by, bill, seen), status="pending")

    @precondition(lambda self: self.bills())
    @rule(who=OWNER, pick=PICK, memo=NOTE, seen=SEEN)
    def write_memo(self, who: int | None, pick: int, memo: str, seen: Seen) -> None:
        bill = self.bill(pick)
        owner = [person.id for person in self.firm.people].index(bill.key.user)
        self._decide(
            owner if who is None else who, bill, seen, lambda by: self.books.write_memo(by, bill, memo, seen), memo=memo
        )

    def _decide(self, who: int, bill: Bill, seen: Seen, expected: Callable[[Worker], None], **change: str) -> None:
        person, worker = self.by(who)
        answer = person.http.patch(f"/api/time-bills/{bill.id}", json=change | self.firm.version(bill.id, seen))
        self.agree(answer, lambda _: expected(worker))

    @precondition(lambda self: self.bills())
    @rule(picks=st.sets(PICK, min_size=1, max_size=3), older=st.booleans())
    def approve_all(self, picks: set[int], older: bool) -> None:
        """Some at once; the first perhaps as it was seen long ago."""
        bills = list(dict.fromkeys(self.bill(pick, "pending") for pick in sorted(picks)))
        seen = {bill: "older" if older and bill is bills[0] else "latest" for bill in bills}
        asked = [{"id": bill.id, **self.firm.version(bill.id, seen[bill])} for bill in bills]
        answer = self.firm.admin.http.post("/api/time-bills/approve-all", json={"bills": asked})
        self.agree(answer, lambda _: 200)
        found = {result["id"] for result in answer.json()["results"] if result["result"] == "approved"}
        assert found == {bill.id for bill in bills if seen[bill] == "latest" and self._is_approved(bill)}

    def _is_approved(self, bill: Bill) -> bool:
        try:
            self.books.approve(self.firm.workers[self.firm.admin.id], bill, "latest")
        except Refused:
            return False
        return True

    @precondition(lambda self: not self.asleep)
    @rule(
        whose=ANYBODY,
        imports=st.lists(st.tuples(TASK, WHEN, SECONDS), max_size=3),
        damaged=st.one_of(st.none(), PICK),
        narrow=st.booleans(),
    )
    def recompute(self, whose: int, imports: list[tuple[int, When, int]], damaged: int | None, narrow: bool) -> None:
        """What was imported gets its bills, and a sum that somebody has damaged is right again; as the dry run said."""
        owner = self.firm.people[whose].id
        for task, when, seconds in imports:
            self._import(self.task(task), owner, self.at(when), seconds)
        bill = self.bill(damaged) if damaged is not None and self.bills() else None
        if bill is not None and not bill.deleted and bill.status != "approved" and (not narrow or bill.key.user == owner):
            bill.seconds += 61
            with self.house.stint.sql() as conn:
                conn.execute("UPDATE time_bills SET seconds = seconds + 61, version = version + 1 WHERE id = %s", (bill.id,))
        scope = {"userId": owner} if narrow else {}
        would, did = self._recomputed(scope | {"dryRun": True}), self._recomputed(scope)
        expected = {
            (key.user, key.place.customer, key.place.pillar, str(key.day)): (change.before, change.after, change.added)
            for key, change in self.books.recompute().items()
        }
        assert would == did == expected

    def _import(self, task: str, owner: str, start: datetime, seconds: int) -> None:
        entry = Entry(str(uuid4()), task, owner, self.books.tasks[task], start, start + timedelta(seconds=seconds), "")
        self.books.import_entry(entry)
        with self.house.stint.sql() as conn:
            conn.execute(
                """
                INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                """,
                (entry.id, task, owner, entry.place.customer, entry.place.pillar, entry.start, entry.end, entry.key.day),
            )

    def _recomputed(self, scope: Json) -> dict[tuple[str, ...], tuple[int | None, int, int]]:
        """What the job changed, or would, of this firm's bills."""
        admin = self.firm.admin
        path = f"/api/time-bills/recompute/{admin.post('/api/time-bills/recompute', scope, status=202)['id']}"
        job = eventually(lambda: (found := admin.get(path))["state"] == "done" and found, why="the recompute is done")
        return {
            (row["userId"], row["customerId"], row["pillarId"], row["date"]): (
                row["secondsBefore"],
                row["secondsAfter"],
                row["entriesAdded"],
            )
            for row in job["changes"]
        }

    @precondition(lambda self: self.bills())
    @rule(
        pick=PICK,
        decision=st.sampled_from(["approve", "approve", "reject", ""]),
        when=WHEN,
        seconds=SECONDS,
        offline=st.booleans(),
    )
    def late_time(self, pick: int, decision: str, when: When, seconds: int, offline: bool) -> None:
        """It comes for the key of a bill that an admin has perhaps just decided about."""
        bill = self.bill(pick, "pending" if decision else "approved")
        if decision == "approve":
            self.approve(ADMIN, pick, "latest")
        elif decision == "reject":
            self.reject(ADMIN, pick, "latest")
        tasks = [task for task, place in self.books.tasks.items() if place == bill.key.place]
        if bill.deleted or not tasks:
            return
        whose = [person.id for person in self.firm.people].index(bill.key.user)
        start = self.at(((self.today - bill.key.day).days, *when[1:]))
        if offline:
            self._push(whose, tasks[0], start, seconds, append="", delete=False)
        else:
            self._log(whose, whose, tasks[0], start, seconds, overlap=True)

    @precondition(lambda self: self.bills())
    @rule(pick=PICK, place=PLACE, seconds=st.one_of(st.none(), SECONDS))
    def reopen_what_has_moved(self, pick: int, place: int, seconds: int | None) -> None:
        """A task is moved while a bill with its hours is approved; perhaps late time comes; then the bill is opened again."""
        bill = self.bill(pick, "pending")
        tasks = list(dict.fromkeys(entry.task for entry in self.books.entries_of(bill)))
        if not tasks:
            return
        self.approve(ADMIN, pick, "latest")
        self._kept()
        self.move_task(ADMIN, list(self.books.tasks).index(tasks[0]), place)
        self._kept()
        if seconds is not None:
            whose = [person.id for person in self.firm.people].index(bill.key.user)
            self._push(whose, tasks[0], self.at(((self.today - bill.key.day).days, 60, 0)), seconds, append="", delete=False)
            self._kept()
        self._decide(ADMIN, bill, None, lambda by: self.books.reopen(by, bill, None), status="pending")

    def _kept(self) -> None:
        """Promises are kept before the next step, unless nobody is at work."""
        if not self.asleep:
            self.firm.settles()

    # clients that were away

    @rule(who=ANYBODY, limit=st.sampled_from([1000, 1000, 2]))
    def sync(self, who: int, limit: int) -> None:
        person, _ = self.by(who)
        self._kept()
        self.firm.stores[person.id].sync(limit)
        self.firm.check_store(person)

    # Xero

    @precondition(lambda self: self.in_xero())
    @rule(pick=PICK, status=st.sampled_from(["INVOICED", "LOCKED", "ACTIVE", "ACTIVE"]))
    def invoice(self, pick: int, status: str) -> None:
        """Somebody in Xero puts an entry onto an invoice, or takes it off."""
        bill = self.in_xero()[pick % len(self.in_xero())]
        [entry] = [row for row in self.house.xero.entries() if row["description"].endswith(f"[bill:{bill.id}]")]
        self.house.xero.changes(entry["timeEntryId"], status=status)
        bill.invoiced = status != "ACTIVE"

    # what happens to the processes

    @rule(pick=st.integers(0, 29), back=st.integers(0, 2))
    def deliver_again(self, pick: int, back: int) -> None:
        self.house.deliver_again(pick, back)

    @precondition(lambda self: not self.asleep)
    @rule()
    def fall_asleep(self) -> None:
        self.firm.settles()
        self.firm.sleeps()
        self.asleep = True

    @precondition(lambda self: self.asleep)
    @rule(
        accident=st.sampled_from([None] * 5 + [*ACCIDENTS]),
        after_ms=st.sampled_from([0, 5, 20, 50, 100, 200]),
        shuffled=st.booleans(),
    )
    def wake(self, accident: str | None, after_ms: int, shuffled: bool) -> None:
        """All at once, in any order; and somebody is killed in the middle of it."""
        if shuffled:
            self.house.shuffle()
        self.firm.wakes()
        self.asleep = False
        if accident is not None:
            time.sleep(after_ms / 1000)
            self.house.restart(accident)

    # what must be so

    @invariant()
    def all_is_as_in_the_books(self) -> None:
        self._kept()
        self.firm.check(settled=not self.asleep)

    def teardown(self) -> None:
        if not hasattr(self, "firm"):
            return
        self.firm.wakes()
        self.asleep = False
        failure = sys.exc_info()[1]
        try:
            if isinstance(failure, Exception):  # Hypothesis takes the same steps again, which may end in another way
                print(*self.firm.story, *traceback.format_exception(failure), sep="\n")
            else:
                self.all_is_as_in_the_books()
                for person in self.firm.people:
                    self.firm.stores[person.id].sync()
                    self.firm.check_store(person)
        finally:
            self.firm.given.close()


@pytest.fixture(scope="module")
def house(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory: Path = tmp_path_factory.mktemp("billing")
    with a_xero() as xero:
        stint = Installation(new_database(database_url), amqp_url_apart, directory, **xero.environment, **PATIENCE)
        try:
            stint.start("api", *PARTS)
            eventually(lambda: stint.answers("/health/ready"), seconds=60, why="Stint is ready")
            yield House(stint, xero)
        finally:
            stint.stop()


@pytest.mark.slow(seconds=120)
@pytest.mark.timeout(7200 if FULL else 600)
def test_any_history_of_the_firm_is_as_the_model_says(house: House) -> None:
    number = int(os.environ.get("STINT_TEST_SEED") or random.randrange(10**9))
    print(f"STINT_TEST_SEED={number}")

    def history() -> History:
        return History(house)

    run_state_machine_as_test(
        seed(number)(history),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=True,
            report_multiple_bugs=False,
            # a step shorter would be another history: processes run beside it
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
