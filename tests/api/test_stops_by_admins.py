"""An admin stops somebody else's timer, with the time at which it ended; and what the removal of a user leaves behind."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.identity import leftovers
from tests.outbox.rows import over
from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation


def ago(**since: int) -> str:
    return (datetime.now(UTC) - timedelta(**since)).strftime("%Y-%m-%dT%H:%M:%SZ")


def started(given: Given, by: Person, *, hours: int) -> Json:
    """A timer that has run for that many hours."""
    task = given.task(by)
    return by.put("/api/active-timers/me", {"taskId": task["id"], "startTime": ago(hours=hours)}, status=201)


def stop(by: Person, owner: Person | str, body: Json | None = None, status: int = 202) -> Json:
    owner_id = owner if isinstance(owner, str) else owner.id
    return by.post(f"/api/active-timers/{owner_id}/stop", body, status=status)


def test_an_admin_stops_a_forgotten_timer_at_the_time_when_the_work_ended(given: Given, stint: Installation) -> None:
    owner, admin = given.person(), given.admin()
    timer = started(given, owner, hours=23)
    end = (datetime.fromisoformat(timer["startTime"]) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")

    stopped = stop(admin, owner, {"endTime": end, "notes": "stopped by the office"})

    assert (stopped["entryId"], stopped["endTime"], stopped["duration"]) == (timer["id"], end, 7200)
    given.settled()
    entry = owner.get(f"/api/time-entries/{timer['id']}")
    assert (entry["userId"], entry["duration"], entry["notes"]) == (owner.id, 7200, "stopped by the office")
    problem(owner.http.get("/api/active-timers/me"), 404)
    # who did it is recorded
    sent = stint.value("SELECT created_by::text FROM messages WHERE body->>'entry_id' = %s", timer["id"])
    assert sent == admin.id


def test_the_timer_of_a_user_who_has_left_no_longer_blocks_approval(given: Given, stint: Installation) -> None:
    gone, admin = given.person(), given.admin()
    task = given.task(admin)
    bill = given.bill(gone, task, start=f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z", minutes=1)
    gone.post(f"/api/tasks/{task['id']}/start")
    assert stint.command("user", "remove", gone.email).returncode == 0
    problem(admin.http.patch(f"/api/time-bills/{bill['id']}", json={"status": "approved"}), 409)

    stop(admin, gone, {})
    given.settled()

    [pending] = admin.get("/api/time-bills", userId=gone.id)["items"]
    assert admin.patch(f"/api/time-bills/{pending['id']}", {"status": "approved"})["status"] == "approved"
    stint.verify()


def test_with_wait_the_answer_has_the_entry_and_the_bill(given: Given) -> None:
    owner, admin = given.person(), given.admin()
    timer = started(given, owner, hours=1)
    done = admin.post(f"/api/active-timers/{owner.id}/stop", {}, status=200, wait=10)
    assert (done["entry"]["id"], done["timeBill"]["userId"]) == (timer["id"], owner.id)


def test_everybody_stops_their_own_timer_whatever_its_task(given: Given) -> None:
    for owner_name in ("me", "id"):
        owner = given.person()
        timer = started(given, owner, hours=1)
        assert stop(owner, owner_name if owner_name == "me" else owner)["entryId"] == timer["id"]


def test_only_admins_stop_the_timers_of_others(given: Given) -> None:
    owner, colleague = given.people(2)
    timer = started(given, owner, hours=1)
    customers_user = given.person("customer_admin", given.customer(colleague)["id"])
    for by in (colleague, customers_user):
        problem(by.http.post(f"/api/active-timers/{owner.id}/stop"), 403)
    assert owner.get("/api/active-timers/me")["id"] == timer["id"]


def test_a_repeated_stop_gets_the_same_answer_and_another_end_is_a_conflict(given: Given) -> None:
    owner, admin = given.person(), given.admin()
    started(given, owner, hours=3)
    first = stop(admin, owner, {"endTime": ago(hours=1)})
    assert stop(admin, owner, {"endTime": first["endTime"]}) == first == stop(admin, owner)
    problem(admin.http.post(f"/api/active-timers/{owner.id}/stop", json={"endTime": ago(hours=2)}), 409)


def test_a_repeated_stop_that_names_its_timer_does_not_stop_the_next_one(given: Given) -> None:
    owner, admin = given.person(), given.admin()
    timer = started(given, owner, hours=3)
    body = {"timerId": timer["id"]}
    first = stop(admin, owner, body)
    following = owner.post(f"/api/tasks/{given.task(owner)['id']}/start", status=201)
    assert stop(admin, owner, body) == first
    for other in (given.new_id(), str(given.task(owner)["id"])):
        refused = admin.http.post(f"/api/active-timers/{owner.id}/stop", json={"timerId": other})
        assert problem(refused, 409)["current"]["id"] == following["id"]
    problem(admin.http.post(f"/api/active-timers/{owner.id}/stop", json=body | {"notes": "other"}), 409)
    assert owner.get("/api/active-timers/me")["id"] == following["id"]
    assert stop(admin, owner, {"timerId": following["id"]})["entryId"] == following["id"]
    assert stop(admin, owner, body) == first  # the last stop is that of the other timer now
    problem(admin.http.post(f"/api/active-timers/{owner.id}/stop", json={"timerId": given.new_id()}), 404)


@pytest.mark.parametrize("route", ["owner", "task"])
def test_a_stop_that_names_its_timer_does_not_stop_a_timer_that_was_started_again_on_the_task(route: str, given: Given) -> None:
    owner = given.person()
    timer = started(given, owner, hours=3)
    path = "/api/active-timers/me/stop" if route == "owner" else f"/api/tasks/{timer['taskId']}/stop"
    body = {"timerId": timer["id"]}
    first = owner.post(path, body, status=202)
    assert owner.post(path, body, status=202) == first
    again = owner.post(f"/api/tasks/{timer['taskId']}/start", status=201)
    assert problem(owner.http.post(path, json=body), 409)["current"]["id"] == again["id"]
    assert owner.get("/api/active-timers/me")["id"] == again["id"]


def test_an_end_before_the_running_timer_repeats_the_stop_that_had_it(given: Given) -> None:
    owner, admin = given.person(), given.admin()
    started(given, owner, hours=3)
    body = {"endTime": ago(hours=1)}
    first = stop(admin, owner, body)
    following = owner.post(f"/api/tasks/{given.task(owner)['id']}/start", status=201)
    assert stop(admin, owner, body) == first
    assert refused_fields(admin.http.post(f"/api/active-timers/{owner.id}/stop", json={"endTime": ago(hours=2)})) == ["endTime"]
    assert owner.get("/api/active-timers/me")["id"] == following["id"]


@pytest.mark.parametrize("body", [{"endTime": ago(days=2)}, {"endTime": ago(hours=-1)}, {"end": ago(hours=1)}, {"userId": "x"}])
def test_an_impossible_end_and_unknown_fields_are_refused_and_the_timer_runs_on(body: Json, given: Given) -> None:
    owner, admin = given.person(), given.admin()
    timer = started(given, owner, hours=1)
    assert refused_fields(admin.http.post(f"/api/active-timers/{owner.id}/stop", json=body)) == [next(iter(body))]
    assert owner.get("/api/active-timers/me")["id"] == timer["id"]


def test_without_a_running_timer_it_is_404(given: Given, stint: Installation) -> None:
    admin, idle = given.admin(), given.person()
    for owner in (idle.id, given.new_id(), "me"):
        problem(admin.http.post(f"/api/active-timers/{owner}/stop"), 404)
    timer = started(given, idle, hours=1)
    stop(admin, idle)
    stint.rows(
        "UPDATE messages SET created_at = now() - interval '1 hour' WHERE body->>'entry_id' = %s RETURNING 1", timer["id"]
    )
    problem(admin.http.post(f"/api/active-timers/{idle.id}/stop"), 404)  # that stop was not this request's


# ./stint user remove


def test_removing_a_user_says_what_stays_and_offers_to_stop_the_timer(given: Given, stint: Installation) -> None:
    leaver, admin = given.person(), given.admin()
    customer = given.customer(admin, name=f"Acme {given.new_id()}")
    given.bill(leaver, given.task(admin, customer))
    running = given.task(admin, customer, title="Count the stars", assigneeId=leaver.id)
    leaver.post(f"/api/tasks/{running['id']}/start")
    leaver.http.put(f"/api/customers/{customer['id']}/focus").raise_for_status()

    said = stint.command("user", "remove", leaver.email).stdout

    assert f"Removed {leaver.email}" in said and f'"{customer["name"]}"' in said
    assert '"Count the stars"' in said and "--stop-timer" in said and f"/api/active-timers/{leaver.id}/stop" in said
    assert "not approved: " in said and "assigned to them: 1" in said, said
    doctor = stint.command("doctor").stdout
    assert "Timers run of users who have no access any more" in doctor


@pytest.mark.parametrize(
    ("changed", "is_named"),
    [
        ("revoked_at = now()", True),
        ("role = 'customer_user', customer_id = %(customer)s", True),
        ("role = 'customer_admin', customer_id = %(customer)s", True),
        ("role = ''", True),  # its role was removed in the user pool
        ("role = 'visitor'", True),
        ("role = 'internal_accountant'", False),
        ("role = 'internal_admin'", False),
    ],
)
def test_doctor_names_each_timer_whose_owner_may_not_stop_it(
    changed: str, is_named: bool, given: Given, stint: Installation
) -> None:
    owner, admin = given.person(), given.admin()
    started(given, owner, hours=1)
    ids = {"id": owner.id, "customer": given.customer(admin)["id"]}
    with stint.sql() as conn:
        conn.execute(f"UPDATE users SET {changed} WHERE id = %(id)s".encode(), ids)

    assert (owner.email in over(stint.database_url, leftovers.timers_without_access)) is is_named
    stop(admin, owner)


def test_removing_a_user_stops_the_timer_at_the_given_time(given: Given, stint: Installation) -> None:
    leaver = given.person()
    timer = started(given, leaver, hours=5)
    end = (datetime.fromisoformat(timer["startTime"]) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    done = stint.command("user", "remove", leaver.email, "--stop-timer", "--end-time", end)

    assert done.returncode == 0 and end in done.stdout and "3,600 s" in done.stdout and "Their timer runs" not in done.stdout, (
        done
    )
    given.settled()
    assert stint.rows("SELECT duration FROM time_entries WHERE id = %s", timer["id"]) == [(3600,)]
    again = stint.command("user", "remove", leaver.email, "--stop-timer")  # for a user who was removed before, too
    assert again.returncode == 0


def test_an_impossible_end_removes_nobody(given: Given, stint: Installation) -> None:
    leaver = given.person()
    timer = started(given, leaver, hours=1)
    for words in (
        ("--stop-timer", "--end-time", ago(days=3)),
        ("--end-time", ago(hours=0)),
        ("--stop-timer", "--end-time", "now"),
        ("--stop-timer", "--end-time", "1026-11-23T17:30:00Z"),
    ):
        refused = stint.command("user", "remove", leaver.email, *words)
        assert refused.returncode != 0 and "Traceback" not in refused.stderr, words
    assert leaver.get("/api/active-timers/me")["id"] == timer["id"]
