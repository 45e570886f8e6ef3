"""Hours lie between the year 2000 and a day ahead of now, however they come in; a bill is approved on its day or later."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from psycopg.types.json import Jsonb

from tests.support.answers import Json, at, problem, refused_fields
from tests.support.apis import Another
from tests.support.given import Given, Person
from tests.support.installation import Installation

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def push(by: Person, kind: str, data: Json, base: int | None = None) -> Json:
    operation = {"opId": str(uuid4()), "kind": kind, "baseVersion": base, "data": {"id": str(uuid4()), **data}}
    [result] = by.post("/api/sync", {"operations": [operation]}, 200)["results"]
    return dict(result)


FAR = ["2100-01-01T09:00:00Z", "8999-12-31T23:00:00Z", "9000-12-31T23:59:59Z"]
LONG_AGO = ["1999-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "1900-01-01T00:00:00Z"]


@pytest.mark.parametrize("start", [*FAR, *LONG_AGO])
def test_no_hours_of_that_time_are_recorded(start: str, given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    by.post(f"/api/tasks/{task['id']}/start")
    entry = given.logged(by, task)
    times = {"startTime": start, "duration": 3600}
    new = {"taskId": task["id"], **times}
    end = text(datetime.fromisoformat(start) + timedelta(hours=1)) if start < "9" else start

    for refused in (
        by.http.post("/api/time-entries", json=new),
        by.http.patch(f"/api/time-entries/{entry['id']}", json=times),
        by.http.patch(f"/api/time-entries/{entry['id']}", json={"startTime": start, "endTime": end}),
        by.http.put("/api/active-timers/me", json={"taskId": task["id"], "startTime": start}),
        by.http.post(f"/api/tasks/{task['id']}/stop", json={"endTime": start}),
    ):
        assert {error["path"] for error in problem(refused, 422)["errors"]} <= {"startTime", "endTime"}, refused.text
    for result in (
        push(by, "entry.put", new),
        push(by, "entry.patch", {"id": entry["id"], **times}, base=entry["version"]),
        push(by, "timer.start", {"taskId": task["id"], "startTime": start}),
        push(by, "timer.stop", {"taskId": task["id"], "startTime": start, "endTime": end}),
    ):
        assert result["outcome"] in ("rejected", "conflict"), result  # a conflict: another timer runs
    by.delete("/api/active-timers/me")
    given.settled()
    assert stint.value("SELECT count(*) FROM time_entries WHERE user_id = %s", by.id) == 1


def test_the_error_names_the_limit_and_what_to_do(given: Given) -> None:
    by = given.person()
    body = {"taskId": given.task(by)["id"], "startTime": "2126-03-02T09:00:00Z", "duration": 3600}
    [error] = problem(by.http.post("/api/time-entries", json=body), 422)["errors"]
    assert error["path"] == "startTime"
    assert "at most 24 hours ahead, now until 20" in error["message"] and "check the date" in error["message"]
    [error] = problem(by.http.post("/api/time-entries", json=body | {"startTime": "1926-03-02T09:00:00Z"}), 422)["errors"]
    assert error["message"] == "Hours are recorded from 2000-01-01 on; check the year."


@pytest.mark.parametrize("hour", [-1, 0, 22])
def test_hours_up_to_a_day_ahead_are_recorded(hour: int, given: Given) -> None:
    by = given.person()
    start = now() + timedelta(hours=hour)
    assert given.logged(by, start=text(start), minutes=60)["startTime"] == text(start)


@pytest.mark.parametrize(("start", "minutes", "path"), [
    (DAY + MINUTE, 0, "startTime"), (DAY - 30 * MINUTE, 32, "endTime"), (-MINUTE, 31 * 24 * 60, "endTime"),
])  # fmt: skip
def test_hours_that_end_later_are_not(start: timedelta, minutes: int, path: str, given: Given) -> None:
    by = given.person()
    body = {"taskId": given.task(by)["id"], "startTime": text(now() + start), "duration": minutes * 60}
    assert refused_fields(by.http.post("/api/time-entries", json=body)) == [path]


def test_an_entry_is_not_moved_or_made_longer_beyond_the_limit(given: Given) -> None:
    by = given.person()
    entry = given.logged(by, start=text(now()), minutes=60)
    path = f"/api/time-entries/{entry['id']}"
    late = text(now() + DAY + MINUTE)
    for change, field in (
        ({"duration": 25 * 3600}, "endTime"), ({"endTime": late}, "endTime"), ({"startTime": late, "duration": 0}, "startTime"),
    ):  # fmt: skip
        assert refused_fields(by.http.patch(path, json=change)) == [field]
    assert by.get(path)["duration"] == 3600


def test_an_entry_that_lies_too_far_ahead_already_can_be_corrected_and_deleted(given: Given, stint: Installation) -> None:
    by = given.person()
    entries = [given.logged(by, minutes=60) for _ in range(2)]
    given.settled()
    with stint.sql() as conn:  # as version 0.2.0 accepted them
        conn.execute("UPDATE time_entries SET end_time = '2999-01-01' WHERE user_id = %s", (by.id,))
    by.patch(f"/api/time-entries/{entries[0]['id']}", {"duration": 60, "allowOverlap": True})
    by.post(f"/api/time-entries/{entries[1]['id']}/notes", {"notes": "a wrong year"}, 200)
    by.delete(f"/api/time-entries/{entries[1]['id']}")


def test_the_limit_is_a_setting_and_does_not_apply_to_a_repeated_request(given: Given, another: Another) -> None:
    by = given.person()
    body = {"id": given.new_id(), "taskId": given.task(by)["id"], "startTime": text(now() + 2 * 60 * MINUTE), "duration": 60}
    created = by.post("/api/time-entries", body)
    with at(another(STINT_FUTURE_HOURS="0.5"), by.token) as client:
        assert client.post("/api/time-entries", json=body).json()["id"] == created["id"]
        [error] = problem(client.post("/api/time-entries", json=body | {"id": given.new_id()}), 422)["errors"]
    assert "at most 0.5 hours ahead" in error["message"]


# ---------------------------------------------------------------------------------------------------------------------
# corrections of a stop that failed


def dead_stop(given: Given, stint: Installation) -> tuple[str, Json]:
    """A dead letter of a stop, and its body."""
    by = given.person()
    body = {
        "entry_id": given.new_id(), "user_id": by.id, "task_id": given.task(by)["id"], "notes": "",
        "start_time": "2026-03-02T09:00:00Z", "end_time": "2026-03-02T10:00:00Z",
    }  # fmt: skip
    insert = """
        INSERT INTO messages (id, actor, queue, body, state, attempts, max_attempts, died_at, error)
        VALUES (gen_random_uuid(), 'stop_timer', 'timers', %s, 'dead', 1, 1, now(), 'no') RETURNING id
    """
    return str(stint.value(insert, Jsonb(body))), body


YEAR = "Hours are recorded from 2000-01-01 on"
AHEAD = "Hours can be recorded at most 24 hours ahead"
EDITS = [
    ("end_time", "9000-01-01T00:00:00Z", AHEAD),
    ("end_time", "2100-03-02T10:00:00Z", AHEAD),
    ("end_time", DAY + 5 * MINUTE, AHEAD),  # from now
    ("end_time", "1999-12-31T23:59:59Z", YEAR),
    ("start_time", "1999-12-31T23:59:59Z", YEAR),
    ("start_time", "2001-03-02T09:00:00Z", "more than ten years"),
    ("end_time", "2026-03-02T08:59:59Z", "end before it starts"),
    ("end_time", "2026-03-02T10:00:00", "a time such as"),
    ("end_time", 1772445600, "a time such as"),
    ("end_time", "10000-01-01T00:00:00Z", "a time such as"),
]


@pytest.mark.parametrize(("field", "value", "why"), EDITS)
def test_a_corrected_stop_has_the_limits_of_an_entry(
    field: str, value: str | int | timedelta, why: str, given: Given, stint: Installation
) -> None:
    value = text(now() + value) if isinstance(value, timedelta) else value
    dead_id, body = dead_stop(given, stint)
    edit = {"body": {**body, field: value}, "reason": "a wrong year"}
    [error] = problem(given.admin().http.post(f"/api/dead-letters/{dead_id}/edit", json=edit), 422)["errors"]
    assert error["path"] == f"body.{field}" and why in error["message"]
    assert stint.value("SELECT state FROM messages WHERE id = %s", dead_id) == "dead"
    printed = stint.command("dead", "edit", dead_id, "--set", f"{field}={value}", "--dry-run")
    assert printed.returncode == 1 and f"body.{field}" in printed.stderr
    discard = {"select": {"ids": [dead_id]}, "reason": "done"}
    given.admin().post("/api/dead-letters/discard", discard, 200)


@pytest.mark.parametrize(
    "end", ["2026-03-02T09:30:00Z", "2026-03-02T10:30:00.9+01:00", "2026-03-03T12:00:00Z"], ids=["Z", "offset", "long"]
)
def test_a_corrected_stop_becomes_its_entry(end: str, given: Given, stint: Installation) -> None:
    dead_id, body = dead_stop(given, stint)
    admin = given.admin()
    admin.post(f"/api/dead-letters/{dead_id}/edit", {"body": {**body, "end_time": end}, "reason": "it ended then"}, 200)
    given.settled()
    entry = admin.get(f"/api/time-entries/{body['entry_id']}")
    assert entry["endTime"] == text(datetime.fromisoformat(end).astimezone(UTC))
    stint.verify()


# ---------------------------------------------------------------------------------------------------------------------
# approvals


def bill_of(given: Given, by: Person, start: datetime) -> Json:
    entry = given.logged(by, start=text(start), minutes=0)
    given.settled()
    return by.get(f"/api/time-bills/{entry['timeBillId']}")


def test_a_bill_of_a_future_day_is_not_approved(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = bill_of(given, by, (now() + DAY).replace(hour=0, minute=0, second=0))
    path = f"/api/time-bills/{bill['id']}"

    refused = problem(admin.http.patch(path, json={"status": "approved"}), 409)
    named = {"bills": [{"id": bill["id"], "version": bill["version"]}]}
    [skipped] = admin.post("/api/time-bills/approve-all", named, 200)["results"]

    assert refused["current"] == bill == skipped["current"]
    assert skipped["result"] == "skipped"
    for reason in (refused["detail"], skipped["reason"]):
        assert f"The bill's day, {bill['date']}, has not come yet" in reason and "on that day or later" in reason
    assert admin.patch(path, {"status": "rejected", "rejectionNote": "Not yet"})["status"] == "rejected"
    problem(admin.http.patch(path, json={"status": "approved"}), 409)


def test_a_bill_of_today_is_approved(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = bill_of(given, by, now())
    assert admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved"})["status"] == "approved"


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])  # 14 hours ahead of UTC, and 11 behind
def test_the_firms_zone_decides_the_day(zone: str, given: Given, another: Another) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    here = another(STINT_TIMEZONE=zone)
    today = datetime.now(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    statuses = []
    for start in (today, today + DAY):
        body = {"taskId": task["id"], "startTime": start.isoformat(), "duration": 0, "allowOverlap": True}
        with at(here, by.token) as client:
            bill_id = client.post("/api/time-entries", json=body).json()["timeBillId"]
        given.settled()
        with at(here, admin.token) as client:
            statuses.append(client.patch(f"/api/time-bills/{bill_id}", json={"status": "approved"}).status_code)
            client.patch(f"/api/time-bills/{bill_id}", json={"status": "pending"})  # ./stint verify has another zone
    assert statuses == [200, 409]
