"""Lists: each row exactly once over all pages, newest first, also with concurrent writes; and the filters."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.answers import Json, at
from tests.support.given import Given, Person
from tests.support.installation import Installation

START = "2026-03-0{}T09:00:00Z"


def pages(by: Person, noun: str, **parameters: Any) -> Iterator[Json]:
    cursor: dict[str, str] = {}
    while True:
        answer = by.http.get(f"/api/{noun}", params=parameters | cursor)
        assert answer.status_code == 200, answer.text
        page: Json = answer.json()
        assert set(page) == {"items", "nextCursor", "syncTimestamp"}
        yield page
        if page["nextCursor"] is None:
            return
        cursor = {"cursor": page["nextCursor"]}


def listed(by: Person, noun: str, **parameters: Any) -> list[str]:
    return [item["id"] for page in pages(by, noun, **parameters) for item in page["items"]]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 1000])
def test_paging_returns_every_row_once_newest_first(limit: int, given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    created = [given.task(by, customer, assigneeId=by.id)["id"] for _ in range(7)]

    all_pages = list(pages(by, "tasks", userId=by.id, limit=limit))

    assert [item["id"] for page in all_pages for item in page["items"]] == created[::-1]
    assert [len(page["items"]) for page in all_pages] == [limit] * (7 // limit) + ([7 % limit] if 7 % limit else [])
    assert len({page["syncTimestamp"] for page in all_pages}) == 1


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_rows_created_while_paging_neither_shift_nor_repeat_others(limit: int, given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    created = [given.task(by, customer, assigneeId=by.id)["id"] for _ in range(6)]

    found, timestamps = [], set()
    for page in pages(by, "tasks", userId=by.id, limit=limit):
        found += [item["id"] for item in page["items"]]
        timestamps.add(page["syncTimestamp"])
        given.task(by, customer, assigneeId=by.id)

    assert found == created[::-1]
    assert len(timestamps) == 1  # that of the first page, so that a later sync returns the rows created since
    assert listed(by, "tasks", userId=by.id, limit=1)[-6:] == created[::-1]


def test_rows_with_the_same_time_are_ordered_by_id(given: Given, stint: Installation) -> None:
    by = given.person()
    customer = given.customer(by)
    created = [given.task(by, customer, assigneeId=by.id)["id"] for _ in range(9)]
    with stint.sql() as conn:
        conn.execute("UPDATE tasks SET created_at = now() WHERE assignee_id = %s", (by.id,))
    for limit in (1, 2, 4):
        assert listed(by, "tasks", userId=by.id, limit=limit) == sorted(created, reverse=True)


def test_paging_under_concurrent_writes_loses_nothing(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    before = {given.task(by, customer, assigneeId=by.id)["id"] for _ in range(10)}
    with ThreadPoolExecutor(5) as pool:
        writes = [pool.submit(given.task, by, customer, assigneeId=by.id) for _ in range(40)]
        lists = [listed(by, "tasks", userId=by.id, limit=3) for _ in range(5)]
        created = before | {task.result()["id"] for task in writes}
    for rows in lists:
        assert len(rows) == len(set(rows))
        assert before <= set(rows) <= created
    assert set(listed(by, "tasks", userId=by.id, limit=3)) == created


@pytest.fixture
def hours(given: Given) -> tuple[Person, list[Json], list[Json]]:
    """Entries of one consultant, two a day, over three days for the one customer and one more for another; oldest first."""
    by = given.person()
    one, other = given.task(by), given.task(by)
    plan = [(one, 2), (one, 3), (one, 4), (other, 4)]
    entries = [given.entry(by, task, start=START.format(day), minutes=10 * day) for task, day in plan]
    entries = [by.get(f"/api/time-entries/{entry['id']}") for entry in entries]
    return by, entries, [by.get(f"/api/time-bills/{entry['timeBillId']}") for entry in entries]


def test_lists_have_the_rows_as_they_are_read_one_by_one(hours: tuple[Person, list[Json], list[Json]]) -> None:
    by, entries, bills = hours
    for noun, rows, key in (("time-entries", entries, "startTime"), ("time-bills", bills, "date")):
        in_order = sorted(rows, key=lambda row: (row[key], row["id"]), reverse=True)
        own = [row["id"] for row in in_order]
        for limit in (1, 2, 3, 200):
            found = [item for page in pages(by, noun, userId=by.id, limit=limit) for item in page["items"]]
            assert [item["id"] for item in found if item["id"] in own] == own
        assert [item for item in found if item["id"] in own] == in_order


def test_filters_of_entries(hours: tuple[Person, list[Json], list[Json]], given: Given) -> None:
    by, entries, bills = hours
    ids = [entry["id"] for entry in entries]

    def found(**parameters: str) -> set[int]:
        return {ids.index(row) for row in listed(by, "time-entries", userId=by.id, **parameters)}

    assert found() == {0, 1, 2, 3}
    assert found(taskId=entries[0]["taskId"]) == {0, 1, 2}
    assert found(timeBillId=bills[1]["id"]) == {1}
    assert found(customerId=entries[3]["customerId"]) == {3}
    assert found(startDate="2026-03-03") == {1, 2, 3}
    assert found(endDate="2026-03-03") == {0, 1}
    assert found(startDate="2026-03-03", endDate="2026-03-03") == {1}
    assert found(startDate="2026-03-03", endDate="2026-03-04", taskId=entries[3]["taskId"]) == {3}
    assert found(startDate="2026-03-05") == found(taskId=given.new_id()) == found(customer="nobody") == set()
    assert found(startDate="0001-01-01", endDate="9999-12-31") == {0, 1, 2, 3}
    assert listed(by, "time-entries", userId=given.new_id()) == []


def test_filters_of_bills(hours: tuple[Person, list[Json], list[Json]], given: Given) -> None:
    by, _, bills = hours
    admin = given.admin()
    admin.patch(f"/api/time-bills/{bills[0]['id']}", {"status": "approved"})
    admin.patch(f"/api/time-bills/{bills[1]['id']}", {"status": "rejected", "rejectionNote": "no"})
    ids = [bill["id"] for bill in bills]

    def found(**parameters: str) -> set[int]:
        items = by.http.get("/api/time-bills", params={"userId": by.id, **parameters}).json()["items"]
        # the timers really ran today, whose bills are empty now
        return {ids.index(item["id"]) for item in items if item["seconds"]}

    assert found() == {0, 1, 2, 3}
    assert found(status="approved") == {0}
    assert found(status="rejected") == {1}
    assert found(status="pending") == {2, 3}
    assert found(startDate="2026-03-03", endDate="2026-03-04") == {1, 2, 3}
    assert found(startDate="2026-03-02", endDate="2026-03-02") == {0}
    assert found(customerId=bills[3]["customerId"]) == {3}
    assert found(customer=bills[3]["customerId"].upper()) == {3}


@pytest.mark.parametrize("noun", ["time-entries", "time-bills"])
def test_a_customer_filter_takes_an_id_or_a_name_in_upper_or_lower_case(noun: str, given: Given) -> None:
    by = given.person()
    name = f"Größe & Söhne 100% {given.new_id()}"
    customer = given.customer(by, name=name)
    entry = given.stopped(by, given.task(by, customer))
    expected = [entry["entryId"] if noun == "time-entries" else entry["timeBill"]["id"]]
    for value in (name, name.upper(), name.lower(), f" {name} ", customer["id"], customer["id"].upper()):
        assert listed(by, noun, customer=value) == expected, value
    for value in (name[:-1], "%", "_", "Größe%"):
        assert listed(by, noun, customer=value) == [], value
    assert listed(by, noun, customerId=customer["id"]) == expected


def test_days_of_a_filter_are_in_the_firms_time_zone(given: Given, new_york: Installation) -> None:
    by = given.person()
    entry = given.entry(by, start="2026-03-03T04:59:59Z")
    with at(new_york, by.token) as client:

        def found(**days: str) -> list[str]:
            items = client.get("/api/time-entries", params={"userId": by.id, **days}).json()["items"]
            return [item["id"] for item in items]

        assert found(startDate="2026-03-02", endDate="2026-03-02") == [entry["id"]]
        assert found(startDate="2026-03-03") == found(endDate="2026-03-01") == []


def test_enriched_rows_have_the_names_of_their_ids(given: Given) -> None:
    by = given.person()
    customer = given.customer(by)
    task = given.task(by, customer, title="Migrate the mail server")
    stopped = given.stopped(by, task)
    names = {
        "customerName": customer["name"],
        "pillarName": "General Support",
        "userName": by.get("/api/me")["name"],
        "userEmail": by.email,
    }

    def first(noun: str, **enrich: Any) -> Json:
        row: Json = by.get(f"/api/{noun}", userId=by.id, **enrich)["items"][0]
        return row

    assert first("time-bills", enrich="true") == first("time-bills") | names | {"overlappingEntries": 0}
    task_title = {"taskTitle": "Migrate the mail server"}
    assert first("time-entries", enrich="true") == first("time-entries") | names | task_title
    assert first("time-entries")["id"] == stopped["entryId"]


def test_texts_are_returned_unchanged(given: Given) -> None:
    by = given.person()
    text = 'quotes " and \\ backslashes, \u2028 line\nbreaks, 🛠, \u202e, </script>, \x1f'
    task = given.task(by, description=text, assigneeId=by.id)
    assert by.get("/api/tasks", userId=by.id)["items"] == [task]
    assert task["description"] == text
