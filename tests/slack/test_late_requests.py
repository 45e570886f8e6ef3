"""Requests that Stint reads late, because it was busy or started: Slack's 3 seconds count from when they arrived."""

import asyncio
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

from api.slack.responder import Responder
from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import SignedRequest
from tests.support.apis import Another
from tests.support.given import Given, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, texts

SLACK_SECONDS = 3.0
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


def test_an_answer_that_was_acknowledged_and_is_lost_with_its_process_is_told(late_member: Member, another: Another) -> None:
    """Slack does not send again what was acknowledged. An answer that was sent is not told again."""
    slack = late_member.slack
    api = another(**slack.environment, STINT_CONNECT_SECONDS="21")  # the one that ends
    doomed = Member(slack, api, late_member.id, late_member.channel)
    hooks = [slack.trigger()["path"] for _ in range(3)]
    waiting = (
        "SELECT body->>'text' FROM messages WHERE actor = 'answer_slack' AND state = 'ready' AND body->>'response_url' = %s"
    )
    sent = [
        member.command_request(text, trigger_id=trigger(), response_url=slack.url + hook)
        for member, text, hook in zip((late_member, doomed, doomed), ("status", "list", "A title"), hooks, strict=True)
    ]
    with ThreadPoolExecutor(3) as pool:
        with frozen_api(late_member.stint):
            answered = pool.submit(post, late_member, sent[0])
            time.sleep(WAIT_SECONDS)
        assert (answered.result().status_code, answered.result().content) == (200, b"")
        eventually(lambda: slack.answers(hooks[0]))
        with api.sql() as conn, conn.transaction():
            conn.execute("LOCK TABLE slack_users IN ACCESS EXCLUSIVE MODE")
            with frozen_api(api):
                answers = [pool.submit(post, doomed, each) for each in sent[1:]]
                time.sleep(WAIT_SECONDS)
            assert [answer.result().content for answer in answers] == [b"", b""]
            api.kill("api")
    eventually(lambda: api.rows(waiting, slack.url + hooks[0]) == [])
    told = [api.rows(waiting, slack.url + hook)[0][0] for hook in hooks[1:]]
    assert "`/task list`" in told[0] and "the form" in told[1]
    api.rows("UPDATE messages SET available_at = now() WHERE state = 'ready' AND actor = 'answer_slack' RETURNING 1")
    assert "Please type it again" in late_member.wait_for_answer(hooks[1])
    eventually(lambda: slack.answers(hooks[2]))
    assert len(slack.answers(hooks[0])) == 1


def test_what_a_late_write_is_answered_is_true(late_member: Member, given: Given, person: Person) -> None:
    """One that Slack has reported as failed changes nothing. One that is not done in time says that it is not, and its result
    follows. One that is read in the last second has time to be done."""
    slack, stint, other_person = late_member.slack, late_member.stint, given.person()
    other = Member(slack, stint, slack.user(other_person.email), slack.channel())
    other.run_command("status")
    for by in (person, other_person):
        given.task(by, title="Network")
    hooks = [slack.trigger()["path"] for _ in range(3)]

    def sent(member: Member, hook: str, minutes: int) -> SignedRequest:
        url = slack.url + hook
        return member.command_request(f"log {minutes}m Network", trigger_id=trigger(), response_url=url)

    with ThreadPoolExecutor(3) as pool, stint.sql() as conn:
        with conn.transaction():
            conn.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (person.id,))
            with frozen_api(stint):
                answers = [pool.submit(post, other, sent(other, hooks[0], 30))]
                time.sleep(SLACK_SECONDS - 2.1)
                answers.append(pool.submit(post, late_member, sent(late_member, hooks[1], 20)))
                answers.append(pool.submit(post, other, sent(other, hooks[2], 10)))
                time.sleep(2.2)
            first = [each.result().json()["text"] if each.result().content else "" for each in answers]
        assert not any("try again" in text for text in first), first

    last = [slack.answers(hook)[0]["text"] if "recorded" not in text else text for hook, text in zip(hooks, first, strict=True)
            if "recorded" in text or eventually(partial(slack.answers, hook), why=text)]  # fmt: skip
    assert first[0] == "" and "changed nothing" in last[0] and "/task log 30m Network" in last[0]
    for by, minutes, text in ((person, 20, last[1]), (other_person, 10, last[2])):
        # on a very slow machine, Slack has given up before they are read
        is_recorded = f"{minutes} min are recorded" in text
        assert is_recorded or "changed nothing" in text, text
        recorded = [entry["duration"] for entry in by.get("/api/time-entries", userId=by.id)["items"]]
        assert recorded == ([minutes * 60] if is_recorded else [])


def test_work_behind_an_answer_is_done_before_the_process_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    async def send(text: str) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        done.append(text)

    async def main() -> None:
        responder = Responder(database=Any, settings=Any)  # type: ignore[arg-type]

        async def work() -> None:
            await send("result")
            responder.run_in_background(send("answer"))

        responder.run_in_background(work())
        await responder.close()
        monkeypatch.setattr("api.slack.responder.CLOSING_SECONDS", 0.01)
        endless = responder.run_in_background(asyncio.Event().wait())
        await responder.close()
        assert endless.cancelled()

    asyncio.run(main())
    assert done == ["result", "answer"]
