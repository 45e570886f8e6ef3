"""Requests that Stint reads late, because it was busy or started: Slack's 3 seconds count from when they arrived."""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
import pytest

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import SignedRequest
from tests.support.apis import Another
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, texts

WAIT_SECONDS = 1.1  # longer than a request may wait before it is acknowledged first


@contextmanager
def frozen_api(stint: Installation) -> Iterator[None]:
    pid = stint.processes["api"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def trigger() -> str:
    """A trigger that does not expire within this test."""
    return f"{time.time() + 60:.6f}.{secrets.token_hex(16)}"


def post(member: Member, sent: SignedRequest) -> httpx2.Response:
    return httpx2.post(f"{member.stint.url}{sent.path}", content=sent.body, headers=sent.headers, timeout=30)


@pytest.fixture
def late_member(member: Member, another: Another) -> Member:
    """A known member who uses an API of their own, which waits for Postgres for long."""
    api = another(**member.slack.environment, STINT_CONNECT_SECONDS="20")
    late = Member(member.slack, api, member.id, member.channel)
    late.run_command("status")
    return late


def test_a_late_request_is_acknowledged_first_and_answered_behind(late_member: Member) -> None:
    """Commands that read are answered at their response_url, and forms open, when Postgres answers: after the answer here."""
    slack, stint = late_member.slack, late_member.stint
    hooks = {word: slack.trigger()["path"] for word in ("status", "list", "start", "A late title", "message")}
    sent = [
        late_member.command_request(word, trigger_id=trigger(), response_url=slack.url + hook)
        for word, hook in hooks.items()
        if word != "message"
    ]
    message = {"ts": "1700000000.000100", "text": "A late message"}
    where: dict[str, Any] = {
        "channel": {"id": late_member.channel}, "message": message, "response_url": slack.url + hooks["message"],
    }  # fmt: skip
    how = {"user": late_member.id, "callback_id": "create_task", "trigger_id": trigger()}
    sent.append(requests.interaction("message_action", **how, **where))
    with ThreadPoolExecutor(len(sent)) as pool, stint.sql() as conn, conn.transaction():
        conn.execute("LOCK TABLE slack_users IN ACCESS EXCLUSIVE MODE")
        with frozen_api(stint):
            answers = [pool.submit(post, late_member, each) for each in sent]
            time.sleep(WAIT_SECONDS)
        for answer in answers:
            assert (answer.result().status_code, answer.result().content) == (200, b"")

    for word, expected in (("status", "Open tasks of yours: 0"), ("list", "no open tasks"), ("start", "no open tasks")):
        [followed] = eventually(partial(slack.answers, hooks[word]), why=word)
        assert expected in followed["text"] and followed["response_type"] == "ephemeral"
    for title in ("A late title", "A late message"):
        eventually(lambda title=title: title in texts(slack.views()), why=title)


def test_a_late_stop_is_not_acknowledged_before_it_is_done(late_member: Member) -> None:
    """Its answer is the only sign of that: the result, or an apology on a very slow machine."""
    with ThreadPoolExecutor(1) as pool:
        with frozen_api(late_member.stint):
            answer = pool.submit(post, late_member, late_member.command_request("stop"))
            time.sleep(WAIT_SECONDS)
        assert answer.result().json()["text"].startswith(("No timer of yours is running.", "Sorry, Stint is busy"))
