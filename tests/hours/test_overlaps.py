"""The flags `overlap` and `long` of entries, kept true by every change, and who sees them."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from ops.verify import verify
from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation
from tests.sync.pushing import op, outcomes, pushed

DAY = "2026-03-02T"
RULE = "an entry has the flag overlap exactly if it shares time with another entry of its user"


def ago(**before: float) -> str:
    return (datetime.now(UTC) - timedelta(**before)).strftime("%Y-%m-%dT%H:%M:%SZ")


def flags(by: Person, *entries: Json) -> list[list[str]]:
    return [by.get(f"/api/time-entries/{entry['id']}")["flags"] for entry in entries]


def pair(given: Given, by: Person) -> tuple[Json, Json]:
    """Two entries for two customers that share half an hour."""
    return given.logged(by, start=f"{DAY}09:00:00Z"), given.logged(by, start=f"{DAY}09:30:00Z")


def test_both_entries_have_the_flag_at_once_whatever_the_customer(given: Given, stint: Installation) -> None:
    by, other = given.people(2)
    first, second = pair(given, by)
    assert second["flags"] == ["overlap"]  # in the answer, too
    assert flags(by, first, second) == [["overlap"], ["overlap"]]
    alone, of_another = given.logged(by, start=f"{DAY}10:30:00Z"), given.logged(other, start=f"{DAY}09:00:00Z")
    assert flags(by, alone, of_another) == [[], []]  # it begins when the second ends
    assert by.get(f"/api/time-entries/{first['id']}")["version"] == first["version"]
    stint.verify()


CHANGES: dict[str, Json] = {
    "its start is later": {"startTime": f"{DAY}10:00:00Z"},
    "it is on another day": {"startTime": f"{DAY[:8]}05T09:00:00Z", "duration": 60},
    "it is shorter": {"startTime": f"{DAY}10:10:00Z", "endTime": f"{DAY}10:20:00Z"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_flags_end_when_one_entry_moves_away_and_return_with_it(change: Json, given: Given) -> None:
    by = given.person()
    first, second = pair(given, by)
    assert by.patch(f"/api/time-entries/{second['id']}", change)["flags"] == []
    assert flags(by, first, second) == [[], []]
    times = {"startTime": second["startTime"], "endTime": second["endTime"], "allowOverlap": True}
    assert by.patch(f"/api/time-entries/{second['id']}", times)["flags"] == ["overlap"]
    assert flags(by, first) == [["overlap"]]


def test_the_flag_ends_with_the_last_of_several_overlaps(given: Given, stint: Installation) -> None:
    by = given.person()
    first, second = pair(given, by)
    third = given.logged(by, start=f"{DAY}09:50:00Z", minutes=5)
    by.delete(f"/api/time-entries/{second['id']}")
    assert flags(by, first, third) == [["overlap"], ["overlap"]]
    by.delete(f"/api/time-entries/{third['id']}")
    assert flags(by, first) == [[]]
    with stint.sql() as conn:  # a restored row overlaps again
        conn.execute("UPDATE time_entries SET deleted_at = NULL, bill_id = NULL WHERE id = %s", (third["id"],))
    assert flags(by, first, third) == [["overlap"], ["overlap"]]
    by.delete(f"/api/time-entries/{third['id']}")


def test_another_task_keeps_the_flags(given: Given) -> None:
    by = given.person()
    first, second = pair(given, by)
    moved = by.patch(f"/api/time-entries/{second['id']}", {"taskId": first["taskId"]})
    assert (moved["flags"], flags(by, first)) == (["overlap"], [["overlap"]])


def test_timers_late_stops_and_offline_stops_leave_a_trace(given: Given, stint: Installation) -> None:
    by = given.person()
    task, others = given.task(by), given.task(by)
    timer = by.http.put("/api/active-timers/me", json={"taskId": task["id"], "startTime": ago(hours=5)}).json()
    during = given.logged(by, others, start=ago(hours=4))  # by hand, while the timer runs
    assert flags(by, during) == [[]]
    by.post(f"/api/tasks/{task['id']}/stop", {"endTime": ago(hours=3.5)}, status=200, wait=10)
    assert flags(by, during, timer) == [["overlap"], ["overlap"]]

    offline = {"id": given.new_id(), "taskId": others["id"], "startTime": ago(hours=30), "endTime": ago(hours=20)}
    again = {**offline, "id": given.new_id(), "startTime": ago(hours=22), "endTime": ago(hours=21)}
    for data in (offline, again):
        assert outcomes(pushed(by, op("timer.stop", **data))) == ["applied"]
    given.settled()
    assert flags(by, offline, again) == [["overlap"], ["overlap"]]

    back = by.http.put("/api/active-timers/me", json={"taskId": task["id"], "startTime": ago(hours=3.4)}).json()
    by.http.put("/api/active-timers/me", json={"taskId": task["id"], "startTime": ago(hours=3.8)})  # set back, over `during`
    by.post(f"/api/tasks/{task['id']}/stop", status=200, wait=10)
    assert flags(by, back) == [["overlap"]]
    stint.verify()


def test_an_entry_of_many_days_overlaps_those_within_it(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    inside = given.logged(by, task, start="2026-03-20T09:00:00Z")
    sent = {"id": given.new_id(), "taskId": task["id"], "startTime": "2026-01-05T09:00:00Z", "endTime": "2026-04-05T09:00:00Z"}
    pushed(by, op("timer.stop", **sent))
    given.settled()
    assert flags(by, sent, inside) == [["long", "overlap"], ["overlap"]]
    later = given.logged(by, task, start="2026-04-01T09:00:00Z")
    assert later["flags"] == ["overlap"]
    by.delete(f"/api/time-entries/{sent['id']}")
    assert flags(by, inside, later) == [[], []]
    stint.verify()


def test_long_is_kept_true(given: Given) -> None:
    by = given.person()
    by_hand = given.logged(by, minutes=30 * 60)
    assert by_hand["flags"] == ["long"]
    path = f"/api/time-entries/{by_hand['id']}"
    assert by.patch(path, {"duration": 60})["flags"] == []
    assert by.patch(path, {"duration": 12 * 3600})["flags"] == []
    assert by.patch(path, {"duration": 12 * 3600 + 1})["flags"] == ["long"]
    assert by.post(f"{path}/notes", {"append": "yes"}, status=200)["flags"] == ["long"]


def test_a_list_shows_only_those_that_overlap(given: Given) -> None:
    by = given.person()
    first, second = pair(given, by)
    alone = given.logged(by, start=f"{DAY}13:00:00Z")
    for overlap, expected in (("true", [second, first]), ("false", [alone])):
        found = by.get("/api/time-entries", userId=by.id, overlap=overlap)["items"]
        assert [row["id"] for row in found] == [entry["id"] for entry in expected]


def test_bills_count_the_entries_that_overlap_and_are_approved_all_the_same(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    first, second = pair(given, by)
    given.logged(by, {"id": first["taskId"]}, start=f"{DAY}12:00:00Z")
    given.settled()
    for entry in (first, second):
        listed = admin.get("/api/time-bills", userId=by.id, enrich="true")["items"]
        [bill] = [row for row in listed if row["id"] == entry["timeBillId"]]
        assert bill["overlappingEntries"] == 1
        seen = {"bills": [{"id": bill["id"], "version": bill["version"]}]}
        [result] = admin.post("/api/time-bills/approve-all", seen, status=200)["results"]
        assert (result["result"], result["overlappingEntries"]) == ("approved", 1)
    stint.verify()


def test_a_flag_on_an_approved_bill_changes_nothing_else(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    bill = given.approved_bill(by, admin)
    [entry] = by.get("/api/time-entries", timeBillId=bill["id"])["items"]
    late = given.logged(by, start=entry["startTime"], minutes=5)
    assert by.get(f"/api/time-entries/{entry['id']}") == entry | {"flags": ["overlap"]}
    stint.verify()
    by.delete(f"/api/time-entries/{late['id']}")
    assert by.get(f"/api/time-entries/{entry['id']}") == entry


def test_customers_users_see_nothing_of_it(given: Given) -> None:
    by, admin = given.person(), given.admin()
    bill = given.approved_bill(by, admin)
    user = given.person("customer_admin", bill["customerId"])
    paths: list[tuple[str, Json]] = [
        ("/api/time-entries", {}), ("/api/time-entries", {"enrich": "true"}), ("/api/time-bills", {"enrich": "true"}),
    ]  # fmt: skip
    before = [user.get(path, **query)["items"] for path, query in paths]
    [entry] = before[0]
    assert entry["flags"] == []

    given.logged(by, start=entry["startTime"], minutes=5)

    assert flags(by, entry) == [["overlap"]]
    assert [user.get(path, **query)["items"] for path, query in paths] == before
    assert flags(user, entry) == [[]]
    assert before[2][0]["overlappingEntries"] is None
    for value in ("true", "false"):
        problem(user.http.get("/api/time-entries", params={"overlap": value}), 403)


def test_the_version_before_shows_customers_users_nothing_of_it(given: Given, stint: Installation) -> None:
    by = given.person()
    entries = [*pair(given, by), given.logged(by, start=f"{DAY}09:45:00Z", minutes=13 * 60)]
    assert flags(by, *entries) == [["overlap"], ["overlap"], ["long", "overlap"]]
    with stint.sql() as conn:  # it sends this column as it is
        stored = {
            str(row[0]): row[1] for row in conn.execute("SELECT id, flags FROM time_entries WHERE user_id = %s", (by.id,))
        }
        # it writes the column, too
        conn.execute("UPDATE time_entries SET flags = '{}', version = version + 1 WHERE id = %s", (entries[0]["id"],))
    assert [stored[entry["id"]] for entry in entries] == [[], [], ["long"]]
    assert flags(by, entries[0]) == [["overlap"]]


def test_a_sync_returns_the_other_entry_when_its_flag_changes(given: Given) -> None:
    by = given.person()
    first = given.logged(by, start=f"{DAY}09:00:00Z")
    given.settled()
    since = by.get("/api/sync")["syncTimestamp"]
    second = given.logged(by, start=f"{DAY}09:30:00Z")
    changed = by.get("/api/sync", lastSyncTimestamp=since)
    found = {row["id"]: row["flags"] for row in changed["timeEntries"]}
    assert found == {first["id"]: ["overlap"], second["id"]: ["overlap"]}
    by.delete(f"/api/time-entries/{second['id']}")
    rows = by.get("/api/sync", lastSyncTimestamp=changed["syncTimestamp"])["timeEntries"]
    assert {row["id"]: row.get("flags") for row in rows} == {first["id"]: [], second["id"]: None}


@pytest.mark.parametrize("seed", range(2))
def test_concurrent_writers_leave_true_flags(seed: int, given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    tasks = [given.task(admin) for _ in range(3)]

    def act(number: int) -> httpx2.Response:
        pick = random.Random(seed * 1000 + number)
        start, seconds = f"{DAY}{pick.randrange(8, 12):02}:{pick.randrange(60):02}:00Z", pick.randrange(0, 4000)
        task, who = pick.choice(tasks)["id"], pick.choice([by, admin])
        match pick.choice("log log log edit edit give delete approve reopen stop offline offline".split()):
            case "log":
                body: Json = {"taskId": task, "userId": by.id, "startTime": start, "duration": seconds, "allowOverlap": True}
                return who.http.post("/api/time-entries", json=body)
            case "stop":
                by.http.put("/api/active-timers/me", json={"taskId": task, "startTime": ago(seconds=pick.randrange(9000))})
                return by.http.post(f"/api/tasks/{task}/stop")
            case "offline":
                end = (datetime.fromisoformat(start) + timedelta(seconds=seconds)).isoformat()
                data: dict[str, Any] = {"id": given.new_id(), "taskId": task, "startTime": start, "endTime": end}
                follow = op("entry.notes", id=data["id"], append="mine")
                return by.http.post("/api/sync", json={"operations": [op("timer.stop", **data), follow]})
            case "approve" | "reopen" as verb:
                found = admin.get("/api/time-bills", userId=by.id)["items"]
                status = {"approve": "approved", "reopen": "pending"}[verb]
                bill = f"/api/time-bills/{pick.choice(found)['id']}" if found else f"/api/time-bills/{given.new_id()}"
                return admin.http.patch(bill, json={"status": status})
            case verb:
                found = by.get("/api/time-entries", userId=by.id)["items"]
                path = f"/api/time-entries/{pick.choice(found)['id'] if found else given.new_id()}"
                change = {"taskId": task} if verb == "give" else {"startTime": start, "duration": seconds, "allowOverlap": True}
                return who.http.delete(path) if verb == "delete" else who.http.patch(path, json=change)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(act, range(150)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202, 204, 404, 409}, [
        answer.text for answer in answers if answer.status_code >= 500
    ]
    given.settled()
    assert given.dead_letters() == []
    stint.verify()


def test_rows_of_one_statement_get_true_flags(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    shapes = [(0, 60), (30, 40), (120, 10), (125, 1), (200, 0), (200, 0), (300, 2000), (900, 1), (5000, 3)]
    with stint.sql() as conn:
        insert = """
            INSERT INTO time_entries (id, task_id, user_id, customer_id, pillar_id, start_time, end_time, date)
            SELECT gen_random_uuid(), %s, %s, %s, %s, t, t + make_interval(mins => m), '2026-03-02'
            FROM unnest(%s::int[], %s::int[]) AS s (n, m),
                 LATERAL (SELECT '2026-03-02Z'::timestamptz + make_interval(mins => n) AS t) u
        """
        ids = (task["id"], by.id, task["customerId"], task["pillarId"])
        conn.execute(insert, (*ids, [n for n, _ in shapes], [m for _, m in shapes]))
        for change in ("start_time = start_time - interval '100 minutes'", "end_time = end_time + interval '55 minutes'"):
            conn.execute(f"UPDATE time_entries SET {change} WHERE user_id = %s", (by.id,))
            assert broken(stint) == []
        conn.execute("UPDATE time_entries SET deleted_at = now() WHERE user_id = %s AND duration > 6000", (by.id,))
        assert broken(stint) == []
        conn.execute("DELETE FROM time_entries WHERE user_id = %s", (by.id,))


def broken(stint: Installation) -> list[str]:
    return [sentence for sentence in asyncio.run(verify(stint.settings)) if sentence.startswith(RULE)]
