"""Nothing is read of what Slack has not signed; what it has signed is read with care."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from slack_sdk.models.views import View
from slack_sdk.signature import SignatureVerifier

from ops.sandbox import slack_app
from ops.sandbox.slack_app import EVENTS, INTERACTIVITY, Sent
from ops.sandbox.slack_workspace import SIGNING_SECRET, TEAM_ID
from tests.api.answers import problem
from tests.given import Given, Json, Person
from tests.installation import CHECKOUT, Installation
from tests.sizes import MUTATIONS
from tests.slack.test_tasks import tasks_of
from tests.workspace import Member

FORM = "application/x-www-form-urlencoded"


def post(stint: Installation, sent: Sent, **headers: str) -> httpx.Response:
    return httpx.post(f"{stint.url}{sent.path}", content=sent.body, headers=sent.headers | headers, timeout=5)


def json_body(value: Any, **how: Any) -> Sent:
    return slack_app.signed(EVENTS, json.dumps(value).encode(), content_type="application/json", **how)


CHALLENGE = {
    "type": "url_verification",
    "token": "deprecated",
    "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
}


def test_slack_finds_out_whether_the_url_is_ours(stint: Installation) -> None:
    assert post(stint, json_body(CHALLENGE)).json() == {"challenge": CHALLENGE["challenge"]}
    for path in (EVENTS, INTERACTIVITY):
        answer = post(stint, slack_app.form(path, {"ssl_check": "1", "token": "deprecated"}))
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", [EVENTS, INTERACTIVITY])
def test_whatever_is_wrong_with_the_signature_is_401(path: str, stint: Installation) -> None:
    right = slack_app.signed(path, json.dumps(CHALLENGE).encode(), content_type="application/json")
    timestamp, signature = right.headers["X-Slack-Request-Timestamp"], right.headers["X-Slack-Signature"]

    def ask(body: bytes = right.body, *extra: tuple[bytes, bytes], **headers: bytes | None) -> None:
        sent = {name.lower().encode(): value.encode() for name, value in right.headers.items()}
        sent |= {f"x-slack-{name.replace('_', '-')}".encode(): value for name, value in headers.items()}  # type: ignore[misc]
        pairs = [(name, value) for name, value in sent.items() if value is not None]
        problem(httpx.post(f"{stint.url}{path}", content=body, headers=[*pairs, *extra]), 401)

    ask(right.body + b" ")
    ask(b"")
    ask(b"\xff\xfe")
    ask(signature=None)
    ask(request_timestamp=None)
    for wrong in (
        b"",
        b"v0=",
        b"v0=" + b"0" * 64,
        signature[3:].encode(),
        signature.upper().encode(),
        b"v0=\xe4\xf6\xfc",
        b"v0=" + b"0" * 9000,
    ):
        ask(signature=wrong)
    for wrong in (b"", b"soon", b"1e9", b"-1", b"+1", b"1.5", b"\xb2", b"9" * 4000, timestamp.encode() + b"L", b"0x7f"):
        ask(request_timestamp=wrong)
    ask(right.body, (b"X-Slack-Signature", signature.encode()))
    ask(right.body, (b"X-Slack-Request-Timestamp", timestamp.encode()))
    for seconds in (-301, 330):  # the one to come grows younger while it is on its way
        old = slack_app.signed(path, right.body, content_type="application/json", at=time.time() + seconds)
        problem(post(stint, old), 401)
    problem(post(stint, slack_app.signed(path, right.body, content_type="application/json", secret="another")), 401)


def test_a_body_that_is_no_text_is_not_signed(stint: Installation) -> None:
    """Slack's own verifier would raise on it."""
    body = b"text=\xff\xfe"
    with pytest.raises(UnicodeDecodeError):
        SignatureVerifier(SIGNING_SECRET).generate_signature(timestamp="1", body=body)
    headers = {"X-Slack-Request-Timestamp": str(int(time.time())), "X-Slack-Signature": "v0=" + "0" * 64, "Content-Type": FORM}
    problem(httpx.post(f"{stint.url}{EVENTS}", content=body, headers=headers), 401)


def test_two_secrets_hold_while_one_is_replaced_by_the_other(stint: Installation, tmp_path: Path) -> None:
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


def test_what_is_signed_and_rubbish_is_a_4xx(stint: Installation, member: Member) -> None:
    def form(path: str, body: bytes) -> int:
        return post(stint, slack_app.signed(path, body, content_type=FORM)).status_code

    for body in (b"", b"payload", b"payload=", b"payload=%FF", b"payload=%00", b"payload=[]", b"payload=null", b"payload={}",
                 b"payload=1&payload=2", b"payload=" + b"[" * 5000, b'payload={"type":"view_submission"}', b"a&" * 300,
                 b'payload={"type":"rubbish"}', b'payload={"a":1,"a":2}', b'payload={"type":"\\ud800"}'):  # fmt: skip
        assert form(INTERACTIVITY, body) == 400, body
        assert form(EVENTS, body) == 400, body
    for value in ([], None, 5, {}, {"type": "event_callback"}, {"type": "rubbish"}, {"type": ["url_verification"]}):
        assert post(stint, json_body(value)).status_code == 400, value
    for content_type in ("text/plain", "", "application/xml", "multipart/form-data", "application/json; charset", "/", ";"):
        assert post(stint, member.typing("help"), **{"Content-Type": content_type}).status_code in (400, 415), content_type
    large = slack_app.signed(EVENTS, b"text=" + b"a" * 300_000, content_type=FORM)
    assert post(stint, large).status_code == 413


def test_events_that_are_no_concern_of_ours_are_received(stint: Installation) -> None:
    own = {
        "type": "message",
        "subtype": "bot_message",
        "bot_id": "B0STINT",
        "user": "U0STINT",
        "text": "/task",
        "channel": "C1",
    }
    before = stint.value("SELECT count(*) FROM slack_receipts")
    for content in (own, {"type": "message", "user": "U1"}, {"type": "reaction_added"}, {}, {"type": 5}):
        answer = post(stint, slack_app.event(content, event_id="EvOwn"))
        assert (answer.status_code, answer.content) == (200, b"")
    assert stint.value("SELECT count(*) FROM slack_receipts") == before


def test_an_event_has_its_effect_once_and_a_retry_is_no_reason_to_drop_it(
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
        return post(stint, slack_app.event(content, event_id=event_id, team=team), **headers).status_code

    assert renamed("foreign", "Ev0", team="T0ELSEWHERE") == 200 and name() == "old"
    # the first to arrive is a retry: the attempt before was lost
    assert renamed("first", "Ev1", **{"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}) == 200
    assert name() == "first"
    person.put(f"/api/slack/channel-mappings/{mapping['id']}", {"channelName": "by hand"})
    assert renamed("first", "Ev1", **{"X-Slack-Retry-Num": "2"}) == 200 and name() == "by hand"
    assert renamed("second", "Ev2") == 200 and name() == "second"


def test_what_a_captured_request_can_do_again_is_nothing(member: Member, person: Person, given: Given) -> None:
    task = given.task(person)
    person.post(f"/api/tasks/{task['id']}/start")
    stop = member.typing("stop")
    assert "is stopped" in member.sends(stop)["text"]
    person.post(f"/api/tasks/{task['id']}/start")

    assert member.sends(stop) is None

    assert person.get("/api/active-timers/me")["taskId"] == task["id"]
    person.http.delete("/api/active-timers/me")


def specs() -> Path:
    """Slack's own examples of what it sends. They are not part of this repository; they are looked for in STINT_SPECS, or in
    `shared/specs` beside the checkout."""
    place = Path(os.environ.get("STINT_SPECS") or CHECKOUT.parent / "shared" / "specs") / "slack"
    if not place.is_dir():
        pytest.skip(f"Slack's examples are not in {place}: name the directory above in STINT_SPECS")
    return place


def example(name: str, **values: Any) -> Json:
    """The example, with these values for what it leaves empty."""
    found: Json = json.loads((specs() / f"{name}.json").read_text())
    return _merged(found, values)


def _merged(into: Any, values: Any) -> Any:
    if isinstance(into, dict) and isinstance(values, dict):
        return into | {name: _merged(into.get(name), value) for name, value in values.items()}
    return values


def test_what_slacks_own_examples_look_like_is_accepted(member: Member, person: Person, customer: Json, given: Given) -> None:
    trigger, url = member.slack.trigger(), member.slack.url
    who: Json = {"user": {"id": member.id, "team_id": TEAM_ID}, "team": {"id": TEAM_ID, "domain": "sandbox"}}
    asked = {"trigger_id": trigger["triggerId"], "response_url": url + trigger["path"], "channel": {"id": member.channel}}

    command = example("SlashCommandPayload", team_id=TEAM_ID, channel_id=member.channel, user_id=member.id, command="/task",
                      text="status", trigger_id=trigger["triggerId"], response_url=url + trigger["path"])  # fmt: skip
    assert "No timer" in member.sends(slack_app.form(EVENTS, command))["text"]

    def sends(payload: Json) -> Any:
        return member.sends(slack_app.form(INTERACTIVITY, {"payload": json.dumps(payload)}))

    message = {"ts": "1700000000.000100", "text": "From an example", "thread_ts": "1700000000.000001"}
    assert sends(example("MessageShortcutPayload", **who, **asked, callback_id="create_task", message=message)) is None
    view = member.slack.views()[-1]
    view = View(**view).to_dict() | {"id": view["id"], "team_id": TEAM_ID}  # it is one of Slack's own model, too
    state = {"values": slack_app.state(view, {"customer": customer["id"]})}
    submission = example("ViewSubmissionPayload", **who, trigger_id="1.2.3", view=view | {"state": state})
    assert sends(submission) is None
    assert tasks_of(person, customer)[0]["title"] == "From an example"
    assert sends(example("ViewClosedPayload", **who, view=view)) is None
    action = {"type": "button", "action_id": "finish_task", "block_id": "b", "value": given.task(person, customer)["id"]}
    pressed = example("BlockActionPayload", **who, **asked, actions=[action]) | {"view": None}
    assert sends(pressed) is None
    assert "is done" in member.is_told(trigger["path"])


WRITTEN = """
SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM timers), (SELECT count(*) FROM messages),
       (SELECT count(*) FROM slack_receipts)
"""


def mutated(sent: Sent, dice: random.Random) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The request with something wrong in its body or its headers; if in the body, perhaps signed all the same."""
    body = bytearray(sent.body)
    headers = [(name.encode(), value.encode()) for name, value in sent.headers.items()]
    kind = dice.randrange(8)
    if kind < 5:
        for _ in range(dice.choice([1, 1, 2, 10])):
            at = dice.randrange(len(body) + 1)
            match dice.randrange(4):
                case 0:
                    body[at : at + 1] = bytes([dice.randrange(256)])
                case 1:
                    body[at:at] = dice.choice(
                        [b"%00", b"%FF", b"&", b"=", b"%22", b"null", b"[" * 40, b"%ED%A0%80", b"{}", b"9" * 30]
                    )
                case 2:
                    del body[at : at + dice.randrange(1, 40)]
                case 3:
                    body += body[at : at + 50]
        if kind < 4:
            resign(body, headers)
        return bytes(body), headers
    at = dice.randrange(len(headers))
    name, value = headers[at]
    match kind:
        case 5:
            del headers[at]
        case 6:
            headers[at] = (name, bytes(dice.randrange(33, 256) for _ in range(dice.randrange(80))))
        case 7:
            place = dice.randrange(len(value))
            headers[at] = (name, value[:place] + bytes([dice.randrange(33, 256)]) + value[place + 1 :])
    return bytes(body), headers


def resign(body: bytearray, headers: list[tuple[bytes, bytes]]) -> None:
    try:
        again = slack_app.signed("", bytes(body), content_type="")
    except UnicodeDecodeError:
        return
    headers[1:] = [(name.encode(), value.encode()) for name, value in again.headers.items() if name != "Content-Type"]


@pytest.mark.slow(seconds=50)
def test_thousands_of_mutations_are_never_an_error_of_ours(
    member: Member, stint: Installation, customer: Json, given: Given
) -> None:
    """What is not signed is 401, what is rubbish another 4xx, and nothing is written; what is still right, with a letter of a
    title changed, comes from somebody who may not write."""
    stranger = Member(member.slack, stint, "U0NOBODY", member.channel)
    view = member.opens()
    task = given.task(given.person())
    originals = [
        stranger.typing(""),
        stranger.typing("stop"),
        stranger.submission(view, title="Never", customer=customer["id"]),
        stranger.pressing("start_timer", task["id"], member.channel, member.slack.trigger()),
        slack_app.interaction("block_suggestion", user="U0NOBODY", action_id="customer", value="a", view=view, block_id="b"),
        slack_app.event({"type": "reaction_added", "user": "U0NOBODY"}, event_id="EvFuzz"),
    ]
    dice = random.Random(5)
    before = stint.rows(WRITTEN)
    seen: dict[int, int] = {}
    with httpx.Client(base_url=stint.url, timeout=10) as http:
        for number in range(MUTATIONS):
            sent = dice.choice(originals)
            body, headers = mutated(sent, dice)
            answer = http.post(sent.path, content=body, headers=headers)
            assert answer.status_code in (200, 400, 401, 413, 415), (number, answer.status_code, body, headers)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
    print(f"{MUTATIONS} mutations: {seen}")
    assert min(seen[200], seen[400], seen[401], seen[415]) > 100
    assert stint.rows(WRITTEN) == before
