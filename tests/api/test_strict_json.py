"""Whatever is sent, the answer is one that was meant: a problem that says what is wrong, never a 500."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.answers import Json, problem, refused_fields
from tests.api.tokens import encoded
from tests.given import Given, Person
from tests.installation import Installation

JSON = {"Content-Type": "application/json"}
SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"
BODIES = [  # every route that reads a body
    ("POST", "/api/customers"),
    ("POST", "/api/tasks"),
    ("POST", f"/api/tasks/{SOMEONE}/start"),
    ("PATCH", f"/api/time-entries/{SOMEONE}"),
    ("PATCH", f"/api/time-bills/{SOMEONE}"),
]
LISTS = ["/api/customers", "/api/tasks", "/api/time-entries", "/api/time-bills"]


@pytest.fixture(scope="module")
def admin(stint: Installation) -> Iterator[Person]:
    made = Given(stint)
    yield made.admin()
    made.close()


def sent(by: Person, method: str, path: str, body: bytes, content_type: str = "application/json") -> httpx.Response:
    return by.http.request(method, path, content=body, headers={"Content-Type": content_type})


MALFORMED = {
    "33 arrays": b"[" * 33 + b"]" * 33,
    "33 objects": b'{"a":' * 33 + b"1" + b"}" * 33,
    "33 levels below a field": b'{"name":' + b"[" * 32 + b"]" * 32 + b"}",
    "100,000 arrays": b"[" * 100_000 + b"]" * 100_000,
    "40,000 objects, unclosed": b'{"a":' * 40_000,
    "NUL": b'{"name":"a\\u0000b"}',
    "NUL in a name": b'{"na\\u0000me":"a"}',
    "raw NUL": b'{"name":"a\0b"}',
    "bad UTF-8": b'{"name":"\xff\xfe"}',
    "overlong UTF-8": b'{"name":"\xc0\x80"}',
    "UTF-16": '{"name":"a"}'.encode("utf-16"),
    "half a surrogate pair": b'{"name":"\\ud800"}',
    "the other half": b'{"name":"\\udc00 a"}',
    "half a pair in a name": b'{"\\ud800":1}',
    "surrogates in UTF-8": b'{"name":"\xed\xa0\x80"}',
    "the same key twice": b'{"name":"a","name":"b"}',
    "the same key twice, escaped": b'{"name":"a","n\\u0061me":"b"}',
    "the same key twice, deeper": b'{"rounding":{"mode":"up","mode":"up"}}',
    "NaN": b'{"name":NaN}',
    "Infinity": b'{"version":Infinity}',
    "-Infinity": b'{"version":-Infinity}',
    "5,000 digits": b'{"version":' + b"9" * 5000 + b"}",
    "a control character": b'{"name":"a\nb"}',
    "no JSON": b"name=a",
    "half of it": b'{"name":"a"',
    "two of it": b"{}{}",
    "a byte order mark": b'\xef\xbb\xbf{"name":"a"}',
    "white space": b"  \n ",
    "a comma too many": b'{"name":"a",}',
    "compressed": bytes.fromhex("1f8b0800000000000203ab562a4bcc2f510200"),
}


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_malformed_json_is_400_and_says_so(method: str, path: str, admin: Person) -> None:
    for name, body in MALFORMED.items():
        answer = sent(admin, method, path, body)
        assert answer.status_code == 400, f"{name}: {answer.status_code} {answer.text[:300]}"
        problem(answer, 400)


def test_32_levels_are_read(admin: Person) -> None:
    answer = sent(admin, "POST", "/api/customers", b'{"name":' + b"[" * 31 + b"]" * 31 + b"}")
    assert refused_fields(answer) == ["name"]


@pytest.mark.parametrize(("method", "path"), BODIES)
@pytest.mark.parametrize("body", [b"[]", b'"text"', b"5", b"true", b'[{"name":"a"}]'])
def test_what_is_no_object_is_422(method: str, path: str, body: bytes, admin: Person) -> None:
    assert refused_fields(sent(admin, method, path, body)) == [""]


@pytest.mark.parametrize(("method", "path"), [route for route in BODIES if not route[1].endswith("/start")])
@pytest.mark.parametrize("body", [b"", b"null"])
def test_no_body_is_422(method: str, path: str, body: bytes, admin: Person) -> None:
    assert refused_fields(sent(admin, method, path, body)) == [""]


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_another_content_type_is_415(method: str, path: str, admin: Person) -> None:
    for content_type in (
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/msgpack",
        "application/problem+json", "application/xml", "application", "", ";", "json",
    ):  # fmt: skip
        problem(sent(admin, method, path, b"{}", content_type), 415)
    request = admin.http.build_request(method, path, content=b"{}")
    assert "content-type" not in request.headers
    problem(admin.http.send(request), 415)


def in_chunks() -> Iterator[bytes]:
    yield b'{"name":"'
    for _ in range(1024):
        yield b"a" * 1024
    yield b'"}'


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_a_megabyte_is_413(method: str, path: str, admin: Person) -> None:
    problem(sent(admin, method, path, b'{"name":"' + b"a" * 1_000_000 + b'"}'), 413)
    # without a Content-Length the limit is found out on the way
    answer = admin.http.request(method, path, content=in_chunks(), headers=JSON)
    assert "content-length" not in answer.request.headers
    problem(answer, 413)


def test_the_limit_is_256_kib_to_the_byte(admin: Person) -> None:
    fits = b'{"name":"' + b"a" * (256 * 1024 - 11) + b'"}'
    assert len(fits) == 256 * 1024
    assert refused_fields(sent(admin, "POST", "/api/customers", fits)) == ["name"]
    problem(sent(admin, "POST", "/api/customers", fits + b" "), 413)


def test_a_body_of_junk_is_not_answered_with_a_bigger_one(admin: Person) -> None:
    body = json.dumps({f"field{number}": 1 for number in range(12_000)}).encode()
    answer = sent(admin, "POST", "/api/customers", body)
    assert len(refused_fields(answer)) == 50
    assert len(answer.content) < 10_000


CUSTOMER: Json = {"name": "Acme"}
TASK: Json = {"title": "Mend it", "customerId": SOMEONE}
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
    ("PATCH", f"/api/time-entries/{SOMEONE}", {"duration": 2_678_401}, ["duration"]),
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


def test_each_wrong_field_is_named_as_the_client_knows_it(admin: Person) -> None:
    for method, path, body, expected in WRONG_FIELDS:
        answer = sent(admin, method, path, json.dumps(body).encode())
        assert answer.status_code == 422, f"{method} {path} {str(body)[:200]}: {answer.status_code} {answer.text[:300]}"
        assert sorted(refused_fields(answer)) == sorted(expected), f"{method} {path} {str(body)[:200]}"


LIMITS = ["limit=0", "limit=-1", "limit=1001", "limit=abc", "limit=", "limit=1e9"]
WRONG_QUERIES = [
    *[(path, query, "limit") for path in LISTS for query in LIMITS],
    *[(path, "limit=" + "9" * 400, "limit") for path in LISTS],
    ("/api/tasks", "userId=abc", "userId"),
    ("/api/time-entries", "taskId=abc", "taskId"),
    ("/api/time-entries", "userId=5", "userId"),
    ("/api/time-entries", "timeBillId=abc", "timeBillId"),
    ("/api/time-entries", "customerId=Acme", "customerId"),
    ("/api/time-entries", f"customerId={SOMEONE}&customer=Acme", "customer"),
    ("/api/time-entries", "customer=" + "a" * 201, "customer"),
    ("/api/time-entries", "enrich=perhaps", "enrich"),
    ("/api/time-bills", "status=paid", "status"),
    ("/api/time-bills", "status=", "status"),
    *[
        (path, f"{field}={value}", field)
        for path in ("/api/time-entries", "/api/time-bills")
        for field in ("startDate", "endDate")
        for value in ("2026-02-30", "0000-01-01", "10000-01-01", "1000000000-01-01", "today", "5", "", "2026-3-2", "20260302T0")
    ],
    *[(path, "startDate=2026-03-03&endDate=2026-03-02", "endDate") for path in ("/api/time-entries", "/api/time-bills")],
    *[(path, "cursor=" + "a" * 1001, "cursor") for path in LISTS],
]  # fmt: skip


def test_each_wrong_query_parameter_is_named_as_the_client_knows_it(admin: Person) -> None:
    for path, query, expected in WRONG_QUERIES:
        answer = admin.http.get(f"{path}?{query}")
        assert answer.status_code == 422, f"{path}?{query}: {answer.status_code} {answer.text[:300]}"
        assert refused_fields(answer) == [expected], f"{path}?{query}"


@pytest.mark.parametrize("value", ["-1", "-0.001", "11", "10.001", "nan", "inf", "-inf", "abc", "", "1e400"])
def test_a_wait_beyond_its_bounds_is_422(value: str, admin: Person) -> None:
    answer = admin.http.post(f"/api/tasks/{SOMEONE}/stop", params={"wait": value})
    assert refused_fields(answer) == ["wait"]


SYNC = f"{SOMEONE}.700"
CURSORS: list[Any] = [
    None, 5, "text", {}, [], [1, 2, 3], [None] * 4, ["customers"], {"a": 1, "b": 2, "c": 3, "d": 4},
    ["{table}", "yesterday", SOMEONE, SYNC],
    ["{table}", "2026-03-02T09:00:00Z", "no-uuid", SYNC],
    ["{table}", "2026-03-02T09:00:00Z", SOMEONE, 'x","items":[],"x":"'],
    ["{table}", "2026-03-02T09:00:00Z", SOMEONE, "700"],
    ["{table}", "2026-02-30T09:00:00Z", SOMEONE, SYNC],
    ["{table}", "1000000000-01-01", SOMEONE, SYNC],
    ["{table}", 5, SOMEONE, SYNC],
    ["{table}", "2026-03-02", 5, SYNC],
    ["{table}", "2026-03-02", SOMEONE, 5],
    ["{table}", ["2026-03-02"], SOMEONE, SYNC],
    ["elsewhere", "2026-03-02", SOMEONE, SYNC],
    ["{table}; DROP TABLE users", "2026-03-02", SOMEONE, SYNC],
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_that_is_none_of_ours_is_422(path: str, admin: Person) -> None:
    table = path.rpartition("/")[2].replace("-", "_")
    made_up = [encoded(json.dumps(cursor).replace("{table}", table).encode()) for cursor in CURSORS]
    for cursor in [*made_up, "a", "====", "äöü", "a b", encoded(b"\xff\x00"), encoded(b"[" * 700), "A" * 1000]:
        assert refused_fields(admin.http.get(path, params={"cursor": cursor})) == ["cursor"], cursor


@pytest.mark.parametrize("path", LISTS)
def test_a_cursor_of_another_list_is_422(path: str, admin: Person, stint: Installation) -> None:
    made = Given(stint)
    for _ in range(2):
        made.task(admin)
    first = admin.get("/api/customers" if path != "/api/customers" else "/api/tasks", limit=1)
    assert first["nextCursor"]
    assert refused_fields(admin.http.get(path, params={"cursor": first["nextCursor"]})) == ["cursor"]


@pytest.mark.parametrize("path", [
    "/api/tasks/%00", "/api/%ff", "/%00", "/api/tasks?userId=%00", "/api/tasks?cursor=%ff%fe", "/api/tasks?%00=1",
    "/api/tasks?a=%c0%80", "/api/time-entries?customer=%ed%a0%80",
])  # fmt: skip
def test_nul_and_bad_utf8_in_path_or_query_are_400(path: str, admin: Person) -> None:
    problem(admin.http.get(path), 400)


@pytest.mark.parametrize(
    "path", ["/api/tasks/{}", "/api/customers/{}", "/api/time-entries/{}", "/api/time-bills/{}", "/api/active-timers/{}"]
)
def test_an_id_that_is_no_uuid_is_404(path: str, admin: Person) -> None:
    for value in ("abc", "5", SOMEONE[:-1], SOMEONE + "0", "..", "%20", "null", "'; DROP TABLE users", "𝟙"):
        problem(admin.http.get(path.format(value)), 404)


@pytest.mark.parametrize("lines", [
    b"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + b"a" * 30_000,
    b"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe",
    b"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: \xc3\xa9",
])  # fmt: skip
def test_a_header_of_junk_is_401(lines: bytes, stint: Installation) -> None:
    with socket.create_connection(("127.0.0.1", stint.port), timeout=5) as sock:
        sock.sendall(lines + b"\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 401 "), answer[:300]


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_ours(admin: Person, stint: Installation) -> None:
    def errors() -> list[str]:
        return re.findall(r'^stint_requests_total\{.*status="5.."\} .*$', httpx.get(f"{stint.url}/metrics").text, re.MULTILINE)

    before = errors()
    with socket.create_connection(("127.0.0.1", stint.port), timeout=5) as sock:
        head = f"POST /api/customers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {admin.token}\r\n"
        sock.sendall(f'{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"na'.encode())
    admin.get("/api/me")
    assert errors() == before


TEXT = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS = [
    "id", "name", "email", "phone", "notes", "active", "rounding", "title", "customerId", "pillarId", "dueDate", "status",
    "memo", "startTime", "endTime", "duration", "allowOverlap", "version", "rejectionNote",
]  # fmt: skip
few = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), database=None)


def is_meant(answer: httpx.Response) -> None:
    if answer.status_code >= 300:
        assert 400 <= answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.status_code}"
        problem(answer, answer.status_code)


@few
@given(body=st.dictionaries(st.sampled_from(FIELDS) | TEXT, VALUES, max_size=5))
def test_no_json_makes_a_500(admin: Person, body: Json) -> None:
    for method, path in BODIES:
        is_meant(sent(admin, method, path, json.dumps(body).encode()))


@few
@given(body=st.binary(max_size=60))
def test_no_bytes_make_a_500(admin: Person, body: bytes) -> None:
    for method, path in BODIES:
        is_meant(sent(admin, method, path, body))


PARAMETERS = ["limit", "cursor", "userId", "taskId", "customer", "customerId", "startDate", "endDate", "status", "enrich", "x"]


@few
@given(query=st.dictionaries(st.sampled_from(PARAMETERS), st.text(max_size=20) | st.dates().map(str) | st.integers().map(str)))
def test_no_query_makes_a_500(admin: Person, query: dict[str, str]) -> None:
    encoded_query = "&".join(f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query.items())
    for path in LISTS:
        is_meant(admin.http.get(f"{path}?{encoded_query}"))


@few
@given(parts=st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_no_path_makes_a_500(admin: Person, parts: list[str]) -> None:
    is_meant(admin.http.get("/api/" + "/".join(quote(part.encode("utf-8", "surrogatepass")) for part in parts)))
