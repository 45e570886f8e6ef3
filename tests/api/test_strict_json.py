"""Invalid bodies, headers, queries and paths: each is answered with a problem that tells what is wrong, never with a 500."""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.customers.leads import MAX_LEAD_BYTES
from api.http.requests import MAX_BODY_BYTES
from api.sign_in import MAX_SIGN_IN_BYTES
from tests.support.answers import EVERY_ROUTE, Json, problem, refused_fields
from tests.support.given import Given, Person
from tests.support.installation import Installation
from tests.support.sizes import examples, sample

JSON = {"Content-Type": "application/json"}
SOMEONE = "5f0c4f0e-7f5b-4d5c-9f0e-0a3c5d1b2e4f"
WITHOUT_BODY = ("/stop", "/focus", "/auth/sign-out")
SIGNED = ("/slack/events", "/slack/interactivity")  # 401 before the body is parsed: tests/slack/test_signed.py
WITH_OPTIONAL_BODY = ("/start", "/recompute")
BODIES = [  # every route with a body
    (method, re.sub(r"\{\w+\}", SOMEONE, path))
    for method, path in EVERY_ROUTE
    if method in ("POST", "PUT", "PATCH") and not path.endswith(WITHOUT_BODY + SIGNED)
]
LISTS = ["/api/customers", "/api/focus", "/api/tasks", "/api/tasks/internal-users", "/api/time-entries", "/api/time-bills"]


@pytest.fixture(scope="module")
def admin(stint: Installation) -> Iterator[Person]:
    given = Given(stint)
    yield given.admin()
    given.close()


def send(by: Person, method: str, path: str, body: bytes, content_type: str = "application/json") -> httpx2.Response:
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
    "not JSON": b"name=a",
    "half a JSON text": b'{"name":"a"',
    "two JSON texts": b"{}{}",
    "a byte order mark": b'\xef\xbb\xbf{"name":"a"}',
    "white space": b"  \n ",
    "a trailing comma": b'{"name":"a",}',
    "compressed": bytes.fromhex("1f8b0800000000000203ab562a4bcc2f510200"),
}


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_malformed_json_is_400(method: str, path: str, admin: Person) -> None:
    for name, body in sample(list(MALFORMED.items()), BODIES.index((method, path))):
        if name == "white space" and path.endswith(WITH_OPTIONAL_BODY):
            continue  # counts as no body: tests/api/test_optional_bodies.py
        answer = send(admin, method, path, body)
        longest = {"/api/leads": MAX_LEAD_BYTES, "/auth/code": MAX_SIGN_IN_BYTES, "/auth/token": MAX_SIGN_IN_BYTES}
        expected = 413 if len(body) > longest.get(path, MAX_BODY_BYTES) else 400
        assert answer.status_code == expected, f"{name}: {answer.status_code} {answer.text[:300]}"
        problem(answer, expected)


@pytest.mark.parametrize("number", [b"9" * 5_000, b"-" + b"9" * 5_000, b"0." + b"1" * 500, b"1e999"])
def test_a_number_that_no_field_can_have_is_called_that_and_not_invalid_json(number: bytes, admin: Person) -> None:
    refused = problem(send(admin, "POST", "/api/customers", b'{"name":%b}' % number), 400)
    assert refused["detail"] == "The JSON contains a number that is too large or has too many digits."


def test_32_levels_are_accepted(admin: Person) -> None:
    answer = send(admin, "POST", "/api/customers", b'{"name":' + b"[" * 31 + b"]" * 31 + b"}")
    assert refused_fields(answer) == ["name"]


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_a_body_that_is_not_an_object_is_422(method: str, path: str, admin: Person) -> None:
    for body in sample([b"[]", b'"text"', b"5", b"true", b'[{"name":"a"}]'], BODIES.index((method, path))):
        assert refused_fields(send(admin, method, path, body)) == [""], body


@pytest.mark.parametrize(("method", "path"), [route for route in BODIES if not route[1].endswith(WITH_OPTIONAL_BODY)])
def test_a_missing_body_is_422(method: str, path: str, admin: Person) -> None:
    for body in (b"", b"null"):
        assert refused_fields(send(admin, method, path, body)) == [""], body


OTHER_TYPES = [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/msgpack",
    "application/problem+json", "application/xml", "application", "", ";", "json",
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_another_content_type_is_415(method: str, path: str, admin: Person) -> None:
    for content_type in sample(OTHER_TYPES, BODIES.index((method, path))):
        problem(send(admin, method, path, b"{}", content_type), 415)
    if not path.endswith(WITH_OPTIONAL_BODY):  # there {} counts as no body
        request = admin.http.build_request(method, path, content=b"{}")
        assert "content-type" not in request.headers
        problem(admin.http.send(request), 415)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_415_and_says_so(encoding: str, admin: Person) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = admin.http.post("/api/customers", content=gzip.compress(b'{"name": "Acme"}'), headers=headers)
    assert "Content-Encoding" in problem(answer, 415)["detail"]
    plain = admin.http.post("/api/customers", content=b"{}", headers=headers | {"Content-Encoding": "identity"})
    assert refused_fields(plain) == ["name"]


def in_chunks() -> Iterator[bytes]:
    yield b'{"name":"'
    for _ in range(1024):
        yield b"a" * 1024
    yield b'"}'


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_a_megabyte_is_413(method: str, path: str, admin: Person) -> None:
    problem(send(admin, method, path, b'{"name":"' + b"a" * 1_000_000 + b'"}'), 413)
    # without a Content-Length the limit applies while the body is read
    answer = admin.http.request(method, path, content=in_chunks(), headers=JSON)
    assert "content-length" not in answer.request.headers
    problem(answer, 413)


def test_the_limit_is_256_kib_to_the_byte(admin: Person) -> None:
    fits = b'{"name":"' + b"a" * (256 * 1024 - 11) + b'"}'
    assert len(fits) == 256 * 1024
    assert refused_fields(send(admin, "POST", "/api/customers", fits)) == ["name"]
    problem(send(admin, "POST", "/api/customers", fits + b" "), 413)


def test_a_response_to_an_invalid_body_is_not_larger_than_the_body(admin: Person) -> None:
    body = json.dumps({f"field{number}": 1 for number in range(100)}).encode()
    answer = send(admin, "POST", "/api/customers", body)
    assert len(refused_fields(answer)) == 50
    assert len(answer.content) < 10_000
    # an error for each field of each object: counted, not listed
    bills = [{"id": "x", "version": 0, "more": 1} for _ in range(1_000)]
    answer = send(admin, "POST", "/api/time-bills/approve-all", json.dumps({"bills": bills}).encode())
    assert "3,000 mistakes" in problem(answer, 422)["detail"]


@pytest.mark.parametrize("lines", [
    b"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + b"a" * 30_000,
    b"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe",
    b"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: \xc3\xa9",
])  # fmt: skip
def test_an_invalid_header_is_401(lines: bytes, stint: Installation) -> None:
    with socket.create_connection(("127.0.0.1", stint.port), timeout=5) as sock:
        sock.sendall(lines + b"\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 401 "), answer[:300]


def test_a_client_that_disconnects_within_its_body_is_not_a_server_error(admin: Person, stint: Installation) -> None:
    def errors() -> list[str]:
        return re.findall(r'^stint_requests_total\{.*status="5.."\} .*$', httpx2.get(f"{stint.url}/metrics").text, re.MULTILINE)

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
few = settings(deadline=None, max_examples=examples(40), suppress_health_check=list(HealthCheck), database=None)


def assert_no_server_error(answer: httpx2.Response) -> None:
    if answer.status_code >= 300:
        assert 400 <= answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.status_code}"
        problem(answer, answer.status_code)


@pytest.mark.slow
@few
@given(body=st.dictionaries(st.sampled_from(FIELDS) | TEXT, VALUES, max_size=5))
def test_no_json_causes_a_500(admin: Person, body: Json) -> None:
    for method, path in BODIES:
        assert_no_server_error(send(admin, method, path, json.dumps(body).encode()))


@few
@given(body=st.binary(max_size=60))
def test_no_bytes_cause_a_500(admin: Person, body: bytes) -> None:
    for method, path in BODIES:
        assert_no_server_error(send(admin, method, path, body))


PARAMETERS = [
    "limit", "cursor", "userId", "taskId", "timeBillId", "customer", "customerId", "startDate", "endDate", "status", "enrich",
    "lastSyncTimestamp", "x",
]  # fmt: skip


@few
@given(query=st.dictionaries(st.sampled_from(PARAMETERS), st.text(max_size=20) | st.dates().map(str) | st.integers().map(str)))
def test_no_query_causes_a_500(admin: Person, query: dict[str, str]) -> None:
    encoded_query = "&".join(f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query.items())
    for path in LISTS:
        assert_no_server_error(admin.http.get(f"{path}?{encoded_query}"))


@few
@given(parts=st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_no_path_causes_a_500(admin: Person, parts: list[str]) -> None:
    assert_no_server_error(admin.http.get("/api/" + "/".join(quote(part.encode("utf-8", "surrogatepass")) for part in parts)))
