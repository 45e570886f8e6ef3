"""Notes of entries, and deleting entries."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.support.answers import Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation


def note(by: Person, entry: Json, **body: object) -> httpx2.Response:
    return by.http.post(f"/api/time-entries/{entry['id']}/notes", json=body)


def reject(admin: Person, entry: Json) -> str:
    path = f"/api/time-bills/{entry['timeBillId']}"
    admin.patch(path, {"status": "rejected", "rejectionNote": "no"})
    return path


def create_approved_entry(given: Given, by: Person, admin: Person) -> Json:
    entry = given.logged(by)
    given.settled()
    admin.patch(f"/api/time-bills/{entry['timeBillId']}", {"status": "approved"})
    return by.get(f"/api/time-entries/{entry['id']}")


def test_notes_are_replaced_and_lines_are_added(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    changes: list[tuple[Json, str]] = [
        ({"append": "first"}, "first"),  # no empty line before it
        ({"append": "second\nthird", "notes": None}, "first\nsecond\nthird"),
        ({"notes": "replaced", "append": None, "version": 3}, "replaced"),
        ({"append": " 🛠 "}, "replaced\n 🛠 "),
        ({"notes": ""}, ""),
        ({"notes": "a" * 10_000}, "a" * 10_000),
    ]
    for version, (body, notes) in enumerate(changes, start=2):
        answer = note(by, entry, **body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == entry | {"notes": notes, "version": version, "updatedAt": answer.json()["updatedAt"]}
        assert by.get(f"/api/time-entries/{entry['id']}") == answer.json()


def test_notes_that_would_grow_too_long_are_422(given: Given) -> None:
    by = given.person()
    entry = given.logged(by, notes="a" * 9_990)
    assert refused_fields(note(by, entry, append="b" * 10)) == ["append"]  # with the line break one character too many
    assert len(note(by, entry, append="b" * 9).json()["notes"]) == 10_000


def test_concurrent_appends_are_all_kept(given: Given) -> None:
    by = given.person()
    entry = given.logged(by)
    with ThreadPoolExecutor(12) as pool:
        assert {answer.status_code for answer in pool.map(lambda n: note(by, entry, append=f"line {n}"), range(24))} == {200}
    lines = by.get(f"/api/time-entries/{entry['id']}")["notes"].split("\n")
    assert sorted(lines) == sorted(f"line {number}" for number in range(24))


def test_only_the_owner_and_admins_may_write_notes(given: Given) -> None:
    by, other, admin = given.person(), given.person(), given.admin()
    entry = given.logged(by)
    problem(note(other, entry, append="mine"), 403)
    problem(note(given.person("customer_admin", entry["customerId"]), entry, append="mine"), 403)
    problem(note(by, {"id": given.new_id()}, append="a line"), 404)
    assert note(admin, entry, append="checked").json()["notes"] == "checked"
    stale = note(by, entry, append="a line", version=1)
    assert problem(stale, 409)["current"] == by.get(f"/api/time-entries/{entry['id']}")


def test_notes_make_a_rejected_bill_pending(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    entry = given.logged(by)
    given.settled()
    bill = reject(admin, entry)
    note(by, entry, append="the disk was full")
    assert (by.get(bill)["status"], by.get(bill)["rejectionNote"], by.get(bill)["seconds"]) == ("pending", None, 3600)
    stint.verify()


@pytest.mark.parametrize("who", ["owner", "admin"])
def test_an_entry_on_an_approved_bill_is_locked(who: str, given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    entry = create_approved_entry(given, by, admin)
    person = by if who == "owner" else admin
    for refused in (note(person, entry, append="late"), person.http.delete(f"/api/time-entries/{entry['id']}")):
        assert problem(refused, 409)["timeBillId"] == entry["timeBillId"]
    assert by.get(f"/api/time-entries/{entry['id']}") == entry
    stint.verify()


def test_a_deleted_entry_is_404_and_its_bill_is_recalculated(given: Given, stint: Installation) -> None:
    by = given.person()
    task = given.task(by)
    kept, deleted = (given.logged(by, task, start=f"2026-03-02T{hour}:00:00Z") for hour in ("09", "10"))
    path = f"/api/time-entries/{deleted['id']}"

    by.delete(path)

    for answer in (
        by.http.get(path), by.http.delete(path), by.http.patch(path, json={"duration": 60}), note(by, deleted, append="late")
    ):  # fmt: skip
        problem(answer, 404)
    for filters in ({"userId": by.id}, {"taskId": task["id"]}, {"timeBillId": deleted["timeBillId"]}):
        assert [item["id"] for item in by.get("/api/time-entries", **filters)["items"]] == [kept["id"]]
    given.settled()
    assert by.get(f"/api/time-bills/{kept['timeBillId']}")["seconds"] == 3600
    tombstone = stint.rows("SELECT deleted_at IS NOT NULL, version FROM time_entries WHERE id = %s", deleted["id"])
    assert tombstone == [(True, 2)]
    by.delete(f"/api/time-entries/{kept['id']}")
    given.settled()
    problem(by.http.get(f"/api/time-bills/{kept['timeBillId']}"), 404)
    stint.verify()


def test_an_approval_right_after_a_deletion_has_the_new_sum(given: Given, stint: Installation) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    kept, deleted = (given.logged(by, task, start=f"2026-03-02T{hour}:00:00Z") for hour in ("09", "10"))
    by.delete(f"/api/time-entries/{deleted['id']}")
    approved = admin.patch(f"/api/time-bills/{kept['timeBillId']}", {"status": "approved"})
    assert approved["minutes"] == 60
    given.settled()
    stint.verify()


def test_only_the_owner_and_admins_may_delete_the_current_version(given: Given) -> None:
    by, other, admin = given.person(), given.person(), given.admin()
    task = given.task(by)
    entries = [given.logged(by, task, start=f"2026-03-02T1{hour}:00:00Z") for hour in range(2)]
    path = f"/api/time-entries/{entries[0]['id']}"
    problem(other.http.delete(path), 403)
    problem(given.person("customer_admin", task["customerId"]).http.delete(path), 403)
    problem(by.http.delete(f"/api/time-entries/{given.new_id()}"), 404)
    changed = note(by, entries[0], append="a line").json()
    for version in (1, 3, 2**31 - 1):
        assert problem(by.http.delete(f"{path}?version={version}"), 409)["current"] == changed
    by.delete(path, version=2)
    admin.delete(f"/api/time-entries/{entries[1]['id']}")


def test_of_concurrent_deletions_one_succeeds(given: Given, stint: Installation) -> None:
    by = given.person()
    entry = given.logged(by)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: by.http.delete(f"/api/time-entries/{entry['id']}"), range(10)))
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 9
    given.settled()
    stint.verify()


def test_a_deletion_makes_a_rejected_bill_pending(given: Given) -> None:
    by, admin = given.person(), given.admin()
    task = given.task(by)
    entries = [given.logged(by, task, start=f"2026-03-02T1{hour}:00:00Z") for hour in range(3)]
    given.settled()
    bill = reject(admin, entries[0])
    by.delete(f"/api/time-entries/{entries[1]['id']}")
    given.settled()
    assert (by.get(bill)["status"], by.get(bill)["seconds"]) == ("pending", 7200)


def test_a_repeated_stop_gets_the_same_answer_after_its_entry_was_deleted(given: Given) -> None:
    by = given.person()
    task = given.task(by)
    stopped = given.stopped(by, task)
    by.delete(f"/api/time-entries/{stopped['entryId']}")
    receipt = {name: stopped[name] for name in ("entryId", "taskId", "startTime", "endTime", "duration")}
    for wait in (0, 1, 10):
        answer = by.http.post(f"/api/tasks/{task['id']}/stop", params={"wait": wait})
        assert (answer.status_code, answer.json()) == (202, receipt)
    given.settled()
