"""Random histories of a firm's hours against a plain model: after every step, every bill, entry, timer, client's copy and entry
in Xero is as the model says, for any actions, any order of the background work, and any killed process.

STINT_TEST_SEED=… repeats the steps of a run.
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

from tests.hours.model.installation import FALLBACK, PARTS, Environment
from tests.hours.model.rules import (
    ADMIN,
    ANY_PERSON,
    AREA,
    DECIDING_PERSON,
    NOTE,
    OWNER_OR_OTHER,
    PICK,
    SECONDS,
    SEEN,
    TASK,
    WHEN,
    HourRules,
    When,
)
from tests.hours.model.shapes import ZONE, Bill, Entry, Refused, Seen, Worker
from tests.support.given import Json
from tests.support.installation import Installation, eventually, new_database
from tests.support.sizes import FULL
from tests.support.xero_sandbox import running_xero

EXAMPLES, STEPS = (150, 60) if FULL else (2, 50)
# the lease of a worker that is killed during a call to Xero lasts 21 seconds more
KILLED_PARTS = PARTS if FULL else PARTS[:2]

ENVIRONMENT = {
    "STINT_TIMEZONE": ZONE,
    "XERO_FALLBACK_USER": FALLBACK,
    "XERO_CALLS_PER_MINUTE": "100000",
    "STINT_XERO_LATE_SECONDS": "3",
    "STINT_XERO_LAG_SECONDS": "1",
    "STINT_XERO_CHECK_SECONDS": "2",
}


class History(HourRules):
    """The further steps: decisions about bills, and faults of processes."""

    # bills

    @precondition(lambda self: self.bills())
    @rule(who=DECIDING_PERSON, pick=PICK, seen=SEEN)
    def approve(self, who: int, pick: int, seen: Seen) -> None:
        bill = self.bill(pick, "pending")
        self._decide(who, bill, seen, lambda by: self.model.approve(by, bill, seen), status="approved")

    @precondition(lambda self: self.bills())
    @rule(who=DECIDING_PERSON, pick=PICK, seen=SEEN)
    def reject(self, who: int, pick: int, seen: Seen) -> None:
        bill = self.bill(pick, "pending")
        change = {"status": "rejected", "rejectionNote": "Which server?"}
        self._decide(who, bill, seen, lambda by: self.model.reject(by, bill, "Which server?", seen), **change)

    @precondition(lambda self: self.bills())
    @rule(who=DECIDING_PERSON, pick=PICK, seen=SEEN)
    def reopen(self, who: int, pick: int, seen: Seen) -> None:
        bill = self.bill(pick, "approved")
        self._decide(who, bill, seen, lambda by: self.model.reopen(by, bill, seen), status="pending")

    @precondition(lambda self: self.bills())
    @rule(who=OWNER_OR_OTHER, pick=PICK, memo=NOTE, seen=SEEN)
    def write_memo(self, who: int | None, pick: int, memo: str, seen: Seen) -> None:
        bill = self.bill(pick)
        owner = [person.id for person in self.firm.people].index(bill.key.user)
        self._decide(
            owner if who is None else who, bill, seen, lambda by: self.model.write_memo(by, bill, memo, seen), memo=memo
        )

    def _decide(self, who: int, bill: Bill, seen: Seen, expected: Callable[[Worker], None], **change: str) -> None:
        person, worker = self.by(who)
        answer = person.http.patch(f"/api/time-bills/{bill.id}", json=change | self.firm.version(bill.id, seen))
        self.assert_agrees(answer, lambda _: expected(worker))

    @precondition(lambda self: self.bills())
    @rule(picks=st.sets(PICK, min_size=1, max_size=3), older=st.booleans())
    def approve_all(self, picks: set[int], older: bool) -> None:
        """Approves several at once; the first one perhaps with an old version."""
        bills = list(dict.fromkeys(self.bill(pick, "pending") for pick in sorted(picks)))
        seen = {bill: "older" if older and bill is bills[0] else "latest" for bill in bills}
        body = [{"id": bill.id, **self.firm.version(bill.id, seen[bill])} for bill in bills]
        answer = self.firm.admin.http.post("/api/time-bills/approve-all", json={"bills": body})
        self.assert_agrees(answer, lambda _: 200)
        found = {result["id"] for result in answer.json()["results"] if result["result"] == "approved"}
        assert found == {bill.id for bill in bills if seen[bill] == "latest" and self._is_approved(bill)}

    def _is_approved(self, bill: Bill) -> bool:
        try:
            self.model.approve(self.firm.workers[self.firm.admin.id], bill, "latest")
        except Refused:
            return False
        return True

    @precondition(lambda self: not self.paused)
    @rule(
        whose=ANY_PERSON,
        imports=st.lists(st.tuples(TASK, WHEN, SECONDS), max_size=3),
        damaged=st.one_of(st.none(), PICK),
        narrow=st.booleans(),
    )
    def recompute(self, whose: int, imports: list[tuple[int, When, int]], damaged: int | None, narrow: bool) -> None:
        """Imported entries get bills, and a damaged sum is corrected, as the dry run predicted."""
        owner = self.firm.people[whose].id
        for task, when, seconds in imports:
            self._import(self.task(task), owner, self.past((when[0] + 1, *when[1:])), seconds)
        bill = self.bill(damaged) if damaged is not None and self.bills() else None
        if bill is not None and not bill.deleted and bill.status != "approved" and (not narrow or bill.key.user == owner):
            bill.seconds += 61
            with self.environment.stint.sql() as conn:
                conn.execute("UPDATE time_bills SET seconds = seconds + 61, version = version + 1 WHERE id = %s", (bill.id,))
        scope = {"userId": owner} if narrow else {}
        would, did = self._recomputed(scope | {"dryRun": True}), self._recomputed(scope)
        expected = {
            (key.user, key.area.customer, key.area.pillar, str(key.day)): (change.before, change.after, change.added)
            for key, change in self.model.recompute().items()
        }
        assert would == did == expected

    def _import(self, task: str, owner: str, start: datetime, seconds: int) -> None:
        entry = Entry(str(uuid4()), task, owner, self.model.tasks[task], start, start + timedelta(seconds=seconds), "")
        self.model.import_entry(entry)
        with self.environment.stint.sql() as conn:
            conn.execute("SET stint.long_seconds = 43200")
            conn.execute(
                """
                INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                """,
                (entry.id, task, owner, entry.area.customer, entry.area.pillar, entry.start, entry.end, entry.key.day),
            )

    def _recomputed(self, scope: Json) -> dict[tuple[str, ...], tuple[int | None, int, int]]:
        """What the job changed on this firm's bills, or would change."""
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
        """Time arrives for the key of a bill that an admin may just have approved or rejected."""
        bill = self.bill(pick, "pending" if decision else "approved")
        if decision == "approve":
            self.approve(ADMIN, pick, "latest")
        elif decision == "reject":
            self.reject(ADMIN, pick, "latest")
        tasks = [task for task, area in self.model.tasks.items() if area == bill.key.area]
        if bill.deleted or not tasks:
            return
        whose = [person.id for person in self.firm.people].index(bill.key.user)
        start = self.at(((self.today - bill.key.day).days, *when[1:]))
        if offline:
            self._push(whose, tasks[0], start, seconds, append="", delete=False)
        else:
            self._log(whose, whose, tasks[0], start, seconds, overlap=True)

    @precondition(lambda self: self.bills())
    @rule(pick=PICK, area=AREA, seconds=st.one_of(st.none(), SECONDS))
    def reopen_moved(self, pick: int, area: int, seconds: int | None) -> None:
        """A task moves while a bill with its hours is approved; late time may arrive; then the bill is reopened."""
        bill = self.bill(pick, "pending")
        tasks = list(dict.fromkeys(entry.task for entry in self.model.entries_of(bill)))
        if not tasks:
            return
        self.approve(ADMIN, pick, "latest")
        self._settle()
        self.move_task(ADMIN, list(self.model.tasks).index(tasks[0]), area)
        self._settle()
        if seconds is not None:
            whose = [person.id for person in self.firm.people].index(bill.key.user)
            self._push(whose, tasks[0], self.at(((self.today - bill.key.day).days, 60, 0)), seconds, append="", delete=False)
            self._settle()
        self._decide(ADMIN, bill, None, lambda by: self.model.reopen(by, bill, None), status="pending")

    def _settle(self) -> None:
        """Waits for the background work before the next step, unless the relay is paused."""
        if not self.paused:
            self.firm.wait_until_settled()

    # offline clients

    @rule(who=ANY_PERSON, limit=st.sampled_from([1000, 1000, 2]))
    def sync(self, who: int, limit: int) -> None:
        person, _ = self.by(who)
        self._settle()
        self.firm.stores[person.id].sync(limit)
        self.firm.check_store(person)

    # Xero

    @precondition(lambda self: self.in_xero())
    @rule(pick=PICK, status=st.sampled_from(["INVOICED", "LOCKED", "ACTIVE", "ACTIVE"]))
    def invoice(self, pick: int, status: str) -> None:
        """A person in Xero puts an entry on an invoice, or removes it from one."""
        bill = self.in_xero()[pick % len(self.in_xero())]
        [entry] = [row for row in self.environment.xero.entries() if row["description"].endswith(f"[bill:{bill.id}]")]
        self.environment.xero.change_entry(entry["timeEntryId"], status=status)
        bill.invoiced = status != "ACTIVE"

    # faults of processes

    @rule(pick=st.integers(0, 29), back=st.integers(0, 2))
    def deliver_again(self, pick: int, back: int) -> None:
        self.environment.deliver_again(pick, back)

    @precondition(lambda self: not self.paused)
    @rule()
    def pause_relay(self) -> None:
        self.firm.wait_until_settled()
        self.firm.pause()
        self.paused = True

    @precondition(lambda self: self.paused)
    @rule(
        killed=st.sampled_from([None] * 5 + [*KILLED_PARTS]),
        after_ms=st.sampled_from([0, 5, 20, 50, 100, 200]),
        shuffled=st.booleans(),
    )
    def resume_relay(self, killed: str | None, after_ms: int, shuffled: bool) -> None:
        """All waiting messages are delivered at once, in any order; a process may be killed meanwhile."""
        if shuffled:
            self.environment.shuffle()
        self.firm.resume()
        self.paused = False
        if killed is not None:
            time.sleep(after_ms / 1000)
            self.environment.restart(killed)

    # the comparison

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        self._settle()
        self.firm.check(settled=not self.paused)

    def teardown(self) -> None:
        if not hasattr(self, "firm"):
            return
        self.firm.resume()
        self.paused = False
        failure = sys.exc_info()[1]
        try:
            if isinstance(failure, Exception):  # Hypothesis repeats the steps, which may end differently
                print(*self.firm.requests, *traceback.format_exception(failure), sep="\n")
            else:
                self.everything_is_as_in_the_model()
                for person in self.firm.people:
                    self.firm.stores[person.id].sync()
                    self.firm.check_store(person)
        finally:
            self.firm.given.close()


@pytest.fixture(scope="module")
def environment(database_url: str, amqp_url_apart: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    directory: Path = tmp_path_factory.mktemp("billing")
    with running_xero() as xero:
        stint = Installation(new_database(database_url), amqp_url_apart, directory, **xero.environment, **ENVIRONMENT)
        try:
            stint.start("api", *PARTS)
            eventually(lambda: stint.answers("/health/ready"), seconds=60, why="Stint is ready")
            yield Environment(stint, xero)
        finally:
            stint.stop()


@pytest.mark.slow
@pytest.mark.timeout(7200 if FULL else 600)
def test_any_history_of_the_firm_is_as_the_model_says(environment: Environment) -> None:
    number = int(os.environ.get("STINT_TEST_SEED") or random.randrange(10**9))
    print(f"STINT_TEST_SEED={number}")

    class SeededHistory(History):
        def __init__(self) -> None:
            super().__init__(environment)

    run_state_machine_as_test(
        seed(number)(SeededHistory),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=True,
            report_multiple_bugs=False,
            # no shrinking: with processes running concurrently, a shorter history is another one
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
