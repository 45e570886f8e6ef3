"""Each invalid field is refused with the name that the client uses."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx2
import pytest

from tests.support.answers import Json, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation

SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"


@pytest.fixture(scope="module")
def admin(stint: Installation) -> Iterator[Person]:
    given = Given(stint)
    yield given.admin()
    given.close()


def send(by: Person, method: str, path: str, body: bytes) -> httpx2.Response:
    return by.http.request(method, path, content=body, headers={"Content-Type": "application/json"})


CUSTOMER: Json = {"name": "Acme"}
REPLAY: Json = {"select": {"all": True}, "reason": "a try", "dryRun": True}
TASK: Json = {"title": "Migrate it", "customerId": SOMEONE}
WRONG_FIELDS: list[tuple[str, str, Json, list[str]]] = [
    ("POST", "/api/customers", {}, ["name"]),
    ("POST", "/api/customers", {"name": ""}, ["name"]),
    ("POST", "/api/customers", {"name": "  \t "}, ["name"]),
    ("POST", "/api/customers", {"name": "a" * 201}, ["name"]),
    ("POST", "/api/customers", {"name": None}, ["name"]),
    ("POST", "/api/customers", {"name": ["Acme"]}, ["name"]),
    ("POST", "/api/customers", {**CUSTOMER, "id": "no-uuid"}, ["id"]),
    ("POST", "/api/customers", {**CUSTOMER, "id": 5}, ["id"]),
    ("POST", "/api/customers", {**CUSTOMER, "email": "nobody"}, ["email"]),
    ("POST", "/api/customers", {**CUSTOMER, "email": 5, "phone": 5}, ["email", "phone"]),
    ("POST", "/api/customers", {**CUSTOMER, "notes": None}, ["notes"]),
    ("POST", "/api/customers", {**CUSTOMER, "notes": "a" * 10_001}, ["notes"]),
    ("POST", "/api/customers", {**CUSTOMER, "active": "perhaps"}, ["active"]),
    ("POST", "/api/customers", {**CUSTOMER, "active": 1}, ["active"]),
    ("POST", "/api/customers", {**CUSTOMER, "rounding": 15}, ["rounding"]),
    ("POST", "/api/customers", {**CUSTOMER, "rounding": {"increment": True}}, ["rounding.increment"]),
    (
        "POST",
        "/api/customers",
        {**CUSTOMER, "rounding": {"increment": 7, "mode": 5}},
        ["rounding.increment", "rounding.mode"],
    ),
    ("POST", "/api/customers", {**CUSTOMER, "rounding": {"increment": "15"}}, ["rounding.increment"]),
    ("POST", "/api/customers", {**CUSTOMER, "rounding": {"step": 5}}, ["rounding.step"]),
    ("POST", "/api/customers", {**CUSTOMER, "xeroContactId": 5, "xeroProjectId": {}}, ["xeroContactId", "xeroProjectId"]),
    ("POST", "/api/customers", {**CUSTOMER, "xero_contact_id": "a"}, ["xero_contact_id"]),
    ("POST", "/api/customers", {**CUSTOMER, "colour": "red", "version": 1}, ["colour", "version"]),
    *(
        ("POST", "/api/dead-letters/replay", {**REPLAY, "ratePerSecond": rate}, ["ratePerSecond"])
        for rate in ("1", True, [1], 0)
    ),
    ("POST", "/api/tasks", {}, ["title", "customerId"]),
    ("POST", "/api/tasks", {**TASK, "title": 5}, ["title"]),
    ("POST", "/api/tasks", {**TASK, "customerId": "x"}, ["customerId"]),
    ("POST", "/api/tasks", {**TASK, "customerId": SOMEONE}, ["customerId"]),
    ("POST", "/api/tasks", {**TASK, "pillarId": "x", "assigneeId": 5}, ["pillarId", "assigneeId"]),
    ("POST", "/api/tasks", {**TASK, "status": "later", "priority": 1, "source": None}, ["status", "priority", "source"]),
    ("POST", "/api/tasks", {**TASK, "dueDate": "2026-02-30"}, ["dueDate"]),
    ("POST", "/api/tasks", {**TASK, "dueDate": "0000-01-01"}, ["dueDate"]),
    ("POST", "/api/tasks", {**TASK, "dueDate": "0001-01-01"}, ["dueDate"]),
    ("POST", "/api/tasks", {**TASK, "dueDate": "10000-01-01"}, ["dueDate"]),
    ("POST", "/api/tasks", {**TASK, "dueDate": "1000000000-01-01"}, ["dueDate"]),
    ("POST", "/api/tasks", {**TASK, "dueDate": 20_000}, ["dueDate"]),
    ("POST", "/api/tasks", {**TASK, "dueDate": "tomorrow"}, ["dueDate"]),
    ("POST", "/api/tasks", {**TASK, "createdBy": SOMEONE}, ["createdBy"]),
    ("POST", f"/api/tasks/{SOMEONE}/start", {"notes": 5}, ["notes"]),
    ("POST", f"/api/tasks/{SOMEONE}/start", {"startTime": "2026-03-02T09:00:00Z"}, ["startTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"startTime": 5, "endTime": 1e9}, ["startTime", "endTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"startTime": "2026-02-30T00:00:00Z"}, ["startTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"startTime": "2026-03-02T09:00:00"}, ["startTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"startTime": "2026-03-02T25:00:00Z"}, ["startTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"startTime": "0000-01-01T00:00:00Z"}, ["startTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"startTime": "0001-01-01T00:00:00+14:00"}, ["startTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"endTime": "9999-12-31T23:59:59-14:00"}, ["endTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"endTime": "10000-01-01T00:00:00Z"}, ["endTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"endTime": "1000000000-01-01T00:00:00Z"}, ["endTime"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": -1}, ["duration"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": 1.5}, ["duration"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": "60"}, ["duration"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": True}, ["duration"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": 60.0}, ["duration"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"allowOverlap": "yes"}, ["allowOverlap"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"allowOverlap": 1, "version": True}, ["allowOverlap", "version"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": 10**400}, ["duration"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": 315_360_001}, ["duration"]),
    (
        "POST",
        "/api/time-entries",
        {"taskId": SOMEONE, "startTime": "2026-03-02T09:00:00Z", "duration": 2_678_401},
        ["duration"],
    ),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"allowOverlap": "perhaps", "version": "1"}, ["allowOverlap", "version"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"version": 0}, ["version"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"version": 2**53 + 1}, ["version"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"start_time": "2026-03-02T09:00:00Z"}, ["start_time"]),
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"notes": "x"}, ["notes"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {}, [""]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"version": 1}, [""]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"memo": 5, "status": "paid"}, ["memo", "status"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"memo": "a" * 10_001}, ["memo"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"status": "rejected"}, ["rejectionNote"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"status": "rejected", "rejectionNote": ""}, ["rejectionNote"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"status": "rejected", "rejectionNote": " \n "}, ["rejectionNote"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"rejectionNote": "  "}, ["rejectionNote"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"status": "approved", "rejectionNote": "why"}, ["rejectionNote"]),
    ("PATCH", f"/api/time-bills/{SOMEONE}", {"minutes": 60, "seconds": 3600}, ["minutes", "seconds"]),
]


def test_each_invalid_field_is_named_as_in_the_request(admin: Person) -> None:
    for method, path, body, expected in WRONG_FIELDS:
        answer = send(admin, method, path, json.dumps(body).encode())
        assert answer.status_code == 422, f"{method} {path} {str(body)[:200]}: {answer.status_code} {answer.text[:300]}"
        assert sorted(refused_fields(answer)) == sorted(expected), f"{method} {path} {str(body)[:200]}"


TIME = "2026-03-02T09:00:00Z"
INVALID_TIMES = [
    5, 1e9, True, [], {}, "", "now", "2026-03-02", "2026-03-02T09:00:00", "2026-02-30T09:00:00Z", "2026-03-02T25:00:00Z",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1899-12-31T23:59:59Z",
    "9001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z",
    "1000000000-01-01T00:00:00Z", "-2026-03-02T09:00:00Z", "5", "1772442000", "20260302090000", 1772442000000,
]  # fmt: skip
INVALID_DAYS: list[object] = [
    5, 1e9, True, [], {}, "", "today", "2026-02-30", "0000-00-00", "0001-01-01", "1899-12-31", "9000-01-02", "9999-12-31",
    "10000-01-01", "1000000000-01-01", "2026-03-02T09:00:00Z", "86400", "0",
]  # fmt: skip
# (an existing entry may last longer, if a timer made it: up to ten years)
INVALID_DURATIONS = [-1, 315_360_001, 2**31, 2**63, 10**400, 1.5, 60.0, "60", "", True, [], {}]
INVALID_VERSIONS = [0, -1, 2**53 + 1, 2**63, 10**400, 1.0, 1.5, "1", True, [], {}]
INVALID_IDS: list[object] = [5, 1e9, True, [], {}, "", "x", SOMEONE + "0", SOMEONE[:-1], "..", "🛠", "a" * 10_000]
INVALID_TEXTS = [5, 1.5, True, [], {}, "a" * 10_001]
INVALID_FLAGS = [0, 1, "true", "yes", "", [], {}, None]

TASK_PATH, ENTRY_PATH, BILLS = f"/api/tasks/{SOMEONE}", f"/api/time-entries/{SOMEONE}", "/api/time-bills"
TIMER: Json = {"taskId": SOMEONE}
ENTRY: Json = {"taskId": SOMEONE, "startTime": TIME, "duration": 60}
BILL: Json = {"id": SOMEONE, "version": 1}

# of each route: a valid body, its fields, and invalid values of each field
INVALID_VALUES: list[tuple[str, str, Json, dict[str, list[object]]]] = [
    ("PUT", TASK_PATH, {}, {
        "title": [5, "", "  ", "a" * 201, [], {}], "description": INVALID_TEXTS, "status": ["later", "", 1, []],
        "priority": ["none", 1], "customerId": INVALID_IDS, "pillarId": INVALID_IDS, "assigneeId": INVALID_IDS,
        "dueDate": INVALID_DAYS,
        "version": INVALID_VERSIONS, "source": ["web"], "createdBy": [SOMEONE], "customer_id": [SOMEONE], "id": [SOMEONE],
    }),
    ("PUT", "/api/active-timers/me", TIMER, {
        "taskId": [*INVALID_IDS, None], "startTime": INVALID_TIMES, "notes": INVALID_TEXTS, "version": INVALID_VERSIONS,
        "userId": [SOMEONE],
        "endTime": [TIME], "duration": [60], "id": [SOMEONE],
    }),
    ("POST", "/api/time-entries", ENTRY, {
        "id": INVALID_IDS, "taskId": [*INVALID_IDS, None], "userId": INVALID_IDS, "startTime": [*INVALID_TIMES, None],
        "endTime": INVALID_TIMES, "duration": INVALID_DURATIONS, "notes": [*INVALID_TEXTS, None], "allowOverlap": INVALID_FLAGS,
        "version": [1], "customerId": [SOMEONE], "timeBillId": [SOMEONE], "date": ["2026-03-02"], "flags": [[]],
    }),
    ("PATCH", ENTRY_PATH, {"duration": 60}, {
        "startTime": INVALID_TIMES, "endTime": INVALID_TIMES, "duration": INVALID_DURATIONS, "allowOverlap": INVALID_FLAGS,
        "version": INVALID_VERSIONS, "notes": ["x"], "taskId": INVALID_IDS, "userId": [SOMEONE],
    }),
    ("POST", f"{ENTRY_PATH}/notes", {"append": "a line"}, {
        "append": [*INVALID_TEXTS, ""], "version": INVALID_VERSIONS, "duration": [60], "allowOverlap": [True],
    }),
    ("POST", f"{ENTRY_PATH}/notes", {}, {"notes": INVALID_TEXTS}),
    ("POST", f"{BILLS}/approve-all", {}, {
        "bills": [5, True, "all", {}, [], [BILL, BILL], [BILL] * 1001, [{"id": SOMEONE.upper(), "version": 2}, BILL]],
        "filter": [5, True, "all", []], "syncTimestamp": [5, True, [], "a" * 101], "status": ["pending"], "dryRun": [True],
    }),
    ("POST", f"{BILLS}/recompute", {"dryRun": True}, {
        "startDate": INVALID_DAYS, "endDate": INVALID_DAYS, "customerId": INVALID_IDS, "userId": INVALID_IDS,
        "dryRun": INVALID_FLAGS,
        "customer": ["Acme"], "status": ["pending"],
    }),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "fields"), INVALID_VALUES, ids=[f"{method} {path}" for method, path, *_ in INVALID_VALUES]
)
def test_an_invalid_value_is_refused_with_the_fields_name(
    method: str, path: str, body: Json, fields: dict[str, list[object]], admin: Person
) -> None:
    for name, values in fields.items():
        for value in values:
            answer = send(admin, method, path, json.dumps(body | {name: value}).encode())
            what = f"{method} {path} {name}: {str(value)[:100]}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code == 422, what
            assert refused_fields(answer) == [name], what


NOW = datetime.now(UTC).isoformat()
INVALID_FILTERS: dict[str, list[object]] = {
    "startDate": INVALID_DAYS, "endDate": INVALID_DAYS, "customerId": INVALID_IDS, "userId": INVALID_IDS,
    "status": ["pending"], "x": [None],
}  # fmt: skip
INVALID_TOGETHER: list[tuple[str, str, Json, list[str]]] = [
    ("PUT", "/api/active-timers/me", {}, ["taskId"]),
    ("PUT", "/api/active-timers/me", TIMER, ["taskId"]),  # does not exist
    ("POST", "/api/time-entries", {}, ["taskId", "startTime"]),
    ("POST", "/api/time-entries", ENTRY, ["taskId"]),  # does not exist
    ("POST", "/api/time-entries", {**ENTRY, "userId": SOMEONE}, ["userId"]),
    ("POST", "/api/time-entries", {"taskId": SOMEONE, "startTime": TIME}, ["endTime"]),
    ("POST", "/api/time-entries", {**ENTRY, "duration": None}, ["endTime"]),
    ("POST", "/api/time-entries", {**ENTRY, "endTime": "2026-03-02T09:01:01Z"}, ["duration"]),
    ("POST", "/api/time-entries", {**ENTRY, "endTime": "2026-03-02T08:59:59Z", "duration": None}, ["endTime"]),
    ("POST", "/api/time-entries", {**ENTRY, "endTime": "2026-04-02T09:00:01Z", "duration": None}, ["endTime"]),
    ("POST", "/api/time-entries", {**ENTRY, "startTime": "9000-12-31T23:59:59Z", "endTime": "9001-01-01T00:00:59Z"},
     ["endTime"]),
    ("POST", f"{ENTRY_PATH}/notes", {}, [""]),
    ("POST", f"{ENTRY_PATH}/notes", {"version": 1}, [""]),
    ("POST", f"{ENTRY_PATH}/notes", {"notes": None, "append": None}, [""]),
    ("POST", f"{ENTRY_PATH}/notes", {"notes": "a", "append": "b"}, [""]),
    ("POST", f"{ENTRY_PATH}/notes", {"notes": "", "append": "b"}, [""]),
    ("POST", f"{BILLS}/approve-all", {}, [""]),
    ("POST", f"{BILLS}/approve-all", {"bills": None, "filter": None}, [""]),
    ("POST", f"{BILLS}/approve-all", {"bills": [BILL], "filter": {}}, [""]),
    ("POST", f"{BILLS}/approve-all", {"bills": [BILL], "filter": {}, "syncTimestamp": NOW}, [""]),
    ("POST", f"{BILLS}/approve-all", {"syncTimestamp": NOW}, [""]),
    ("POST", f"{BILLS}/approve-all", {"filter": {}}, ["syncTimestamp"]),
    ("POST", f"{BILLS}/approve-all", {"bills": [BILL], "syncTimestamp": NOW}, ["syncTimestamp"]),
    *[
        ("POST", f"{BILLS}/approve-all", {"filter": {"userId": SOMEONE}, "syncTimestamp": junk}, ["syncTimestamp"])
        for junk in ("", "-1", "soon", "2026-03-02", "1e400", f"{SOMEONE}.5", "0", "2020-01-01T00:00:00Z", "9999-12-31T00:00Z")
    ],
    ("POST", f"{BILLS}/approve-all", {"bills": [{}]}, ["bills.0.id", "bills.0.version"]),
    ("POST", f"{BILLS}/approve-all", {"bills": [5]}, ["bills.0"]),
    ("POST", f"{BILLS}/approve-all", {"bills": [BILL, {**BILL, "memo": "a"}]}, ["bills.1.memo"]),
    *[("POST", f"{BILLS}/approve-all", {"bills": [{**BILL, "id": junk}]}, ["bills.0.id"]) for junk in [*INVALID_IDS, None]],
    *[
        ("POST", f"{BILLS}/approve-all", {"bills": [{**BILL, "version": junk}]}, ["bills.0.version"])
        for junk in [*INVALID_VERSIONS, None]
    ],
    *[
        ("POST", f"{BILLS}/approve-all", {"filter": {name: junk}, "syncTimestamp": NOW}, [f"filter.{name}"])
        for name, values in INVALID_FILTERS.items()
        for junk in values
    ],
    ("POST", f"{BILLS}/recompute", {"startDate": "2026-03-03", "endDate": "2026-03-02"}, ["endDate"]),
]  # fmt: skip


def test_invalid_combinations_are_refused_with_the_fields_names(admin: Person) -> None:
    for method, path, body, expected in INVALID_TOGETHER:
        answer = send(admin, method, path, json.dumps(body).encode())
        what = f"{method} {path} {str(body)[:200]}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code == 422, what
        assert sorted(refused_fields(answer)) == sorted(expected), what


def test_an_end_before_the_start_is_refused_in_a_filter_too(admin: Person) -> None:
    days = {"startDate": "2026-03-03", "endDate": "2026-03-02"}
    body = {"filter": {**days, "userId": SOMEONE}, "syncTimestamp": admin.get("/api/time-bills", limit=1)["syncTimestamp"]}
    answer = send(admin, "POST", f"{BILLS}/approve-all", json.dumps(body).encode())
    assert refused_fields(answer) == ["filter.endDate"]
