"""What an answer of Xero means, over real sockets: which calls certainly had no effect, and what may be shown of an answer."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.settings import Settings
from schemas.xero import oauth
from schemas.xero.access.problems import AccessProblem
from schemas.xero.client import XeroClient
from schemas.xero.client_errors import (
    DoesNotExist,
    NotSent,
    Offline,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unauthorized,
    XeroError,
)
from schemas.xero.entries.entry import EntryContent
from schemas.xero.users import UsersPage
from tests.support.http_answers import Answers, answering
from tests.support.installation import SECRET_KEY, free_port

CONTENT = EntryContent(user_id="u", task_id="t", date_utc=datetime(2026, 3, 2, 12, tzinfo=UTC), minutes=60, description="d")
PLANTED = "planted-refresh-token"
TRICKLE_SECONDS = 50  # the shortest time that an answer below takes which comes byte by byte


@pytest.fixture
def xero() -> Iterator[Answers]:
    with answering() as server:
        yield server


def settings(url: str) -> Settings:
    return Settings(
        database_url="", secret_key=SecretStr(SECRET_KEY), xero_api_url=url, xero_identity_url=url, xero_client_id="app",
        xero_client_secret=SecretStr("secret"),
    )  # fmt: skip


def create(url: str, *, seconds: float = 5) -> Any:
    client = XeroClient(settings(url), access_token="token", tenant_id="tenant", seconds=seconds)
    return asyncio.run(client.create("project", CONTENT, key="bill:1"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Refused), (404, DoesNotExist), (409, Refused), (401, Unauthorized), (403, Unauthorized), (429, RateLimited),
        (408, OutcomeUnknown), (500, OutcomeUnknown), (502, OutcomeUnknown), (503, OutcomeUnknown), (200, OutcomeUnknown),
    ],
)  # fmt: skip
def test_only_a_refusal_certainly_had_no_effect(status: int, expected: type[Exception], xero: Answers) -> None:
    xero.status, xero.body = status, b"no JSON"
    with pytest.raises(Exception) as failed:
        create(xero.url)
    assert type(failed.value) is expected


@pytest.mark.parametrize(
    ("status", "body", "header", "problem"),
    [
        (403, b'{"Detail": "AuthenticationUnsuccessful"}', None, None),  # as for a disconnected app
        (401, b'{"Detail": "TokenExpired: token expired at 11/30/2026 10:00:00"}', None, None),
        (401, b'{"Detail": "AuthorizationUnsuccessful"}', None, AccessProblem.lost_scopes),
        (403, b"no JSON", 'Bearer error="insufficient_scope"', AccessProblem.lost_scopes),
        (401, b'{"Detail": "The organisation has not been provisioned in Xero Projects"}', None, AccessProblem.not_provisioned),
    ],
)
def test_a_refusal_of_access_may_say_why(
    status: int, body: bytes, header: str | None, problem: AccessProblem | None, xero: Answers
) -> None:
    xero.status, xero.body = status, body
    xero.headers = {} if header is None else {"WWW-Authenticate": header}
    with pytest.raises(Unauthorized) as failed:
        create(xero.url)
    assert failed.value.problem is problem
    assert failed.value.is_token_invalid is (status == 401 and problem is None)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, b"The organisation is offline", Offline), (503, b'{"Detail": "The Organization is offline"}', Offline),
        (500, b"The organisation is offline", Offline), (503, b"The server is offline", OutcomeUnknown),
        (400, b"The organisation is offline", Refused),
    ],
)  # fmt: skip
def test_an_organisation_that_is_offline_is_known_by_its_answer(
    status: int, body: bytes, expected: type[Exception], xero: Answers
) -> None:
    xero.status, xero.body = status, body
    with pytest.raises(Exception) as failed:
        create(xero.url)
    assert type(failed.value) is expected


def test_a_server_that_cannot_be_reached_got_nothing() -> None:
    with pytest.raises(NotSent):
        create(f"http://127.0.0.1:{free_port()}")


def test_a_request_is_sent_once_with_its_key_and_follows_no_redirect(xero: Answers) -> None:
    xero.status, xero.headers = 307, {"Location": f"{xero.url}/elsewhere"}
    with pytest.raises(Refused):
        create(xero.url)
    [(path, headers)] = xero.requests
    assert path == "/projects.xro/2.0/Projects/project/Time"
    assert (headers["idempotency-key"], headers["authorization"], headers["xero-tenant-id"]) == (
        "bill:1",
        "Bearer token",
        "tenant",
    )


def test_a_server_error_is_not_repeated_by_the_client(xero: Answers) -> None:
    xero.status = 503
    with pytest.raises(OutcomeUnknown):
        create(xero.url)
    assert len(xero.requests) == 1


def test_an_answer_that_trickles_ends_with_the_deadline(xero: Answers) -> None:
    xero.body, xero.pause_seconds = b" " * 1_000, 0.05
    start = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        create(xero.url, seconds=0.5)
    assert time.monotonic() - start < TRICKLE_SECONDS / 10


@pytest.mark.parametrize(
    "trickle",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 50,
        b"HTTP/1.1 200 OK\r\nX-Slow: " + b"1" * 500,
        b"HTTP/1.1 4" + b"0" * 500,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 100,
        b"HTTP/1.1 400 Bad Request\r\n|\r\n{" + b" " * 500,
        b"HTTP/1.1 429 Too Many Requests\r\n|X-Slow: " + b"1" * 500,
    ],
    ids=["headers", "one header", "status line", "interim answers", "chunks", "refusal", "rate limit"],
)
def test_whatever_trickles_the_call_is_over_at_its_deadline(trickle: bytes, xero: Answers) -> None:
    xero.trickle = trickle
    start = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        create(xero.url, seconds=0.5)
    assert time.monotonic() - start < TRICKLE_SECONDS / 10


def test_tls_that_trickles_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):  # the client has gone
                connection.recv(4096)
                for byte in b"\x16\x03\x03\x10\x00" + b"\x02" * 500:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.1)

        thread = threading.Thread(target=answer)
        thread.start()
        start = time.monotonic()
        with pytest.raises(XeroError):
            # A busy machine needs a while to read all certificates. If the deadline passed before TLS begins, Python would not
            # close the socket (ssl.SSLSocket._create).
            create(f"https://127.0.0.1:{server.getsockname()[1]}", seconds=1)
        assert time.monotonic() - start < TRICKLE_SECONDS / 10
        thread.join()


def test_a_name_that_takes_too_long_to_resolve_ends_the_call_which_then_sends_nothing(
    xero: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def slow(*args: Any) -> Any:
        time.sleep(2)
        return resolve(*args)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    start, ended = time.monotonic(), 0.0

    async def call() -> float:
        with pytest.raises(OutcomeUnknown):
            await XeroClient(settings(xero.url), access_token="t", tenant_id="t", seconds=1).create("p", CONTENT, key="k")
        return time.monotonic()

    ended = asyncio.run(call())
    assert ended - start < 1.9
    assert xero.requests == []  # asyncio.run has waited for the thread


def test_a_call_that_could_not_be_made_in_time_is_not_made(xero: Answers) -> None:
    past = time.monotonic() - 0.1
    client = XeroClient(settings(xero.url), access_token="t", tenant_id="t", seconds=1, start_by=past)
    with pytest.raises(NotSent):
        asyncio.run(client.create("project", CONTENT, key="bill:1"))
    assert xero.requests == []


@pytest.mark.parametrize(("problem", "header", "seconds"), [
    (None, "7", 7), (None, "0", 1), (None, "-5", 1), (None, "9999999", 86_400), (None, "soon", 60), (None, None, 60),
    ("concurrent", None, 1), ("concurrent", "soon", 1), ("Concurrent", None, 1), ("concurrent", "7", 7), ("minute", None, 60),
    ("day", None, 600), ("day", "3000", 3000), ("appminute", None, 60), ("minute", "nan", 60), ("concurrent", "inf", 1),
])  # fmt: skip
def test_how_long_a_rate_limit_lasts(problem: str | None, header: str | None, seconds: float, xero: Answers) -> None:
    headers = {"Retry-After": header, "X-Rate-Limit-Problem": problem}
    xero.status, xero.headers = 429, {name: value for name, value in headers.items() if value}
    with pytest.raises(RateLimited) as limited:
        create(xero.url)
    assert limited.value.seconds == seconds


ENTRY = {
    "timeEntryId": "e", "userId": "u", "taskId": "t", "dateUtc": "2026-03-02T12:00:00.0000000Z", "duration": 60,
    "description": "d", "status": "ACTIVE",
}  # fmt: skip


def page(*items: dict[str, Any]) -> bytes:
    return json.dumps({"pagination": {"page": 1, "pageSize": 500}, "items": items}).encode()


@pytest.mark.parametrize("odd", [
    {"status": "PENDING_APPROVAL"}, {"status": None}, {"description": None}, {"duration": 0},
    {"dateUtc": "2026-03-02T12:00:00"}, {"billingRule": {"currency": "XCG"}},
], ids=str)  # fmt: skip
def test_an_entry_with_values_that_xero_does_not_document_is_read_and_hides_no_other(
    odd: dict[str, Any], xero: Answers
) -> None:
    xero.body = page(ENTRY | odd, ENTRY)
    client = XeroClient(settings(xero.url), access_token="token", tenant_id="tenant", seconds=1)
    first, second = asyncio.run(client.list_entries("project", page=1)).entries
    expected = ENTRY | odd
    assert (first.status, first.content.description) == (expected["status"] or "", expected["description"] or "")
    assert first.content.date_utc == datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert (second.id, second.status, second.content) == ("e", "ACTIVE", CONTENT)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"items": [{"duration": "long"}]}', b'"text"', b"\xff"])
def test_an_answer_that_is_no_list_of_entries_is_an_unknown_outcome(body: bytes, xero: Answers) -> None:
    xero.body = body
    client = XeroClient(settings(xero.url), access_token="token", tenant_id="tenant", seconds=1)
    with pytest.raises(OutcomeUnknown, match="cannot be read"):
        asyncio.run(client.list_entries("project", page=1))


@pytest.mark.parametrize("status", [400, 401, 500])
@pytest.mark.parametrize(
    "call",
    [
        lambda known: oauth.refresh(known, PLANTED, seconds=2),
        lambda known: oauth.exchange_code(known, PLANTED, seconds=2),
        lambda known: oauth.list_organisations(known, PLANTED, seconds=2),
    ],
)
def test_no_error_contains_what_was_sent_or_received(
    call: Callable[[Settings], Awaitable[Any]], status: int, xero: Answers
) -> None:
    xero.status, xero.body = status, b'{"error": "planted-error", "error_description": "planted-description"}'

    async def make() -> None:
        await call(settings(xero.url))

    with pytest.raises(Exception) as failed:
        asyncio.run(make())
    assert "planted" not in f"{failed.value!r} {failed.value.__cause__!r}"
    assert PLANTED not in repr(oauth.Tokens("a", PLANTED, 1))


def test_only_the_answer_invalid_grant_means_that_access_was_revoked(xero: Answers) -> None:
    xero.status, xero.body = 400, b'{"error": "invalid_grant"}'
    with pytest.raises(Refused, match=r"^invalid_grant$"):
        asyncio.run(oauth.refresh(settings(xero.url), "r", seconds=2))


@pytest.mark.parametrize(
    ("sent", "key"), [("Jo@Example.com", "jo@example.com"), ("\u212ai@e.com", "\u212ai@e.com"), (None, "")]
)
def test_users_have_the_key_of_their_address(sent: str | None, key: str, xero: Answers) -> None:
    xero.headers = {"Content-Type": "application/json"}
    xero.body = json.dumps({"items": [{"userId": "u", "name": "Jo", "email": sent}]}).encode()
    client = XeroClient(settings(xero.url), access_token="t", tenant_id="t", seconds=5)
    assert asyncio.run(client.list_users(1)) == UsersPage([("u", key)], None, is_last=True)
