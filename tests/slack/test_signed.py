"""Signatures of Slack's requests, and invalid requests with a valid signature."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from slack_sdk.models.views import View
from slack_sdk.signature import SignatureVerifier

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import EVENTS, INTERACTIVITY, SignedRequest
from ops.sandbox.slack.workspace import SIGNING_SECRET, TEAM_ID
from tests.slack.test_grid import OTHER_TEAM, grid
from tests.slack.test_tasks import tasks_of
from tests.support.answers import problem
from tests.support.given import Given, Json, Person
from tests.support.installation import CHECKOUT, Installation
from tests.support.slack_sandbox import Member

FORM = "application/x-www-form-urlencoded"


def post(stint: Installation, sent: SignedRequest, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{stint.url}{sent.path}", content=sent.body, headers=sent.headers | headers, timeout=5)


def json_body(value: Any, **how: Any) -> SignedRequest:
    return requests.signed(EVENTS, json.dumps(value).encode(), content_type="application/json", **how)


CHALLENGE = {
    "type": "url_verification",
    "token": "deprecated",
    "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
}


def test_slack_can_verify_the_urls(stint: Installation) -> None:
    assert post(stint, json_body(CHALLENGE)).json() == {"challenge": CHALLENGE["challenge"]}
    for path in (EVENTS, INTERACTIVITY):
        answer = post(stint, requests.form(path, {"ssl_check": "1", "token": "deprecated"}))
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", [EVENTS, INTERACTIVITY])
def test_a_wrong_signature_is_401(path: str, stint: Installation) -> None:
    right = requests.signed(path, json.dumps(CHALLENGE).encode(), content_type="application/json")
    timestamp, signature = right.headers["X-Slack-Request-Timestamp"], right.headers["X-Slack-Signature"]

    def assert_401(body: bytes = right.body, *extra: tuple[bytes, bytes], **headers: bytes | None) -> None:
        sent = {name.lower().encode(): value.encode() for name, value in right.headers.items()}
        sent |= {f"x-slack-{name.replace('_', '-')}".encode(): value for name, value in headers.items()}  # type: ignore[misc]
        pairs = [(name, value) for name, value in sent.items() if value is not None]
        problem(httpx2.post(f"{stint.url}{path}", content=body, headers=[*pairs, *extra]), 401)

    assert_401(right.body + b" ")
    assert_401(b"")
    assert_401(b"\xff\xfe")
    assert_401(signature=None)
    assert_401(request_timestamp=None)
    for wrong in (
        b"",
        b"v0=",
        b"v0=" + b"0" * 64,
        signature[3:].encode(),
        signature.upper().encode(),
        b"v0=\xe4\xf6\xfc",
        b"v0=" + b"0" * 9000,
    ):
        assert_401(signature=wrong)
    for wrong in (b"", b"soon", b"1e9", b"-1", b"+1", b"1.5", b"\xb2", b"9" * 4000, timestamp.encode() + b"L", b"0x7f"):
        assert_401(request_timestamp=wrong)
    assert_401(right.body, (b"X-Slack-Signature", signature.encode()))
    assert_401(right.body, (b"X-Slack-Request-Timestamp", timestamp.encode()))
    for seconds in (-301, 330):  # the future one has a margin, because time passes until it arrives
        old = requests.signed(path, right.body, content_type="application/json", at=time.time() + seconds)
        problem(post(stint, old), 401)
    problem(post(stint, requests.signed(path, right.body, content_type="application/json", secret="another")), 401)


@pytest.mark.parametrize("path", [EVENTS, INTERACTIVITY])
def test_a_body_is_not_read_before_the_headers_may_be_slacks(path: str, stint: Installation) -> None:
    """Nobody sends 2 MiB, and only then reads that they are not Slack."""
    now, some = str(int(time.time())), "v0=" + "0" * 64
    for timestamp, signature in (
        (None, None), (now, None), (None, some), (now, "v0="), ("soon", some), (str(int(time.time()) - 301), some),
        (str(int(time.time()) + 330), some),
    ):  # fmt: skip
        lines = [f"POST {path} HTTP/1.1", "Host: stint", f"Content-Type: {FORM}", "Content-Length: 2000000"]
        lines += [f"X-Slack-Request-Timestamp: {timestamp}"] if timestamp else []
        lines += [f"X-Slack-Signature: {signature}"] if signature else []
        with socket.create_connection(("127.0.0.1", stint.port), timeout=5) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())  # and nothing of the body
            assert connection.recv(12) == b"HTTP/1.1 401", (timestamp, signature)


def test_a_body_that_is_not_utf_8_is_401(stint: Installation) -> None:
    """Slack's own verifier raises for it."""
    body = b"text=\xff\xfe"
    with pytest.raises(UnicodeDecodeError):
        SignatureVerifier(SIGNING_SECRET).generate_signature(timestamp="1", body=body)
    headers = {"X-Slack-Request-Timestamp": str(int(time.time())), "X-Slack-Signature": "v0=" + "0" * 64, "Content-Type": FORM}
    problem(httpx2.post(f"{stint.url}{EVENTS}", content=body, headers=headers), 401)


def test_two_signing_secrets_are_accepted_while_one_is_replaced(stint: Installation, tmp_path: Path) -> None:
    rotating = Installation(stint.database_url, stint.amqp_url, tmp_path, SLACK_SIGNING_SECRET="the new one, the old one")
    without = Installation(stint.database_url, stint.amqp_url, tmp_path / "..", SLACK_SIGNING_SECRET="")
    try:
        rotating.start("api").wait_until_ready()
        for secret, status in (
            ("the new one", 200),
            ("the old one", 200),
            (SIGNING_SECRET, 401),
            ("the new one, the old one", 401),
        ):
            assert post(rotating, json_body(CHALLENGE, secret=secret)).status_code == status
        without.start("api").wait_until_ready()
        problem(post(without, json_body(CHALLENGE)), 401)
    finally:
        rotating.stop()
        without.stop()


def test_an_invalid_body_with_a_valid_signature_is_a_4xx(stint: Installation, member: Member) -> None:
    def form(path: str, body: bytes) -> int:
        return post(stint, requests.signed(path, body, content_type=FORM)).status_code

    for body in (b"", b"payload", b"payload=", b"payload=%FF", b"payload=%00", b"payload=[]", b"payload=null", b"payload={}",
                 b"payload=1&payload=2", b"payload=" + b"[" * 5000, b'payload={"type":"view_submission"}', b"a&" * 300,
                 b'payload={"type":"rubbish"}', b'payload={"a":1,"a":2}', b'payload={"type":"\\ud800"}'):  # fmt: skip
        assert form(INTERACTIVITY, body) == 400, body
        assert form(EVENTS, body) == 400, body
    values: list[Any] = [[], None, 5, {}, {"type": "event_callback"}, {"type": "unknown"}, {"type": ["url_verification"]}]
    for value in values:
        assert post(stint, json_body(value)).status_code == 400, value
    for content_type in ("text/plain", "", "application/xml", "multipart/form-data", "application/json; charset", "/", ";"):
        assert post(stint, member.command_request("help"), **{"Content-Type": content_type}).status_code in (400, 415), (
            content_type
        )
    large = requests.signed(EVENTS, b"text=" + b"a" * 2_100_000, content_type=FORM)
    assert post(stint, large).status_code == 413


def test_other_events_are_acknowledged(stint: Installation) -> None:
    own = {
        "type": "message",
        "subtype": "bot_message",
        "bot_id": "B0STINT",
        "user": "U0STINT",
        "text": "/task",
        "channel": "C1",
    }
    before = stint.value("SELECT count(*) FROM slack_deduplication")
    for content in (own, {"type": "message", "user": "U1"}, {"type": "reaction_added"}, {}, {"type": 5}):
        answer = post(stint, requests.event(content, event_id="EvOwn"))
        assert (answer.status_code, answer.content) == (200, b"")
    assert stint.value("SELECT count(*) FROM slack_deduplication") == before


def test_an_event_has_its_effect_once_also_if_a_retry_arrives_first(
    stint: Installation, person: Person, customer: Json
) -> None:
    mapping = person.post(
        "/api/slack/channel-mappings", {"channelId": "C0RENAME", "channelName": "old", "customerId": customer["id"]}
    )

    def name() -> str:
        [row] = [row for row in person.get("/api/slack/channel-mappings")["items"] if row["id"] == mapping["id"]]
        return str(row["channelName"])

    def renamed(name: str, event_id: str, team: str = TEAM_ID, **headers: str) -> int:
        content = {"type": "channel_rename", "channel": {"id": "C0RENAME", "name": name, "created": 1}}
        return post(stint, requests.event(content, event_id=event_id, team=team), **headers).status_code

    assert renamed("other workspace", "Ev0", team="T0ELSEWHERE") == 200 and name() == "old"
    # the first request that arrives is a retry: the one before was lost
    assert renamed("first", "Ev1", **{"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}) == 200
    assert name() == "first"
    person.put(f"/api/slack/channel-mappings/{mapping['id']}", {"channelName": "by hand"})
    assert renamed("first", "Ev1", **{"X-Slack-Retry-Num": "2"}) == 200 and name() == "by hand"
    assert renamed("second", "Ev2") == 200 and name() == "second"


def test_a_captured_request_that_is_sent_again_does_nothing(member: Member, person: Person, given: Given) -> None:
    task = given.task(person)
    person.post(f"/api/tasks/{task['id']}/start")
    stop = member.command_request("stop")
    assert "is stopped" in member.send(stop)["text"]
    person.post(f"/api/tasks/{task['id']}/start")

    assert member.send(stop) is None

    assert person.get("/api/active-timers/me")["taskId"] == task["id"]
    person.http.delete("/api/active-timers/me")


def specs() -> Path:
    """The directory of Slack's example payloads. They are not part of this repository: the test looks in STINT_SPECS, or in
    `shared/specs` next to the checkout."""
    directory = Path(os.environ.get("STINT_SPECS") or CHECKOUT.parent / "shared" / "specs") / "slack"
    if not directory.is_dir():
        pytest.skip(f"Slack's examples are not in {directory}: name the directory above in STINT_SPECS")
    return directory


def example(name: str, **values: Any) -> Json:
    """The example, with these values for its empty fields."""
    merged: Json = _merged(json.loads((specs() / f"{name}.json").read_text()), values)
    return merged


def _merged(into: Any, values: Any) -> Any:
    if isinstance(into, dict) and isinstance(values, dict):
        return into | {name: _merged(into.get(name), value) for name, value in values.items()}
    return values


@pytest.mark.parametrize("in_organization", [False, True], ids=["a workspace", "a workspace of an organization"])
def test_slacks_own_examples_are_accepted(
    in_organization: bool, member: Member, person: Person, customer: Json, given: Given
) -> None:
    trigger, url = member.slack.trigger(), member.slack.url
    sender: Json = {"user": {"id": member.id, "team_id": TEAM_ID}, "team": {"id": TEAM_ID, "domain": "sandbox"}}
    of_organization: Json = {}
    if in_organization:
        member.slack.user(person.email, id=member.id, teamId=OTHER_TEAM, enterpriseId="E0ORG", teams=[TEAM_ID, OTHER_TEAM])
        sender = grid() | {"user": {"id": member.id, "team_id": OTHER_TEAM}}
        of_organization = {"enterprise_id": "E0ORG", "enterprise_name": "Org", "is_enterprise_install": "false"}
    where = {"trigger_id": trigger["triggerId"], "response_url": url + trigger["path"], "channel": {"id": member.channel}}

    command = example("SlashCommandPayload", team_id=TEAM_ID, channel_id=member.channel, user_id=member.id, command="/task",
                      text="status", trigger_id=trigger["triggerId"], response_url=url + trigger["path"],
                      **of_organization)  # fmt: skip
    assert "No timer" in member.send(requests.form(EVENTS, command))["text"]

    def sends(payload: Json) -> Any:
        return member.send(requests.form(INTERACTIVITY, {"payload": json.dumps(payload)}))

    message = {"ts": "1700000000.000100", "text": "From an example", "thread_ts": "1700000000.000001"}
    assert sends(example("MessageShortcutPayload", **sender, **where, callback_id="create_task", message=message)) is None
    view = member.slack.views()[-1]
    view = View(**view).to_dict() | {"id": view["id"], "team_id": TEAM_ID}  # it is valid for the model of Slack's SDK too
    state = {"values": requests.state(view, {"customer": customer["id"]})}
    submission = example("ViewSubmissionPayload", **sender, trigger_id="1.2.3", view=view | {"state": state})
    assert sends(submission) is None
    assert tasks_of(person, customer)[0]["title"] == "From an example"
    assert sends(example("ViewClosedPayload", **sender, view=view)) is None
    action = {"type": "button", "action_id": "finish_task", "block_id": "b", "value": given.task(person, customer)["id"]}
    pressed = example("BlockActionPayload", **sender, **where, actions=[action]) | {"view": None}
    assert sends(pressed) is None
    assert "is done" in member.wait_for_answer(trigger["path"])
