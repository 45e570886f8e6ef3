"""Response URLs: Stint answers only at Slack's own URLs."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ops.sandbox.slack import requests
from schemas.settings import Settings
from schemas.slack.client import is_response_url
from tests.slack.test_tasks import mapped
from tests.support.answers import problem
from tests.support.given import Given, Json, Person
from tests.support.installation import SECRET_KEY, Installation, eventually
from tests.support.slack_sandbox import Member


@pytest.fixture
def channel_of_the_customer(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A server that is not Slack's: its port, and the bytes that it receives."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    conn, _ = server.accept()
                except OSError:
                    return
                with conn:
                    received.append(conn.recv(1000))

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], received
        server.shutdown(socket.SHUT_RDWR)


def other_urls(port: int, own: int) -> list[str]:
    """URLs that lead to another server, at least for some URL parsers."""
    other = f"127.0.0.1:{port}"
    return [
        f"http://{other}/commands/T/1/a",
        f"https://{other}/commands/T/1/a",
        f"http://localhost:{own}/commands/T/1/a",
        f"http://127.0.0.1:{own}@{other}/commands/T/1/a",
        f"http://user:password@127.0.0.1:{own}/commands/T/1/a",
        f"http://{other}#@127.0.0.1:{own}/commands/T/1/a",
        f"http://{other}\\@127.0.0.1:{own}/commands",
        f"http://127.0.0.1:{own}.{other}/commands",
        f"http://127.0.0.1:{own}0/commands",
        f"http://127.0.0.1:{own}/commands/../../a",
        f"http://127.0.0.1:{own}/commands?next=http://{other}",
        f"http://127.0.0.1:{own}/commands\r\nHost: {other}",
        f"\thttp://{other}/commands",
        f"//{other}/commands",
        f"HTTP://127.0.0.1:{own}/commands/T/1/a",
        f"http://127.0.0.1:{own}/a\u2028b",
        f"https://hooks.slack.com:{port}/commands/T/1/a",
        "https://hooks.slack.com:443/commands/T/1/a",
        f"https://hooks.slack.com@{other}/commands/T/1/a",
        f"https://{other}?hooks.slack.com/commands",
        "https://hooks.slack.com.evil.example/commands/T/1/a",
        "https://evil.example/https://hooks.slack.com/a",
        "http://hooks.slack.com/commands/T/1/a",
        "https://HOOKS.slack.com/commands/T/1/a",
        "https://hooks.slack.com./commands/T/1/a",
        "https://hooks.slack.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "",
    ]


@pytest.mark.usefixtures("channel_of_the_customer")
def test_a_request_with_another_response_url_is_refused(
    member: Member, stint: Installation, given: Given, person: Person, listener: tuple[int, list[bytes]]
) -> None:
    port, received = listener
    task = given.task(person)
    urls = other_urls(port, member.slack.port)
    written = "SELECT count(*) FROM messages WHERE body->>'response_url' = ANY(%s) OR created_by = %s"
    before = stint.value(written, urls, person.id)
    for url in urls:
        pressed = requests.interaction(
            "block_actions",
            user=member.id,
            trigger_id=member.slack.trigger()["triggerId"],
            response_url=url,
            channel={"id": member.channel},
            actions=[{"action_id": "start_timer", "value": task["id"]}],
        )
        problem(member.post_request(pressed), 400)
        problem(member.post_request(member.command_request("status", response_url=url)), 400)
    time.sleep(0.5)
    assert received == [] and stint.value(written, urls, person.id) == before
    socket.create_connection(("127.0.0.1", port)).close()
    eventually(lambda: received, why="the server does receive connections")


@pytest.mark.usefixtures("channel_of_the_customer")
def test_the_actor_checks_the_response_url_again(
    member: Member, stint: Installation, listener: tuple[int, list[bytes]]
) -> None:
    """Whatever a message contains, the actor calls only Slack."""
    port, received = listener
    insert = """
    INSERT INTO messages (id, actor, queue, body, max_attempts)
    VALUES (gen_random_uuid(), 'answer_slack', 'slack', jsonb_build_object('response_url', %s::text, 'text', 'secret'), 5)
    RETURNING id
    """
    ids = [
        stint.value(insert, url) for url in (f"http://127.0.0.1:{port}/commands/T/1/a", "https://hooks.slack.com@evil.example/")
    ]
    for message_id in ids:
        eventually(lambda: stint.value("SELECT state FROM messages WHERE id = %s", message_id) == "dead")  # noqa: B023
    assert received == []
    stint.rows("UPDATE messages SET state = 'discarded' WHERE state = 'dead' RETURNING 1")


@pytest.mark.usefixtures("channel_of_the_customer")
def test_no_redirect_is_followed(
    member: Member, stint: Installation, given: Given, person: Person, listener: tuple[int, list[bytes]]
) -> None:
    port, received = listener
    location = f"http://127.0.0.1:{port}/commands/T/1/a"
    member.slack.configure(redirect=location)
    before = len(member.slack.calls("/commands/"))

    member.press("start_timer", given.task(person)["id"])

    eventually(lambda: len(member.slack.calls("/commands/")) > before)
    dead = "SELECT count(*) FROM messages WHERE actor = 'answer_slack' AND state = 'dead' AND error LIKE %s"
    eventually(lambda: stint.value(dead, "%status_307%") == 1)
    assert received == []
    stint.rows("UPDATE messages SET state = 'discarded' WHERE state = 'dead' RETURNING 1")
    person.http.delete("/api/active-timers/me")


def test_response_urls_of_the_real_slack_have_one_host() -> None:
    real = Settings(database_url="", secret_key=SECRET_KEY, _env_file=None)
    for url in ("https://hooks.slack.com/commands/T0123/456/aBc-d_9", "https://hooks.slack.com/actions/T0123/456/789/aBc"):
        assert is_response_url(url, real)
    for url in [*other_urls(1, 8190), "http://127.0.0.1:8190/commands/T/1/a", "https://slack.com/commands/T/1/a"]:
        assert not is_response_url(url, real), url
