"""Recompute concurrently with other work, and killed while it runs."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from schemas.hours.recompute.chunks import ENTRIES
from tests.faults.retrying_client import PatientClient, PatientGiven, Traffic
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually, new_database
from tests.support.sizes import FULL

ENTRIES_OF_A_FIRM = 120_000 if FULL else 60_000
SECONDS = 20 if FULL else 8
PARTS = ("relay", "work:timers", "work:bills", "work:xero")
APPROVED = "SELECT id, seconds, version, approved_at, updated_at FROM time_bills WHERE status = 'approved' ORDER BY id"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def filled(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with months of hours, of which most of those not approved are on no bill, and other bills have wrong sums."""
    made = Installation(new_database(database_url), "amqp://127.0.0.1:1", tmp_path_factory.mktemp("filled"))
    assert made.command("demo", "--entries", str(ENTRIES_OF_A_FIRM)).returncode == 0
    with made.sql() as conn:
        conn.execute(
            """
            UPDATE time_entries e SET bill_id = NULL FROM time_bills b
            WHERE b.id = e.bill_id AND b.status <> 'approved' AND hashtext(b.id::text) % 3 <> 0
            """
        )
        conn.execute(
            "UPDATE time_bills SET seconds = seconds + 60 WHERE status <> 'approved' AND hashtext(id::text || 'x') % 4 = 0"
        )
    assert made.value("SELECT count(*) FROM time_entries WHERE bill_id IS NULL") > ENTRIES  # more than one chunk
    name = str(made.value("SELECT current_database()"))
    made.stop()
    return name


@pytest.fixture
def firm(own: Installation, filled: str, database_url: str) -> Iterator[tuple[Installation, Given]]:
    """An installation whose database is a copy of that one."""
    own.database_url = own.environment["DATABASE_URL"] = new_database(database_url, template=filled)
    own.start("api", *PARTS).wait_until_ready()
    traffic = Traffic()
    given = PatientGiven(own, traffic)  # a machine that stalls for two seconds may get a 503
    yield own, given
    given.close()
    assert traffic.wrong == []


def keep_alive(stint: Installation) -> None:
    for name in PARTS:
        if not stint.is_running(name):
            stint.processes.pop(name, None)
            stint.start(name)


def started(admin: Person, **scope: Any) -> str:
    job_id: str = admin.post("/api/time-bills/recompute", scope, status=202)["id"]
    return job_id


def state(admin: Person, job_id: str) -> str:
    text: str = admin.get(f"/api/time-bills/recompute/{job_id}")["state"]
    return text


def finished(admin: Person, job_id: str, *, seconds: float = 60) -> Json:
    """The job at its end, with all its changes but for the ids of the bills that it made."""
    eventually(lambda: state(admin, job_id) == "done", seconds=seconds, why="the job is done")
    job = admin.get(f"/api/time-bills/recompute/{job_id}", limit=1000)
    while job["nextCursor"] is not None:
        page = admin.get(f"/api/time-bills/recompute/{job_id}", limit=1000, cursor=job["nextCursor"])
        job |= {"changes": job["changes"] + page["changes"], "nextCursor": page["nextCursor"]}
    return job


def figures(job: Json) -> list[Json]:
    return [
        {name: value for name, value in change.items() if name != "timeBillId" or change["secondsBefore"] is not None}
        for change in job["changes"]
    ]


def test_a_recompute_killed_midway_goes_on_and_does_what_its_dry_run_said(firm: tuple[Installation, Given]) -> None:
    stint, given = firm
    admin = given.admin()
    content = "SELECT md5(string_agg(t::text, '' ORDER BY t.id)) FROM {} t"
    before = [stint.value(content.format(table)) for table in ("time_bills", "time_entries")]
    foretold = finished(admin, started(admin, dryRun=True))
    assert [stint.value(content.format(table)) for table in ("time_bills", "time_entries")] == before
    approved = stint.rows(APPROVED)
    assert foretold["changed"]["entriesAdded"] > ENTRIES and foretold["changed"]["timeBillsCorrected"] > 100

    job_id, kills = started(admin), 0
    while state(admin, job_id) != "done":
        if kills < 5:  # it has to get on between them: a worker takes a second to start
            stint.kill("work:bills" if kills % 3 else "relay")
            kills += 1
            keep_alive(stint)
        time.sleep(random.uniform(0.6, 1.4))

    job = finished(admin, job_id)
    assert kills >= 2
    assert job["changed"] == foretold["changed"]
    assert figures(job) == figures(foretold)
    assert job["done"] == job["total"] == foretold["total"]
    assert stint.rows(APPROVED) == approved
    given.settled()
    stint.verify()
    assert finished(admin, started(admin))["changes"] == []


def work_for(given: Given, person: Person, admin: Person, task: Json, end: float, seed: int) -> list[str]:
    """Stops, edits, entries by hand, deletions and approvals until `end`; the ids of the entries that were acknowledged."""
    chance, made = random.Random(seed), []
    day = datetime.fromisoformat("2026-03-02T08:00:00+00:00")
    while time.monotonic() < end:
        person.http.post(f"/api/tasks/{task['id']}/start").raise_for_status()
        made.append(person.http.post(f"/api/tasks/{task['id']}/stop").raise_for_status().json()["entryId"])
        start = day + timedelta(days=chance.randrange(5), minutes=chance.randrange(480))
        body = {"id": str(uuid4()), "taskId": task["id"], "startTime": start.isoformat(), "duration": 600, "allowOverlap": True}
        made.append(person.post("/api/time-entries", body)["id"])
        chosen = chance.choice(made)
        change = {"startTime": start.isoformat(), "duration": chance.randrange(60, 3600), "allowOverlap": True}
        answer = person.http.patch(f"/api/time-entries/{chosen}", json=change)
        assert answer.status_code in (200, 404, 409), answer.text  # not there yet; on an approved bill
        if answer.status_code == 200 and chance.random() < 0.4:
            bill = admin.get(f"/api/time-bills/{answer.json()['timeBillId']}")
            change = {"status": chance.choice(["approved", "approved", "pending"]), "version": bill["version"]}
            answer = admin.http.patch(f"/api/time-bills/{bill['id']}", json=change)
            assert answer.status_code in (200, 404, 409), answer.text
        if chance.random() < 0.1:
            answer = person.http.delete(f"/api/time-entries/{chosen}")
            assert answer.status_code in (204, 404, 409), answer.text
            if answer.status_code == 204 or (answer.status_code == 404 and was_repeated(person)):
                made.remove(chosen)
    return made


def was_repeated(person: Person) -> bool:
    """Whether the person's last request was sent more than once, so that an earlier one may have been carried out."""
    assert isinstance(person.http, PatientClient)
    return person.http.lost > 0


@pytest.mark.slow
def test_recompute_beside_stops_edits_and_approvals_of_10_users(firm: tuple[Installation, Given]) -> None:
    stint, given = firm
    seed = random.randrange(10**6)
    print("seed", seed)
    admin = given.admin()
    task = given.task(admin)
    people = given.people(10)
    approved = stint.rows(APPROVED)
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(10) as pool:
        working = [
            pool.submit(work_for, given, person, admin, task, end, seed + number) for number, person in enumerate(people)
        ]
        jobs = []
        while time.monotonic() < end:
            jobs += [started(admin), started(admin, customerId=task["customerId"])]
            time.sleep(4)
        made = [entry_id for future in working for entry_id in future.result()]
    for job_id in jobs:
        finished(admin, job_id)
    given.settled()
    rows = stint.rows(
        "SELECT id::text, bill_id IS NOT NULL FROM time_entries WHERE task_id = %s AND deleted_at IS NULL", task["id"]
    )
    assert sorted(row[0] for row in rows) == sorted(made)
    assert all(row[1] for row in rows)
    assert stint.rows(APPROVED.replace("WHERE", f"WHERE customer_id <> '{task['customerId']}' AND")) == approved
    assert stint.value("SELECT count(*) FROM messages WHERE state <> 'done'") == 0
    stint.verify()
    assert finished(admin, started(admin))["changes"] == []
