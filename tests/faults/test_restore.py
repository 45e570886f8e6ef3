"""A drill: a backup while people work, hours after it, the loss of everything, and a restore. What was acknowledged before the
backup is back, and clients that sync, live events, RabbitMQ and Xero agree with it, without a command."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.test_deliveries import left
from tests.support.firm_with_xero import Firm
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually
from tests.support.xero_sandbox import running_xero
from tests.sync.clients import first_load
from tests.sync.streams import RESET, subscribed
from tests.xero.conftest import SHORT_TIMES

pytestmark = [pytest.mark.slow, pytest.mark.processes]


class Load:
    """Somebody who logs one entry after another, and the ids of those that were acknowledged."""

    def __init__(self, given: Given, firm: Firm) -> None:
        self.acknowledged: list[str] = []
        self._given, self._by = given, given.person()
        self._task, self._ends = given.task(self._by, firm.customer), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._ends.is_set():
            minute = len(self.acknowledged)
            start = f"2026-02-{1 + minute // 60 % 28:02}T{9 + minute // 1680:02}:{minute % 60:02}:00Z"
            self.acknowledged.append(self._given.logged(self._by, self._task, start=start, minutes=1)["id"])
            self._ends.wait(0.05)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            self._thread.join()


def lose_everything(own: Installation) -> None:
    own.stop()
    name = conninfo_to_dict(own.database_url)["dbname"]
    with psycopg.connect(make_conninfo(own.database_url, dbname="postgres"), autocommit=True) as conn:
        conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def signed_in_again(given: Given, person: Person, role: str) -> Person:
    assert person.http.get("/api/me").status_code == 401
    return given.person(role, email=person.email)


def test_after_the_loss_of_everything_a_restore_agrees_with_clients_rabbitmq_and_xero(
    own: Installation, tmp_path: Path
) -> None:
    with running_xero() as xero:
        xero.disable_limits()
        own.environment |= xero.environment | SHORT_TIMES
        given = Given(own.start().wait_until_ready())
        firm = Firm.new(own, xero, given)
        kept, reopened, pending = (firm.bill(day=f"2026-03-0{day}") for day in (2, 3, 4))
        kept, reopened = (firm.wait_for_status(firm.change(bill, status="approved"), "synced") for bill in (kept, reopened))
        early = first_load(firm.by)
        own.kill("work")
        tasks = [given.task(firm.by, firm.customer) for _ in range(2)]
        firm.by.post(f"/api/tasks/{tasks[0]['id']}/start")
        stop = firm.by.post(f"/api/tasks/{tasks[0]['id']}/stop", status=202)
        eventually(lambda: left(own, "timers") == 1, why="RabbitMQ has the stop")
        with Load(given, firm).running() as load:
            eventually(lambda: len(load.acknowledged) > 5)
            before = list(load.acknowledged)
            archived = own.command("backup", str(tmp_path / "backups"))
        assert archived.returncode == 0, archived.stderr

        # what the backup does not know
        own.start("work")
        given.settled(seconds=60)
        late = first_load(firm.by)
        reopened = firm.change(reopened, status="pending")
        eventually(lambda: firm.read(reopened)["status"] == "pending")
        firm.wait_for_status(firm.change(firm.read(reopened), status="approved"), "synced")
        firm.wait_for_status(firm.change(pending, status="approved"), "synced")
        entries = {entry["timeEntryId"]: entry["description"] for entry in firm.entries()}
        assert len(entries) == 3
        own.kill("work")
        firm.by.post(f"/api/tasks/{tasks[1]['id']}/start")
        firm.by.post(f"/api/tasks/{tasks[1]['id']}/stop", status=202)
        # not when it is `sent`, which a relay commits before it publishes it
        eventually(lambda: left(own, "timers") == 1, why="RabbitMQ has the stop that the backup does not know")

        lose_everything(own)
        restored = own.command("restore", str(tmp_path / "backups"))
        assert restored.returncode == 0, restored.stdout + restored.stderr
        own.start().wait_until_ready()

        firm.by, firm.admin = (
            signed_in_again(given, *who) for who in ((firm.by, "internal_user"), (firm.admin, "internal_admin"))
        )
        known = {str(entry_id) for (entry_id,) in own.rows("SELECT id FROM time_entries WHERE deleted_at IS NULL")}
        assert set(before) <= known
        unrecognized = "SELECT count(*) FROM unrecognized_messages WHERE queue = 'timers'"
        eventually(lambda: own.value(unrecognized) == 1, why="the stop that the backup does not know")
        eventually(lambda: own.value("SELECT count(*) FROM time_entries WHERE id = %s", stop["entryId"]) == 1)
        given.settled(seconds=60)
        with subscribed(firm.by) as stream:
            assert stream.events == [RESET]
            for store in (early, late):
                store.by = replace(firm.by)
                assert store.sync().is_as(first_load(firm.by))

        firm.wait_for_status(firm.change(firm.read(pending), status="approved"), "synced", seconds=60)
        xero_id = {bill: entry for entry, description in entries.items() for bill in [description.rpartition("[bill:")[2][:-1]]}
        eventually(lambda: firm.read(reopened)["xero"].get("timeEntryId") == xero_id[reopened["id"]], seconds=60)
        assert {entry["timeEntryId"] for entry in firm.entries()} == set(entries)
        firm.check()
        given.close()
