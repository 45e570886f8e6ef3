"""A time bill that no entry is on any more disappears; one whose entries round to 0 minutes can be closed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from schemas.postgres.migrate import MIGRATIONS, migrate
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually, with_database
from tests.sync.streams import subscribed


def push(by: Person, kind: str, entry: Json, **data: object) -> None:
    operation = {"opId": str(uuid4()), "kind": kind, "baseVersion": entry["version"], "data": {"id": entry["id"], **data}}
    [result] = by.post("/api/sync", {"operations": [operation]}, 200)["results"]
    assert result["outcome"] == "applied", result


def delete(by: Person, entry: Json) -> None:
    by.delete(f"/api/time-entries/{entry['id']}")


def move_to_another_day(by: Person, entry: Json) -> None:
    by.patch(f"/api/time-entries/{entry['id']}", {"startTime": "2026-03-03T09:00:00Z", "endTime": "2026-03-03T09:30:00Z"})


def move_the_task_to_another_customer(by: Person, entry: Json) -> None:
    customer = by.post("/api/customers", {"name": f"Customer {uuid4()}"})
    by.put(f"/api/tasks/{entry['taskId']}", {"customerId": customer["id"]})


def move_the_task_to_another_pillar(by: Person, entry: Json) -> None:
    pillar = by.post(f"/api/customers/{entry['customerId']}/pillars", {"name": "Hosting"})
    by.put(f"/api/tasks/{entry['taskId']}", {"pillarId": pillar["id"]})


def push_a_deletion(by: Person, entry: Json) -> None:
    push(by, "entry.delete", entry)


def push_another_day(by: Person, entry: Json) -> None:
    push(by, "entry.patch", entry, startTime="2026-03-03T09:00:00Z", endTime="2026-03-03T09:30:00Z")


WAYS: list[Callable[[Person, Json], None]] = [
    delete, move_to_another_day, move_the_task_to_another_customer, move_the_task_to_another_pillar, push_a_deletion,
    push_another_day,
]  # fmt: skip


def nothing(admin: Person, bill: Json) -> None:
    pass


def reject(admin: Person, bill: Json) -> None:
    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": "Whose hours?"})


def approve_and_reopen(admin: Person, bill: Json) -> None:
    for status in ("approved", "pending"):
        admin.patch(f"/api/time-bills/{bill['id']}", {"status": status})


@pytest.mark.parametrize(("empty", "who", "before"), [
    *((way, who, nothing) for way in WAYS for who in ("owner", "admin")),
    *((way, "owner", before) for way in (delete, move_the_task_to_another_pillar) for before in (reject, approve_and_reopen)),
])  # fmt: skip
def test_a_bill_disappears_with_its_last_entry(
    empty: Callable[[Person, Json], None], who: str, before: Callable[[Person, Json], None], given: Given
) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner)
    given.settled()
    bill = owner.get(f"/api/time-bills/{entry['timeBillId']}")
    before(admin, bill)
    since = owner.get("/api/sync")["syncTimestamp"]

    empty(owner if who == "owner" else admin, entry)
    given.settled()

    problem(owner.http.get(f"/api/time-bills/{bill['id']}"), 404)
    problem(admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "approved"}), 404)
    assert bill["id"] not in {item["id"] for item in admin.get("/api/time-bills", userId=owner.id)["items"]}
    assert {"id": bill["id"], "deleted": True} in owner.get("/api/sync", lastSyncTimestamp=since)["timeBills"]


def test_a_bill_with_another_entry_stays(given: Given) -> None:
    owner = given.person()
    task = given.task(owner)
    entry, kept = given.logged(owner, task), given.logged(owner, task, minutes=0)
    delete(owner, entry)
    given.settled()
    assert owner.get(f"/api/time-bills/{kept['timeBillId']}")["seconds"] == 0


def test_listeners_learn_that_the_bill_is_gone(given: Given) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner)
    given.settled()
    with subscribed(admin) as stream:
        delete(owner, entry)
        given.settled()
        stream.wait_for("timeBill", entry["timeBillId"])
    problem(admin.http.get(f"/api/time-bills/{entry['timeBillId']}"), 404)


def test_late_time_opens_a_new_bill_with_the_present_rounding(given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    customer = given.customer(admin)
    task = given.task(owner, customer)
    entry = given.logged(owner, task, minutes=2)
    delete(owner, entry)
    given.settled()
    admin.put(f"/api/customers/{customer['id']}", {"rounding": {"increment": 15, "mode": "up"}})

    late = given.logged(owner, task, minutes=2)
    given.settled()

    assert late["timeBillId"] != entry["timeBillId"]
    assert owner.get(f"/api/time-bills/{late['timeBillId']}")["minutes"] == 15
    stint.verify()


@pytest.mark.parametrize("minutes", [60, 0])
def test_an_approval_before_the_recompute_finds_no_bill(minutes: int, given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner, minutes=minutes)
    given.settled()
    bill = owner.get(f"/api/time-bills/{entry['timeBillId']}")
    with stint.sql() as conn:  # as between the change of the entry and its message
        conn.execute("UPDATE time_entries SET deleted_at = now() WHERE id = %s", (entry["id"],))
        conn.execute("UPDATE time_bills SET stale = true WHERE id = %s", (bill["id"],))

    named = {"bills": [{"id": bill["id"], "version": bill["version"]}]}
    [result] = admin.post("/api/time-bills/approve-all", named, 200)["results"]

    assert (result["result"], result["reason"], result["current"]) == ("skipped", "There is no such time bill.", None)
    problem(admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "approved"}), 404)
    stint.verify()


def test_a_single_approval_before_the_recompute_removes_the_bill(given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner)
    given.settled()
    with stint.sql() as conn:
        conn.execute("UPDATE time_entries SET deleted_at = now() WHERE id = %s", (entry["id"],))
        conn.execute("UPDATE time_bills SET stale = true WHERE id = %s", (entry["timeBillId"],))
    problem(admin.http.patch(f"/api/time-bills/{entry['timeBillId']}", json={"status": "approved"}), 404)
    assert stint.value("SELECT deleted_at IS NOT NULL FROM time_bills WHERE id = %s", entry["timeBillId"])


def lose_the_entry(stint: Installation, entry: Json, *, seconds: int = 0) -> None:
    """As a process of an earlier version leaves the bill: another sum, not stale, no tombstone."""
    with stint.sql() as conn:
        conn.execute("UPDATE time_entries SET deleted_at = now() WHERE id = %s", (entry["id"],))
        conn.execute("UPDATE time_bills SET seconds = %s WHERE id = %s", (seconds, entry["timeBillId"]))


def approve_one(admin: Person, bill: Json, given: Given) -> None:
    problem(admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "approved"}), 404)


def approve_a_named_one(admin: Person, bill: Json, given: Given) -> None:
    version = admin.get(f"/api/time-bills/{bill['id']}")["version"]
    named = {"bills": [{"id": bill["id"], "version": version}]}
    [result] = admin.post("/api/time-bills/approve-all", named, 200)["results"]
    assert (result["result"], result["reason"]) == ("skipped", "There is no such time bill.")


def approve_a_filter(admin: Person, bill: Json, given: Given) -> None:
    scope = {"userId": bill["userId"]}
    newest = "SELECT max(changed_xid::text::numeric) FROM time_bills WHERE user_id = %s"

    def listed() -> str | None:
        cursor: str = admin.get("/api/time-bills", **scope)["syncTimestamp"]
        return cursor if int(cursor.partition(".")[2]) > given.stint.value(newest, bill["userId"]) else None

    body = {"filter": scope, "syncTimestamp": eventually(listed)}
    [result] = admin.post("/api/time-bills/approve-all", body, 200)["results"]
    assert (result["result"], result["reason"]) == ("skipped", "There is no such time bill.")


def reject_one(admin: Person, bill: Json, given: Given) -> None:
    body = {"status": "rejected", "rejectionNote": "Whose hours?"}
    problem(admin.http.patch(f"/api/time-bills/{bill['id']}", json=body), 404)


@pytest.mark.parametrize("decide", [approve_one, approve_a_named_one, approve_a_filter, reject_one])
def test_no_decision_is_made_about_an_empty_bill_of_an_earlier_version(
    decide: Callable[[Person, Json, Given], None], given: Given, stint: Installation
) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner)
    given.settled()
    bill = owner.get(f"/api/time-bills/{entry['timeBillId']}")
    lose_the_entry(stint, entry)
    decide(admin, bill, given)
    assert stint.value("SELECT deleted_at IS NOT NULL FROM time_bills WHERE id = %s", bill["id"])
    stint.verify()


def test_a_bill_with_a_sum_and_no_entry_is_not_approved(given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner)
    given.settled()
    path = f"/api/time-bills/{entry['timeBillId']}"
    lose_the_entry(stint, entry, seconds=3600)
    version = admin.get(path)["version"]

    refused = problem(admin.http.patch(path, json={"status": "approved", "version": version}), 409)
    named = {"bills": [{"id": entry["timeBillId"], "version": version}]}
    [skipped] = admin.post("/api/time-bills/approve-all", named, 200)["results"]

    assert "No time entry is on the bill" in refused["detail"]
    assert (skipped["result"], skipped["reason"]) == ("skipped", refused["detail"])
    with stint.sql() as conn:
        conn.execute("UPDATE time_bills SET stale = true WHERE id = %s", (entry["timeBillId"],))
    problem(admin.http.patch(path, json={"status": "approved"}), 404)
    stint.verify()


def test_recompute_removes_the_empty_bills_of_an_earlier_version(given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner)
    given.settled()
    with stint.sql() as conn:  # as version 0.2.0 left them: a sum of 0, and not stale
        conn.execute("UPDATE time_entries SET deleted_at = now() WHERE id = %s", (entry["id"],))
        conn.execute("UPDATE time_bills SET seconds = 0 WHERE id = %s", (entry["timeBillId"],))

    def recomputed(**scope: object) -> Json:
        started = admin.post("/api/time-bills/recompute", {"userId": owner.id, **scope}, status=202)
        path = f"/api/time-bills/recompute/{started['id']}"
        return dict(eventually(lambda: (job := admin.get(path))["state"] == "done" and job, why="the job is done"))

    for job in (recomputed(dryRun=True), recomputed()):
        [change] = job["changes"]
        assert (change["timeBillId"], change["removed"]) == (entry["timeBillId"], True)
        assert (change["secondsBefore"], change["secondsAfter"]) == (0, 0)
        assert (job["changed"]["timeBillsRemoved"], job["changed"]["timeBillsCorrected"]) == (1, 0)
        assert job["done"] == job["total"] == 1
    problem(admin.http.get(f"/api/time-bills/{entry['timeBillId']}"), 404)
    assert recomputed()["changes"] == []
    stint.verify()


def test_entries_that_come_and_go_at_once_are_on_one_bill_or_none(given: Given, stint: Installation) -> None:
    owner = given.person()
    task = given.task(owner)

    def come_and_go(number: int) -> None:
        entry = given.logged(owner, task, minutes=number)
        if number % 4:
            delete(owner, entry)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(come_and_go, range(40)))
    given.settled()
    bills = owner.get("/api/time-bills", userId=owner.id)["items"]
    assert [bill["seconds"] for bill in bills] == [60 * sum(range(0, 40, 4))]
    stint.verify()
    for entry in owner.get("/api/time-entries", userId=owner.id)["items"]:
        delete(owner, entry)
    given.settled()
    assert owner.get("/api/time-bills", userId=owner.id)["items"] == []
    assert given.dead_letters() == []
    stint.verify()


def test_the_migration_removes_empty_bills_and_keeps_others(database_url: str, tmp_path: Path) -> None:
    name = f"old_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
    url = with_database(database_url, name)
    migrations = sorted(MIGRATIONS.glob("*.sql"))
    [number] = [number for number, path in enumerate(migrations) if path.stem.endswith("_empty_bills")]
    for path in migrations[:number]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    asyncio.run(migrate(url, folder=tmp_path))
    with psycopg.connect(url) as conn:
        conn.execute(FIRM)
        conn.commit()
        asyncio.run(migrate(url))
        left = conn.execute("SELECT memo, deleted_at IS NOT NULL, stale FROM time_bills ORDER BY memo").fetchall()
    assert left == [("empty", True, False), ("empty and rejected", True, False), ("kept", False, False)]


FIRM = """
WITH someone AS (INSERT INTO users (id, email, name, role) VALUES (gen_random_uuid(), 'a@example.com', 'A', 'internal_admin')
                 RETURNING id),
customer AS (INSERT INTO customers (id, name, created_from, created_by) SELECT gen_random_uuid(), 'Acme', '', id FROM someone
             RETURNING id),
pillar AS (INSERT INTO pillars (id, customer_id, name, is_default) SELECT gen_random_uuid(), id, 'General Support', true
           FROM customer RETURNING id, customer_id),
task AS (INSERT INTO tasks (id, title, customer_id, pillar_id, created_from, created_by)
         SELECT gen_random_uuid(), 'Fix it', p.customer_id, p.id, '', s.id FROM pillar p, someone s RETURNING id),
bills AS (INSERT INTO time_bills (user_id, customer_id, pillar_id, date, seconds, rounding_increment, rounding_mode, memo,
                                  status, rejection_note)
          SELECT s.id, p.customer_id, p.id, day, seconds, 15, 'up', memo, status, note FROM pillar p, someone s,
          (VALUES ('2026-03-02'::date, 3600, 'kept', 'pending', NULL), ('2026-03-03', 0, 'empty', 'pending', NULL),
                  ('2026-03-04', 0, 'empty and rejected', 'rejected', 'no')) AS b (day, seconds, memo, status, note)
          RETURNING id, date)
INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, bill_id, deleted_at)
SELECT gen_random_uuid(), t.id, s.id, p.customer_id, p.id, b.date + interval '9 hours', b.date + interval '10 hours', b.date,
       b.id, CASE WHEN b.date > '2026-03-02' THEN now() END
FROM task t, someone s, pillar p, bills b
"""


# ---------------------------------------------------------------------------------------------------------------------
# 0 minutes


@pytest.mark.parametrize("seconds", [0, 29])
def test_a_bill_of_0_minutes_is_approved_and_needs_nothing_in_xero(seconds: int, given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    entry = given.logged(owner, duration=seconds)
    given.settled()
    path = f"/api/time-bills/{entry['timeBillId']}"

    closed = admin.patch(path, {"status": "approved"})

    assert (closed["status"], closed["minutes"], closed["seconds"]) == ("approved", 0, seconds)
    assert (closed["xero"]["status"], closed["xero"]["error"]) == ("none", None)
    problem(owner.http.patch(f"/api/time-entries/{entry['id']}", json={"duration": 60}), 409)
    given.settled()
    assert admin.get(path) == closed
    stint.verify()
    assert admin.patch(path, {"status": "pending"})["status"] == "pending"
    owner.patch(f"/api/time-entries/{entry['id']}", {"duration": 60})
    assert admin.patch(path, {"status": "approved"})["xero"]["status"] == "not_connected"
    stint.verify()


def test_approve_all_closes_bills_of_0_minutes(given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    task = given.task(owner)
    ids = given.many_bills(owner, task, 2, seconds=29)
    bills = [{"id": bill_id, "version": 1} for bill_id in ids]
    assert admin.post("/api/time-bills/approve-all", {"bills": bills}, 200)["approved"] == 2
    assert {admin.get(f"/api/time-bills/{bill_id}")["xero"]["status"] for bill_id in ids} == {"none"}
    stint.verify()
