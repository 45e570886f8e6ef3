"""The client of Slack over real sockets: what is sent once, where to, and what is taken for Stint's own post."""

import asyncio
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from api.slack.deadlines import ANSWER_SECONDS
from schemas.settings import SLACK_API_URL, Settings
from schemas.slack import views
from schemas.slack.client import (
    Profile,
    Slack,
    SlackAccessLost,
    SlackRefused,
    SlackUnavailable,
    has_valid_signature,
    is_response_url,
    open_client,
)
from tests.support.installation import SECRET_KEY


class Answers:
    """A server that gives each connection one answer, and keeps what it received. Without an answer it closes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.answer: bytes | None = None
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def reply(self, status: str, body: Any, *headers: str, content_type: str = "application/json") -> None:
        """What every request gets from now on. The body is JSON, or bytes as they are."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(text)}", "Connection: close"]
        self.answer = "\r\n".join([*head, *headers, "", ""]).encode() + text

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                if received := connection.recv(65_536):
                    self.requests.append(received)
                    if self.answer is not None:
                        connection.sendall(self.answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.close()


def settings(api_url: str = SLACK_API_URL, **more: Any) -> Settings:
    return Settings(
        database_url="", secret_key=SecretStr(SECRET_KEY), slack_bot_token=SecretStr("xoxb-1"), slack_api_url=api_url, **more
    )


def call(server: Answers, work: Callable[[Slack], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with open_client(settings(f"{server.url}/api/")) as slack:
            return await work(slack)

    return asyncio.run(run())


def test_a_call_whose_connection_breaks_is_not_repeated(server: Answers) -> None:
    with pytest.raises(SlackUnavailable) as failed:
        call(server, lambda slack: slack.post("C1", "text", [], message_id=uuid4(), seconds=3))
    assert len(server.requests) == 1 and not failed.value.not_sent


CONTENT_TYPES = ["application/json", "text/html", "text/plain", "text/plain; charset=x", "application/gzip"]
ODD_BODIES = [
    b"[1]", b"[]", b'"ok"', b"true", b"null", b"5", b"{}", b"", b"ok", b"{", b"\xff", b"[" * 20_000, b"9" * 5_000,
    b"<html><body>Please sign in to the hotel's network</body></html>",
]  # fmt: skip
CALLS: list[Callable[[Slack], Awaitable[Any]]] = [
    lambda slack: slack.team(seconds=3),
    lambda slack: slack.user("U1", team="T1", seconds=3),
    lambda slack: slack.user_by_email("jo@acme.example", team="T1", seconds=3),
    lambda slack: slack.open_view("1.2.3", views.loading(), seconds=3),
    lambda slack: slack.update_view("V1", {"type": "modal"}, seconds=3),
    lambda slack: slack.post("C1", "text", [], message_id=uuid4(), seconds=3),
    lambda slack: slack.find_posted("C1", message_id=uuid4(), since=0, seconds=3),
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_an_answer_that_is_no_json_object_is_slacks_fault(content_type: str, server: Answers) -> None:
    """It is retried like a server error: the outcome is unknown."""
    for body in ODD_BODIES:
        server.reply("200 OK", body, content_type=content_type)
        with pytest.raises(SlackUnavailable) as failed:
            call(server, CALLS[5])
        assert not failed.value.not_sent
    for work in CALLS:
        server.reply("200 OK", b"[1]", content_type=content_type)
        with pytest.raises(SlackUnavailable):
            call(server, work)


def test_an_object_of_another_shape_is_no_fault_of_stints(server: Answers) -> None:
    """A field that is missing, or of another type, is never another error than Slack's."""
    fields = ("team_id", "user", "view", "ts", "messages", "channel")
    odd = [{"metadata": [1]}, {"metadata": {"event_type": "stint_message", "event_payload": 1}}]
    values: list[Any] = [None, [], [1], [[]], {}, {"profile": []}, 5, "text", odd]
    for value in values:
        server.reply("200 OK", {"ok": True} | dict.fromkeys(fields, value))
        for work in CALLS:
            with suppress(SlackUnavailable):
                call(server, work)
    server.reply("200 OK", {"ok": True})
    with pytest.raises(SlackUnavailable):
        call(server, CALLS[0])


def test_a_post_is_found_by_its_messages_id_only(server: Answers) -> None:
    own, other = uuid4(), uuid4()

    def posted(message_id: Any, kind: str = "stint_message") -> dict[str, Any]:
        return {"ts": str(message_id), "metadata": {"event_type": kind, "event_payload": {"id": str(message_id)}}}

    def find(*messages: dict[str, Any]) -> Any:
        server.reply("200 OK", {"ok": True, "messages": messages})
        return call(server, lambda slack: slack.find_posted("C1", message_id=own, since=0, seconds=3))

    assert find({"ts": "1", "text": str(own)}, posted(other), posted(own, "another_app")) is None
    assert find(posted(other), posted(own)) == str(own)


def test_a_user_is_looked_up_by_both_spellings_of_the_domain(server: Answers) -> None:
    server.reply("200 OK", {"ok": False, "error": "users_not_found"})
    assert call(server, lambda slack: slack.user_by_email("jo@m\u00fcnchen.example", team="T1", seconds=3)) is None
    assert [b"xn--mnchen-3ya" in request for request in server.requests] == [False, True]
    assert call(server, lambda slack: slack.user_by_email("jo@acme.example", team="T1", seconds=3)) is None
    assert len(server.requests) == 3


def test_a_refusal_of_the_token_names_the_method_and_the_scope(server: Answers) -> None:
    for code, needed, expected in (
        ("missing_scope", "users:read,team:read", "users:read,team:read"),
        ("missing_scope", 'a"}\n<b>' + "x" * 300, "ab" + "x" * 193),
        ("missing_scope", 5, ""),
        ("missing_scope", "chat:write:bot", "chat:write"),
        ("missing_scope", "chat:write:user,chat:write:bot,users:read", "chat:write,users:read"),
        ("token_revoked", None, ""),
    ):
        server.reply("200 OK", {"ok": False, "error": code, "needed": needed, "provided": "commands"})
        with pytest.raises(SlackAccessLost) as lost:
            call(server, CALLS[2])
        assert (lost.value.code, lost.value.method, lost.value.needed) == (code, "users.lookupByEmail", expected)
    server.reply("200 OK", {"ok": False, "error": "channel_not_found"})
    with pytest.raises(SlackRefused) as refused:
        call(server, CALLS[5])
    assert not isinstance(refused.value, SlackAccessLost)
    server.reply("200 OK", {"ok": True}, "X-OAuth-Scopes: commands, chat:write")
    assert call(server, lambda slack: slack.scopes(seconds=3)) == {"commands", "chat:write"}
    server.reply("200 OK", {"ok": True})
    assert call(server, lambda slack: slack.scopes(seconds=3)) == set()


@pytest.mark.parametrize(
    ("user", "team", "is_ours"),
    [
        ({"team_id": "T1"}, "T1", True),
        ({"team_id": "T2"}, "T1", False),
        ({"team_id": "T2", "enterprise_user": {"enterprise_id": "E1", "teams": ["T3", "T1"]}}, "T1", True),
        ({"team_id": "T2", "enterprise_user": {"enterprise_id": "E1", "teams": ["T3", "T1"]}}, "E1", True),
        ({"team_id": "E1"}, "E1", True),
        ({"team_id": "T2", "enterprise_user": {"enterprise_id": "E1", "teams": ["T3"]}}, "T1", False),
        ({"team_id": "T2", "enterprise_user": {"enterprise_id": "E2", "teams": ["T1"]}}, "E1", False),
        ({"team_id": "T1", "enterprise_user": {"teams": ["T1"]}, "is_stranger": True}, "T1", False),
        ({"team_id": "T2", "enterprise_user": ["T1"]}, "T1", False),
        ({"enterprise_user": {"teams": {"T1": 1}}}, "T1", False),
        ({}, "T1", False),
    ],
)
def test_a_user_belongs_to_a_workspace_or_to_the_organization(user: Any, team: str, is_ours: bool, server: Answers) -> None:
    server.reply("200 OK", {"ok": True, "user": {"id": "U1", "profile": {"email": "jo@acme.example"}, **user}})
    profile = call(server, lambda slack: slack.user("U1", team=team, seconds=3))
    assert profile == Profile("U1", "jo@acme.example", None if is_ours else "other_workspace")


def test_the_workspace_of_an_app_in_a_whole_organization_is_the_organization(server: Answers) -> None:
    for answer, expected in (
        ({"team_id": "T1", "enterprise_id": "E1", "is_enterprise_install": False}, "T1"),
        ({"team_id": "T1", "enterprise_id": "E1", "is_enterprise_install": True}, "E1"),
        ({"team_id": "T1"}, "T1"),
    ):
        server.reply("200 OK", {"ok": True, **answer})
        assert call(server, lambda slack: slack.team(seconds=3)) == expected


@pytest.mark.parametrize("location", ["/elsewhere", "https://example.com/"])
def test_nothing_is_sent_to_another_url_and_no_redirect_is_followed(location: str, server: Answers) -> None:
    server.reply("307 Temporary Redirect", {}, f"Location: {location}")
    with pytest.raises(SlackRefused):
        call(server, lambda slack: slack.respond(f"{server.url}/commands/1", {"text": "hello"}, seconds=3))
    assert len(server.requests) == 1
    for url in (f"{server.url}/a?b=c", f"{server.url}@example.com/a", "http://127.0.0.1:1/a", "https://example.com/a"):
        with pytest.raises(SlackRefused, match="not_a_response_url"):
            call(server, lambda slack, url=url: slack.respond(url, {}, seconds=3))  # type: ignore[misc]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.slack.com/commands/T1/2/abc-DEF_3", True),
        ("https://hooks.slack-gov.com/commands/T1/2/abc", True),
        ("https://hooks.slack-gov.com.example.com/commands/T1/2/abc", False),
        ("https://hooks.slack-gov.example.com/commands/T1/2/abc", False),
        ("https://hooks-slack-gov.com/commands/T1/2/abc", False),
        ("https://hooks.slack-gov.com:443/commands/T1/2/abc", False),
        ("http://hooks.slack-gov.com/commands/T1/2/abc", False),
        ("https://hooks.slack.com/commands/T1/2\n", False),
        ("https://hooks.slack.com/a?b=c", False),
        ("https://hooks.slack.com/a#b", False),
        ("https://hooks.slack.com/../a%2f", False),
        ("https://hooks.slack.com:8443/a", False),
        ("https://hooks.slack.com@example.com/a", False),
        ("https://hooks.slack.com.example.com/a", False),
        ("https://hooksXslack.com/a", False),
        ("http://hooks.slack.com/a", False),
        ("HTTPS://hooks.slack.com/a", False),
        (" https://hooks.slack.com/a", False),
        (f"https://hooks.slack.com/{'a' * 501}", False),
        ("https://hooks.slack.com/", False),
    ],
)
def test_only_slacks_own_urls_are_response_urls(url: str, expected: bool) -> None:
    assert is_response_url(url, settings()) is expected


def test_without_a_signing_secret_nothing_is_signed() -> None:
    now = str(int(time.time()))
    forged = "v0=" + hmac.new(b"", f"v0:{now}:a=1".encode(), hashlib.sha256).hexdigest()
    for known in (settings(), settings(slack_signing_secret=SecretStr("right"))):
        assert not has_valid_signature(b"a=1", timestamp=now, signature=forged, settings=known)


def test_a_title_is_text_and_no_markup() -> None:
    assert views.escape("<!channel> & <https://example.com|a link>") == (
        "&lt;!channel&gt; &amp; &lt;https://example.com|a link&gt;"
    )


def test_the_answer_leaves_a_second_for_the_network() -> None:
    """Of the 3 seconds that Slack waits; test_postgres_away.py measures whole answers."""
    assert ANSWER_SECONDS <= 2
