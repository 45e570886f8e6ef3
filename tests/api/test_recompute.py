"""Recompute over the API: a dry run changes nothing and predicts the run exactly; approved bills are never changed."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually
from tests.support.sizes import CONTENTION_SECONDS

# imported entries, which are on no bill yet
IMPORTED = """
    INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date, deleted_at)
    SELECT gen_random_uuid(), %(task)s, %(user)s, %(customer)s, %(pillar)s, start,
           start + make_interval(secs => %(seconds)s), day, CASE WHEN %(deleted)s THEN now() END
    FROM generate_series(%(first)s::date, %(last)s::date, interval '1 day') day, generate_series(1, %(times)s) number,
         LATERAL (SELECT day + interval '12 hours' + make_interval(secs => 5 * number)) started (start)
"""
BILLS = """
    SELECT date::text, customer_id::text, seconds, stale, status, rejection_note, version
    FROM time_bills WHERE user_id = %s AND deleted_at IS NULL ORDER BY date, approved_at NULLS LAST
"""
ROWS = "SELECT t::text FROM time_bills t WHERE user_id = %s UNION ALL SELECT e::text FROM time_entries e WHERE user_id = %s"
NOTHING = {"timeBillsMade": 0, "timeBillsCorrected": 0, "timeBillsRemoved": 0, "entriesAdded": 0, "seconds": 0}


@pytest.fixture(scope="module")
def stint(stint_apart: Installation) -> Installation:
    """These tests write thousands of rows."""
    return stint_apart


def import_entries(
    stint: Installation, by: Person, task: Json, first: str, last: str | None = None, *,
    seconds: int = 600, times: int = 1, deleted: bool = False,
) -> None:  # fmt: skip
    values = {
        "task": task["id"], "user": by.id, "customer": task["customerId"], "pillar": task["pillarId"], "first": first,
        "last": last or first, "seconds": seconds, "times": times, "deleted": deleted,
    }  # fmt: skip
    with stint.sql() as conn:
        conn.execute(IMPORTED.encode(), values)


def run(admin: Person, **scope: Any) -> Json:
    """Starts a job and waits for its end."""
    job = admin.post("/api/time-bills/recompute", scope, status=202)
    assert (job["state"], job["changed"], job["changes"], job["done"]) == ("queued", NOTHING, [], 0)
    assert (job["total"], job["startedAt"], job["finishedAt"]) == (None, None, None)

    def finished() -> Json | None:
        now = admin.get(f"/api/time-bills/recompute/{job['id']}", limit=1000)
        assert now["total"] is None or 0 <= now["done"] <= now["total"], now
        assert now["state"] in ("queued", "running", "done"), now
        return now if now["state"] == "done" else None

    done: Json = eventually(finished, seconds=60)
    assert done["done"] == done["total"] and done["createdAt"] <= done["startedAt"] <= done["finishedAt"]
    expected = {"dryRun": False, "startDate": None, "endDate": None, "customerId": None, "userId": None} | scope
    assert {name: done[name] for name in expected} == expected
    return done


def done_at(admin: Person, path: str) -> Json:
    def done() -> Json | None:
        job = admin.get(path, limit=1000)
        return job if job["state"] == "done" else None

    job: Json = eventually(done, seconds=60)
    return job


def predicted(dry: Json, done: Json) -> bool:
    """Whether the dry run predicted the run, except for the ids of bills that the run created."""
    changes = [change | ({"timeBillId": None} if change["secondsBefore"] is None else {}) for change in done["changes"]]
    return (dry["changes"], dry["changed"]) == (changes, done["changed"])


@pytest.fixture
def damaged(given: Given, stint: Installation) -> Iterator[tuple[Person, Person, Json]]:
    """A consultant, an admin and a task with damaged bills, one a day from 1 January 2020: correct; wrong sum; stale; stale
    with a wrong sum; an imported entry is missing; rejected, and an imported entry is missing; approved, with an imported entry
    of that day; rejected with a wrong sum. Then days of imported entries without a bill. The teardown repairs all of them."""
    by, admin = given.person(), given.admin()
    task = given.task(by)
    _, wrong, stale, stale_and_wrong, _, rejected, approved, rejected_and_wrong = given.many_bills(by, task, 8)
    for bill_id in (rejected, rejected_and_wrong):
        admin.patch(f"/api/time-bills/{bill_id}", {"status": "rejected", "rejectionNote": "no"})
    admin.patch(f"/api/time-bills/{approved}", {"status": "approved"})
    with stint.sql() as conn:
        conn.execute("UPDATE time_bills SET seconds = 1 WHERE id = ANY(%s)", ([wrong, stale_and_wrong, rejected_and_wrong],))
        conn.execute("UPDATE time_bills SET stale = true WHERE id = ANY(%s)", ([stale, stale_and_wrong],))
    import_entries(stint, by, task, "2020-01-05", "2020-01-07")
    import_entries(stint, by, task, "2020-01-09", times=2)
    import_entries(stint, by, task, "2020-01-10", seconds=0)
    import_entries(stint, by, task, "2020-01-01", deleted=True)
    import_entries(stint, by, task, "2020-01-11", deleted=True)
    for day in ("2020-01-02", "2020-01-05"):  # deleted entries that are still on their bills
        import_entries(stint, by, task, day, deleted=True)
    with stint.sql() as conn:
        conn.execute(
            """
            UPDATE time_entries e SET bill_id = b.id FROM time_bills b
            WHERE e.user_id = %s AND e.deleted_at IS NOT NULL AND e.date IN ('2020-01-02', '2020-01-05')
              AND (b.user_id, b.customer_id, b.pillar_id, b.date) = (e.user_id, e.customer_id, e.pillar_id, e.date)
            """,
            (by.id,),
        )
    yield by, admin, task
    run(admin, userId=by.id)


Damaged = tuple[Person, Person, Json]


def test_a_dry_run_changes_nothing_and_predicts_the_run(damaged: Damaged, stint: Installation) -> None:
    by, admin, task = damaged
    before = stint.rows(ROWS, by.id, by.id)

    dry = run(admin, userId=by.id, dryRun=True)

    assert stint.rows(ROWS, by.id, by.id) == before
    assert dry["total"] == 7 + 6  # open bills, and imported entries
    shown = [
        (change["date"], change["secondsBefore"], change["secondsAfter"], change["entriesAdded"], change["timeBillId"] is None)
        for change in dry["changes"]
    ]
    assert shown[:5] == [
        ("2020-01-05", 3600, 4200, 1, False),
        ("2020-01-06", 3600, 4200, 1, False),
        ("2020-01-07", None, 600, 1, True),
        ("2020-01-09", None, 1200, 2, True),
        ("2020-01-10", None, 0, 1, True),
    ]
    assert sorted(shown[5:]) == [(day, 1, 3600, 0, False) for day in ("2020-01-02", "2020-01-04", "2020-01-08")]
    assert dry["changed"] == {
        "timeBillsMade": 3,
        "timeBillsCorrected": 5,
        "timeBillsRemoved": 0,
        "entriesAdded": 6,
        "seconds": 3000 + 3 * 3599,
    }
    whose = {(change["userId"], change["customerId"], change["pillarId"]) for change in dry["changes"]}
    assert whose == {(by.id, task["customerId"], task["pillarId"])}

    done = run(admin, userId=by.id)

    assert predicted(dry, done)
    after = {(row[0], *row[2:6]) for row in stint.rows(BILLS, by.id)}
    assert after == {
        ("2020-01-01", 3600, False, "pending", None), ("2020-01-02", 3600, False, "pending", None),
        ("2020-01-03", 3600, False, "pending", None), ("2020-01-04", 3600, False, "pending", None),
        ("2020-01-05", 4200, False, "pending", None), ("2020-01-06", 4200, False, "pending", None),
        ("2020-01-07", 3600, False, "approved", None), ("2020-01-07", 600, False, "pending", None),
        ("2020-01-08", 3600, False, "rejected", "no"), ("2020-01-09", 1200, False, "pending", None),
        ("2020-01-10", 0, False, "pending", None),
    }  # fmt: skip
    stint.verify()
    again = run(admin, userId=by.id)
    assert (again["changed"], again["changes"], again["total"]) == (NOTHING, [], 10)


def test_approved_bills_and_correct_rows_are_not_written(damaged: Damaged, stint: Installation) -> None:
    by, admin, _ = damaged
    unwritten = """
        SELECT b::text FROM time_bills b WHERE user_id = %s AND (status = 'approved' OR date = '2020-01-01')
        UNION ALL SELECT e::text FROM time_entries e WHERE user_id = %s AND (deleted_at IS NOT NULL OR date < '2020-01-05')
    """
    before = stint.rows(unwritten, by.id, by.id)
    assert len(before) == 10
    run(admin, userId=by.id)
    assert sorted(stint.rows(unwritten, by.id, by.id)) == sorted(before)


@pytest.mark.parametrize("scope", [
    {"startDate": "2020-01-06"}, {"endDate": "2020-01-06"}, {"startDate": "2020-01-06", "endDate": "2020-01-06"},
    {"customerId": "own"}, {"customerId": "another"}, {"customerId": "own", "startDate": "2020-01-09"},
])  # fmt: skip
def test_a_job_stays_within_its_scope(scope: Json, damaged: Damaged, given: Given, stint: Installation) -> None:
    by, admin, task = damaged
    other = given.task(by)
    import_entries(stint, by, other, "2020-01-06", "2020-01-09")
    customers = {"own": task["customerId"], "another": other["customerId"]}
    scope = {"userId": by.id} | scope | ({"customerId": customers[scope["customerId"]]} if "customerId" in scope else {})
    before = stint.rows(BILLS, by.id)

    dry, done = run(admin, dryRun=True, **scope), run(admin, **scope)

    assert predicted(dry, done) and done["changes"]
    within = [
        change for change in done["changes"]
        if scope.get("startDate", "0") <= change["date"] <= scope.get("endDate", "9")
        and change["customerId"] == scope.get("customerId", change["customerId"])
    ]  # fmt: skip
    assert within == done["changes"]
    changed = {(change["date"], change["customerId"]) for change in done["changes"]}
    after = stint.rows(BILLS, by.id)
    # other bills keep all columns; only `stale` may be cleared
    assert [(*row[:3], *row[4:]) for row in after if row[:2] not in changed] == [
        (*row[:3], *row[4:]) for row in before if row[:2] not in changed
    ]
    rest = run(admin, userId=by.id)
    assert not changed & {(change["date"], change["customerId"]) for change in rest["changes"]}
    stint.verify()


def test_without_a_scope_all_bills_are_processed(damaged: Damaged, stint: Installation) -> None:
    by, admin, _ = damaged
    for number, body in enumerate((b"{}", b"null", b"", None)):
        with stint.sql() as conn:
            conn.execute("UPDATE time_bills SET seconds = 7 WHERE user_id = %s AND date = '2020-01-01'", (by.id,))
        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer = admin.http.post("/api/time-bills/recompute", content=body, headers=headers)
        assert answer.status_code == 202, (body, answer.text)
        job = done_at(admin, f"/api/time-bills/recompute/{answer.json()['id']}")
        assert [job[name] for name in ("dryRun", "startDate", "endDate", "customerId", "userId")] == [False] + [None] * 4
        mine = {change["date"] for change in job["changes"] if change["userId"] == by.id}
        assert mine == ({f"2020-01-{day:02}" for day in range(1, 11)} - {"2020-01-03"} if number == 0 else {"2020-01-01"})
    stint.verify()


def test_changes_are_paged(damaged: Damaged) -> None:
    by, admin, _ = damaged
    job = run(admin, userId=by.id, dryRun=True)
    assert len(job["changes"]) == 8 and job["nextCursor"] is None
    for limit in (1, 3, 7, 8):
        found: list[Json] = []
        cursor: dict[str, Any] = {}
        while True:
            page = admin.get(f"/api/time-bills/recompute/{job['id']}", limit=limit, **cursor)
            assert page["changed"] == job["changed"] and len(page["changes"]) <= limit
            found += page["changes"]
            if page["nextCursor"] is None:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert found == job["changes"]


def test_only_admins_can_follow_a_job_and_an_unknown_one_is_404(damaged: Damaged, given: Given) -> None:
    by, admin, _ = damaged
    job = run(admin, userId=by.id, dryRun=True)
    problem(by.http.get(f"/api/time-bills/recompute/{job['id']}"), 403)
    problem(by.http.post("/api/time-bills/recompute", json={}), 403)
    assert given.admin().get(f"/api/time-bills/recompute/{job['id']}", limit=1000) == job
    problem(admin.http.get(f"/api/time-bills/recompute/{given.new_id()}"), 404)
    backwards = {"startDate": "2020-01-02", "endDate": "2020-01-01"}
    assert refused_fields(admin.http.post("/api/time-bills/recompute", json=backwards)) == ["endDate"]
    empty = run(admin, userId=given.new_id(), customerId=given.new_id())
    assert (empty["total"], empty["changed"], empty["changes"]) == (0, NOTHING, [])


def test_a_job_with_a_dead_message_has_failed(idle: Installation) -> None:
    given = Given(idle)
    admin = given.admin()
    job = admin.post("/api/time-bills/recompute", {}, status=202)
    path = f"/api/time-bills/recompute/{job['id']}"
    assert admin.get(path) == job and job["state"] == "queued"
    for state, expected in (("dead", "failed"), ("discarded", "failed"), ("ready", "queued")):
        with idle.sql() as conn:
            conn.execute("UPDATE messages SET state = %s WHERE body->>'job_id' = %s", (state, job["id"]))
        assert admin.get(path)["state"] == expected
    given.close()


@pytest.mark.slow
def test_several_chunks_and_a_day_of_several_chunks(given: Given, stint: Installation) -> None:
    people, admin = given.people(2), given.admin()
    customer = given.customer(admin)
    task = given.task(admin, customer)
    for by in people:
        import_entries(stint, by, task, "2019-05-01", "2019-05-10", times=30)
        import_entries(stint, by, task, "2019-05-12", times=10)
    import_entries(stint, people[1], task, "2019-05-11", seconds=5, times=4100)  # a day of more than two chunks
    given.many_bills(people[0], task, 300)
    with stint.sql() as conn:
        conn.execute("UPDATE time_bills SET seconds = 5 WHERE user_id = %s", (people[0].id,))

    dry = run(admin, customerId=customer["id"], dryRun=True)
    done = run(admin, customerId=customer["id"])

    assert dry["changed"] == done["changed"] == {
        "timeBillsMade": 23, "timeBillsCorrected": 300, "timeBillsRemoved": 0, "entriesAdded": 620 + 4100,
        "seconds": 620 * 600 + 4100 * 5 + 300 * 3595,
    }  # fmt: skip
    assert dry["total"] == done["total"] == 620 + 4100 + 300
    assert predicted(dry, done)
    assert run(admin, customerId=customer["id"])["changed"] == NOTHING
    stint.verify()


def test_concurrent_jobs_and_changes_count_nothing_twice(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    given.many_bills(by, task, 60)
    import_entries(stint, by, task, "2020-01-10", "2020-03-10", times=20)
    with stint.sql() as conn:
        conn.execute("UPDATE time_bills SET seconds = 5 WHERE user_id = %s", (by.id,))
    entries = by.get("/api/time-entries", userId=by.id, limit=1000)["items"]
    end = time.monotonic() + CONTENTION_SECONDS

    def act(seed: int) -> list[httpx2.Response]:
        pick, answers = random.Random(seed), []
        while time.monotonic() < end:
            path = f"/api/time-entries/{pick.choice(entries)['id']}"
            day = f"2020-0{pick.randrange(1, 4)}-{pick.randrange(1, 29):02}"
            match pick.choice(["edit", "move", "log", "delete", "approve"]):
                case "edit":
                    answers.append(by.http.patch(path, json={"duration": pick.randrange(5000), "allowOverlap": True}))
                case "move":
                    times = {"startTime": f"{day}T09:00:00Z", "duration": 60, "allowOverlap": True}
                    answers.append(by.http.patch(path, json=times))
                case "log":
                    body = {"taskId": task["id"], "startTime": f"{day}T09:00:00Z", "duration": 60, "allowOverlap": True}
                    answers.append(by.http.post("/api/time-entries", json=body))
                case "delete":
                    answers.append(by.http.delete(path))
                case _:
                    found = admin.get("/api/time-bills", userId=by.id, startDate=day, limit=5)["items"]
                    change = {"status": pick.choice(["approved", "pending"])}
                    answers += [admin.http.patch(f"/api/time-bills/{bill['id']}", json=change) for bill in found[:1]]
        return answers

    with ThreadPoolExecutor(6) as pool:
        acting = [pool.submit(act, seed) for seed in range(2)]
        jobs = list(pool.map(lambda _: run(admin, userId=by.id), range(3)))
        answers = [answer for actor in acting for answer in actor.result()]
    assert {answer.status_code for answer in answers} <= {200, 201, 204, 404, 409, 503}, answers
    given.settled()
    assert run(admin, userId=by.id)["changed"] == NOTHING
    left = stint.rows("SELECT count(*) FROM time_entries WHERE user_id = %s AND bill_id IS NULL AND deleted_at IS NULL", by.id)
    assert left == [(0,)]
    assert sum(job["changed"]["entriesAdded"] for job in jobs) <= 61 * 20
    stint.verify()
    assert given.dead_letters() == []
