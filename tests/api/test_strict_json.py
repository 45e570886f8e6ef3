"""Whatever is sent, the answer is one that was meant: a problem that says what is wrong, never a 500."""

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.leads import MAX_LEAD_BYTES
from tests.api.answers import EVERY_ROUTE, Json, problem, refused_fields
from tests.given import Given, Person
from tests.installation import Installation

JSON = {"Content-Type": "application/json"}
SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"
WITHOUT_A_BODY = ("/stop", "/focus")
BY_SIGNATURE = ("/slack/events", "/slack/interactivity")  # 401 before anything is read: tests/slack/test_signed.py
NEEDS_NO_BODY = ("/start", "/recompute")
BODIES = [  # every route that reads a body
    (method, re.sub(r"\{\w+\}", SOMEONE, path))
    for method, path in EVERY_ROUTE
    if method in ("POST", "PUT", "PATCH") and not path.endswith(WITHOUT_A_BODY + BY_SIGNATURE)
]
LISTS = ["/api/customers", "/api/focus", "/api/tasks", "/api/tasks/internal-users", "/api/time-entries", "/api/time-bills"]


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
    "a number past all floats": b'{"version":1e999}',
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
        expected = 413 if path == "/api/leads" and len(body) > MAX_LEAD_BYTES else 400
        assert answer.status_code == expected, f"{name}: {answer.status_code} {answer.text[:300]}"
        problem(answer, expected)


def test_32_levels_are_read(admin: Person) -> None:
    answer = sent(admin, "POST", "/api/customers", b'{"name":' + b"[" * 31 + b"]" * 31 + b"}")
    assert refused_fields(answer) == ["name"]


@pytest.mark.parametrize(("method", "path"), BODIES)
@pytest.mark.parametrize("body", [b"[]", b'"text"', b"5", b"true", b'[{"name":"a"}]'])
def test_what_is_no_object_is_422(method: str, path: str, body: bytes, admin: Person) -> None:
    assert refused_fields(sent(admin, method, path, body)) == [""]


@pytest.mark.parametrize(("method", "path"), [route for route in BODIES if not route[1].endswith(NEEDS_NO_BODY)])
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
    "memo", "startTime", "endTime", "duration", "allowOverlap", "version", "rejectionNote", "taskId", "userId", "assigneeId",
    "append", "bills", "filter", "syncTimestamp", "startDate", "endDate", "dryRun",
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


PARAMETERS = [
    "limit", "cursor", "userId", "taskId", "timeBillId", "customer", "customerId", "startDate", "endDate", "status", "enrich",
    "lastSyncTimestamp", "x",
]  # fmt: skip


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
