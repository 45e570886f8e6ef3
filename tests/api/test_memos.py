"""The memo of a time bill stays with the hours that it was written about, also when these go to another bill."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation

MEMO = "Moved the mail server"
LATER = {"startTime": "2026-03-03T09:00:00Z", "endTime": "2026-03-03T09:30:00Z"}


def another_day(by: Person, entry: Json, given: Given) -> None:
    by.patch(f"/api/time-entries/{entry['id']}", LATER)


def another_day_pushed(by: Person, entry: Json, given: Given) -> None:
    data = {"id": entry["id"], **LATER}
    operation = {"opId": str(uuid4()), "kind": "entry.patch", "baseVersion": entry["version"], "data": data}
    [result] = by.post("/api/sync", {"operations": [operation]}, 200)["results"]
    assert result["outcome"] == "applied", result


def another_task(by: Person, entry: Json, given: Given) -> None:
    by.patch(f"/api/time-entries/{entry['id']}", {"taskId": given.task(by)["id"]})


def the_task_to_another_customer(by: Person, entry: Json, given: Given) -> None:
    by.put(f"/api/tasks/{entry['taskId']}", {"customerId": given.customer(by)["id"]})


def the_task_to_another_pillar(by: Person, entry: Json, given: Given) -> None:
    pillar = by.post(f"/api/customers/{entry['customerId']}/pillars", {"name": "Hosting"})
    by.put(f"/api/tasks/{entry['taskId']}", {"pillarId": pillar["id"]})


MOVES: list[Callable[[Person, Json, Given], None]] = [
    another_day, another_day_pushed, another_task, the_task_to_another_customer, the_task_to_another_pillar,
]  # fmt: skip


def bill_of(by: Person, entry: Json) -> Json:
    bill_id = by.get(f"/api/time-entries/{entry['id']}")["timeBillId"]
    return dict(by.get(f"/api/time-bills/{bill_id}"))


@pytest.mark.parametrize("move", MOVES)
def test_the_memo_goes_with_the_last_entry(
    move: Callable[[Person, Json, Given], None], given: Given, stint: Installation
) -> None:
    owner = given.person()
    entry = given.logged(owner)
    given.settled()
    left = bill_of(owner, entry)
    owner.patch(f"/api/time-bills/{left['id']}", {"memo": MEMO})

    move(owner, entry, given)
    given.settled()

    now = bill_of(owner, entry)
    assert (now["id"] != left["id"], now["memo"]) == (True, MEMO)
    problem(owner.http.get(f"/api/time-bills/{left['id']}"), 404)
    stint.verify()


@pytest.mark.parametrize("by_task", [False, True])
def test_it_is_added_to_the_memo_there_once_no_entry_is_left(by_task: bool, given: Given, stint: Installation) -> None:
    owner = given.person()
    here, there = given.customer(owner), given.customer(owner)
    first, second = (given.logged(owner, given.task(owner, here), start=f"2026-03-02T{hour}:00:00Z") for hour in (10, 12))
    present = given.logged(owner, given.task(owner, there), start="2026-03-02T14:00:00Z")
    given.settled()
    left, target = bill_of(owner, first), bill_of(owner, present)
    owner.patch(f"/api/time-bills/{left['id']}", {"memo": MEMO})
    owner.patch(f"/api/time-bills/{target['id']}", {"memo": "The phones"})

    def move(entry: Json) -> None:
        if by_task:
            owner.put(f"/api/tasks/{entry['taskId']}", {"customerId": there["id"]})
        else:
            owner.patch(f"/api/time-entries/{entry['id']}", {"taskId": present["taskId"]})
        given.settled()

    move(first)
    assert (bill_of(owner, second)["memo"], bill_of(owner, present)["memo"]) == (MEMO, "The phones")
    before = bill_of(owner, present)["version"]
    move(second)
    merged = bill_of(owner, present)
    assert (merged["memo"], merged["seconds"]) == (f"The phones\n{MEMO}", 3 * 3600)
    assert merged["version"] > before
    problem(owner.http.get(f"/api/time-bills/{left['id']}"), 404)
    stint.verify()


def test_memos_of_two_bills_together_are_not_longer_than_a_memo_may_be(given: Given, stint: Installation) -> None:
    owner = given.person()
    customer = given.customer(owner)
    left, present = (given.logged(owner, given.task(owner, customer), start=f"2026-03-{day}T10:00:00Z") for day in ("02", "03"))
    given.settled()
    bill = owner.patch(f"/api/time-bills/{present['timeBillId']}", {"memo": "ä" * 9_000})
    owner.patch(f"/api/time-bills/{left['timeBillId']}", {"memo": "b" * 10_000})
    another_day(owner, left, given)
    given.settled()
    merged = bill_of(owner, present)
    assert (merged["id"], merged["memo"]) == (bill["id"], "ä" * 9_000 + "\n" + "b" * 998 + "…")
    assert owner.patch(f"/api/time-bills/{bill['id']}", {"memo": merged["memo"]})["memo"] == merged["memo"]
    stint.verify()


def test_late_time_on_the_day_that_was_left_opens_a_bill_without_the_memo(given: Given, stint: Installation) -> None:
    owner = given.person()
    task = given.task(owner)
    entry = given.logged(owner, task)
    given.settled()
    owner.patch(f"/api/time-bills/{entry['timeBillId']}", {"memo": MEMO})
    another_day(owner, entry, given)
    late = given.logged(owner, task)  # at once: the worker may not have run yet
    given.settled()
    assert (bill_of(owner, late)["memo"], bill_of(owner, entry)["memo"]) == ("", MEMO)
    stint.verify()


def test_the_memo_goes_with_the_last_entry_that_is_deleted(given: Given, stint: Installation) -> None:
    owner = given.person()
    task = given.task(owner)
    entry = given.logged(owner, task)
    given.settled()
    owner.patch(f"/api/time-bills/{entry['timeBillId']}", {"memo": MEMO})
    owner.delete(f"/api/time-entries/{entry['id']}")
    given.settled()
    assert bill_of(owner, given.logged(owner, task))["memo"] == ""
    stint.verify()
