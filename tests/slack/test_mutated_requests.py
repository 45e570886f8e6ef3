"""Slack's requests with random changes: never a server error, and nothing is written."""

import random

import httpx2
import pytest

from ops.sandbox.slack import requests
from ops.sandbox.slack.requests import SignedRequest
from tests.support.given import Given, Json
from tests.support.installation import Installation
from tests.support.sizes import MUTATIONS
from tests.support.slack_sandbox import Member

# Homes that other tests have opened are published meanwhile
WRITTEN = """
SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM timers),
       (SELECT count(*) FROM messages WHERE actor <> 'publish_home'),
       (SELECT count(*) FROM slack_deduplication)
"""


def mutated(sent: SignedRequest, dice: random.Random) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The request with a changed body or changed headers; a changed body usually gets a valid signature."""
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
            index = dice.randrange(len(value))
            headers[at] = (name, value[:index] + bytes([dice.randrange(33, 256)]) + value[index + 1 :])
    return bytes(body), headers


def resign(body: bytearray, headers: list[tuple[bytes, bytes]]) -> None:
    try:
        again = requests.signed("", bytes(body), content_type="")
    except UnicodeDecodeError:
        return
    headers[1:] = [(name.encode(), value.encode()) for name, value in again.headers.items() if name != "Content-Type"]


@pytest.mark.slow
def test_thousands_of_mutated_requests_are_never_a_server_error(
    member: Member, stint: Installation, customer: Json, given: Given
) -> None:
    """An invalid signature is 401, an invalid body another 4xx, and nothing is written. A request that is still valid, for
    example with one changed character in a title, comes from a user who may not write."""
    unknown = Member(member.slack, stint, "U0NOBODY", member.channel)
    view = member.open_form()
    task = given.task(given.person())
    originals = [
        unknown.command_request(""),
        unknown.command_request("stop"),
        unknown.submit_request(view, title="Never", customer=customer["id"]),
        unknown.press_request("start_timer", task["id"], member.channel, member.slack.trigger()),
        requests.interaction("block_suggestion", user="U0NOBODY", action_id="customer", value="a", view=view, block_id="b"),
        requests.event({"type": "reaction_added", "user": "U0NOBODY"}, event_id="EvFuzz"),
    ]
    dice = random.Random(5)
    before = stint.rows(WRITTEN)
    seen: dict[int, int] = {}
    with httpx2.Client(base_url=stint.url, timeout=10) as http:
        for number in range(MUTATIONS):
            sent = dice.choice(originals)
            body, headers = mutated(sent, dice)
            answer = http.post(sent.path, content=body, headers=headers)
            assert answer.status_code in (200, 400, 401, 413, 415), (number, answer.status_code, body, headers)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
    print(f"{MUTATIONS} mutations: {seen}")
    assert min(seen[200], seen[400], seen[401], seen[415]) > MUTATIONS // 40
    assert stint.rows(WRITTEN) == before
