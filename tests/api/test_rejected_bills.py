"""A rejected bill never depends on its owner: an admin can decide about it again, and correct its entries."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.support.answers import Json, problem
from tests.support.given import Given, Person
from tests.support.installation import Installation

NOTE = "Which server was it?"


def leaves_nothing(given: Given, owner: Person) -> None:
    """The owner stays."""


def is_removed(given: Given, owner: Person) -> None:
    assert given.stint.command("user", "remove", owner.email).returncode == 0


def loses_access(given: Given, owner: Person) -> None:
    """As when the account is disabled in a user pool: the row stays, without access."""
    with given.stint.sql() as conn:
        conn.execute("UPDATE users SET revoked_at = now() WHERE id = %s", (owner.id,))


def becomes_a_customers_user(given: Given, owner: Person) -> None:
    customer = given.customer(given.admin())
    with given.stint.sql() as conn:
        conn.execute("UPDATE users SET role = 'customer_user', customer_id = %s WHERE id = %s", (customer["id"], owner.id))


LEAVINGS = [leaves_nothing, is_removed, loses_access, becomes_a_customers_user]
Rejected = tuple[Person, Json, Json]


@pytest.fixture(params=LEAVINGS, ids=lambda leaves: leaves.__name__)
def rejected(request: pytest.FixtureRequest, given: Given) -> Rejected:
    """An admin, and a rejected bill with its one entry, whose owner may have left."""
    owner, admin = given.person(), given.admin()
    bill = given.bill(owner, minutes=60)
    [entry] = owner.get("/api/time-entries", timeBillId=bill["id"])["items"]
    bill = admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": NOTE})
    request.param(given, owner)
    return admin, bill, entry


def pushed(admin: Person, kind: str, entry: Json, **data: object) -> Json:
    base = None if kind == "entry.put" else entry["version"]
    operation = {"opId": str(uuid4()), "kind": kind, "baseVersion": base, "data": data}
    [result] = admin.post("/api/sync", {"operations": [operation]}, 200)["results"]
    assert result["outcome"] == "applied", result
    return dict(result)


def more_time(entry: Json) -> Json:
    times = {"startTime": entry["startTime"], "duration": 600, "allowOverlap": True}
    return {"id": str(uuid4()), "taskId": entry["taskId"], "userId": entry["userId"]} | times


CORRECTIONS: dict[str, Callable[[Person, Json], object]] = {
    "new times": lambda admin, entry: admin.patch(f"/api/time-entries/{entry['id']}", {"duration": 1800}),
    "new notes": lambda admin, entry: admin.post(f"/api/time-entries/{entry['id']}/notes", {"notes": "The mail server"}, 200),
    "one more line": lambda admin, entry: admin.post(f"/api/time-entries/{entry['id']}/notes", {"append": "Mail"}, 200),
    "more time": lambda admin, entry: admin.post("/api/time-entries", more_time(entry)),
    "new times, pushed": lambda admin, entry: pushed(admin, "entry.patch", entry, id=entry["id"], duration=1800),
    "a line, pushed": lambda admin, entry: pushed(admin, "entry.notes", entry, id=entry["id"], append="Mail"),
    "more time, pushed": lambda admin, entry: pushed(admin, "entry.put", entry, **more_time(entry)),
}


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_an_admins_correction_makes_a_rejected_bill_pending(correction: str, rejected: Rejected) -> None:
    admin, bill, entry = rejected

    CORRECTIONS[correction](admin, entry)

    now = admin.get(f"/api/time-bills/{bill['id']}")
    assert (now["status"], now["rejectionNote"]) == ("pending", None)
    assert now["version"] > bill["version"]
    approved = admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved"})
    assert approved["status"] == "approved"


def test_an_admin_deletes_one_of_the_entries(rejected: Rejected) -> None:
    admin, bill, entry = rejected
    other = admin.post("/api/time-entries", more_time(entry))
    again = admin.get(f"/api/time-bills/{bill['id']}")["status"]
    assert again == "pending"
    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": NOTE})

    admin.delete(f"/api/time-entries/{other['id']}")

    assert admin.get(f"/api/time-bills/{bill['id']}")["status"] == "pending"


def test_an_entry_that_an_admin_moves_to_the_day_of_a_rejected_bill_makes_it_pending(rejected: Rejected, given: Given) -> None:
    admin, bill, entry = rejected
    later = admin.post("/api/time-entries", more_time(entry) | {"startTime": "2026-03-04T09:00:00Z"})
    given.settled()
    assert admin.get(f"/api/time-bills/{bill['id']}")["status"] == "rejected"

    moved = admin.patch(f"/api/time-entries/{later['id']}", {"startTime": "2026-03-02T12:00:00Z", "duration": 600})

    assert moved["timeBillId"] == bill["id"]
    assert admin.get(f"/api/time-bills/{bill['id']}")["status"] == "pending"


def test_an_admin_takes_a_rejection_back(rejected: Rejected, stint: Installation) -> None:
    admin, bill, _ = rejected
    path = f"/api/time-bills/{bill['id']}"
    problem(admin.http.patch(path, json={"status": "pending", "version": bill["version"] - 1}), 409)

    pending = admin.patch(path, {"status": "pending", "version": bill["version"]})

    assert (pending["status"], pending["rejectionNote"], pending["version"]) == ("pending", None, bill["version"] + 1)
    assert problem(admin.http.patch(path, json={"status": "pending"}), 409)["current"] == pending
    stint.verify()


def test_an_admin_approves_a_rejected_bill(rejected: Rejected, stint: Installation) -> None:
    admin, bill, _ = rejected

    approved = admin.patch(f"/api/time-bills/{bill['id']}", {"status": "approved", "version": bill["version"]})

    assert (approved["status"], approved["rejectionNote"], approved["minutes"]) == ("approved", None, 60)
    assert (approved["approvedBy"], approved["xero"]["status"]) == (admin.id, "not_connected")
    stint.verify()


def test_approve_all_approves_a_rejected_bill_that_is_named(rejected: Rejected, stint: Installation) -> None:
    admin, bill, _ = rejected
    named = {"bills": [{"id": bill["id"], "version": bill["version"]}]}
    assert admin.post("/api/time-bills/approve-all", named, 200)["approved"] == 1
    assert admin.get(f"/api/time-bills/{bill['id']}")["rejectionNote"] is None
    stint.verify()


def test_a_filter_selects_no_rejected_bill(given: Given) -> None:
    owner, admin = given.person(), given.admin()
    bill = given.bill(owner)
    admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": NOTE})
    seen = admin.get("/api/time-bills", userId=owner.id)["syncTimestamp"]
    body = {"filter": {"userId": owner.id}, "syncTimestamp": seen}
    assert admin.post("/api/time-bills/approve-all", body, 200)["approved"] == 0
    assert admin.get(f"/api/time-bills/{bill['id']}")["status"] == "rejected"


def test_only_an_admin_decides_about_a_rejected_bill(given: Given) -> None:
    owner, other, admin = given.person(), given.person(), given.admin()
    bill = given.bill(owner)
    bill = admin.patch(f"/api/time-bills/{bill['id']}", {"status": "rejected", "rejectionNote": NOTE})
    for person in (owner, other):
        for status in ("pending", "approved"):
            problem(person.http.patch(f"/api/time-bills/{bill['id']}", json={"status": status}), 403)
    assert admin.get(f"/api/time-bills/{bill['id']}") == bill
