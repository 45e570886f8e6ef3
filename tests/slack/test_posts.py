"""What goes out to Slack: once, at its pace, and nowhere else."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ops.sandbox import slack_app
from schemas.clients.slack import is_answerable
from schemas.settings import Settings
from tests.api.answers import problem
from tests.given import Given, Json, Person
from tests.installation import SECRET_KEY, Installation, eventually
from tests.slack.test_tasks import hours_later, mapped
from tests.workspace import Member, texts


def confirmed(member: Member, person: Person, customer: Json, title: str) -> None:
    """A task is made in the customer's channel."""
    assert member.submits(member.opens(title)) is None


def is_confirmed(stint: Installation, member: Member) -> bool:
    """Whether all that was to be said in the member's channel is done with."""
    query = (
        "SELECT count(*) = 0 FROM messages WHERE actor = 'post_task_created' AND body->>'channel_id' = %s AND state <> 'done'"
    )
    return bool(stint.value(query, member.channel))


@pytest.fixture(autouse=True)
def channel_of_the_customer(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)


def test_a_channel_gets_about_one_message_a_second(member: Member, person: Person, stint: Installation, customer: Json) -> None:
    begun = time.time()
    for number in range(6):
        confirmed(member, person, customer, f"Task {number}")

    eventually(lambda: len(member.slack.messages(member.channel)) == 6, seconds=40)

    at = sorted(message["at"] for message in member.slack.messages(member.channel))
    # each has a place, a second after the one before; it may be late there, and so nearer to the next, but is never early
    assert all(posted >= begun + number for number, posted in enumerate(at)), (begun, at)
    eventually(lambda: is_confirmed(stint, member))
    attempts = "SELECT count(*) FROM message_attempts JOIN messages ON id = message_id WHERE body->>'channel_id' = %s"
    assert stint.value(attempts, member.channel) == 0  # to wait for one's turn is no failure


def test_when_slack_says_later_later_it_is(member: Member, person: Person, stint: Installation, customer: Json) -> None:
    member.slack.fails("status", path="chat.postMessage", status=429, retryAfter=3, count=2)
    before = len(member.slack.calls("chat.postMessage"))
    confirmed(member, person, customer, "Patience")

    eventually(lambda: member.slack.messages(member.channel), seconds=30)

    at = [call["at"] for call in member.slack.calls("chat.postMessage")[before:]]
    assert len(at) == 3 and at[1] - at[0] > 3 and at[2] - at[1] > 3
    [(attempts, allowance)] = stint.rows(
        "SELECT attempts, allowance FROM messages WHERE actor = 'post_task_created' ORDER BY created_at DESC LIMIT 1"
    )
    assert allowance - attempts == 15  # none of them counts


@pytest.mark.parametrize("kind", ["drop_after", "half", "stall"])
def test_a_post_whose_answer_is_lost_is_found_and_not_repeated(
    kind: str, member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    member.slack.fails(kind, path="chat.postMessage", count=1, seconds=6)
    confirmed(member, person, customer, "Once")

    eventually(lambda: member.slack.messages(member.channel))
    eventually(lambda: is_confirmed(stint, member), seconds=40)

    assert len(member.slack.messages(member.channel)) == 1


@pytest.mark.slow
def test_a_worker_that_dies_after_posting_does_not_post_again(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    member.slack.fails("stall", path="chat.postMessage", count=1, seconds=20)
    confirmed(member, person, customer, "Once")
    eventually(lambda: member.slack.messages(member.channel))

    stint.kill("work")
    stint.start("work")

    eventually(lambda: is_confirmed(stint, member), seconds=60)
    assert len(member.slack.messages(member.channel)) == 1


def test_a_post_that_cannot_be_looked_for_comes_again(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    """At least once is what can be promised without the scope to read the channel."""
    member.slack.sets(history=False)
    member.slack.fails("drop_after", path="chat.postMessage", count=1)
    confirmed(member, person, customer, "At least once")

    eventually(lambda: is_confirmed(stint, member) and member.slack.messages(member.channel), seconds=40)

    assert len(member.slack.messages(member.channel)) == 2
    assert "posting this again" in stint.log("work")


def test_a_confirmation_waits_for_slack(member: Member, person: Person, stint: Installation, customer: Json) -> None:
    member.slack.fails("drop_before", path="chat.postMessage", count=3)
    confirmed(member, person, customer, "In the end")
    eventually(lambda: member.slack.messages(member.channel), seconds=40)


def test_what_slack_refuses_for_good_is_a_dead_letter(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    view = member.opens("Revoked")
    member.slack.sets(revoked=True)
    member.submits(view)
    dead = "SELECT id::text FROM messages WHERE actor = 'post_task_created' AND state = 'dead'"
    [(message_id,)] = eventually(lambda: stint.rows(dead))
    assert "account_inactive" in stint.value("SELECT error FROM messages WHERE id = %s", message_id)

    member.slack.sets(revoked=False)
    stint.rows("UPDATE messages SET state = 'ready', available_at = now() WHERE id = %s RETURNING 1", message_id)
    eventually(lambda: member.slack.messages(member.channel))


@pytest.mark.parametrize("content", [{"type": "app_uninstalled"}, {"type": "tokens_revoked", "tokens": {"bot": ["U0STINT"]}}])
def test_without_the_app_nothing_is_called(
    content: Json, member: Member, person: Person, stint: Installation, given: Given, customer: Json
) -> None:
    timer = person.post(f"/api/tasks/{given.task(person)['id']}/start")
    view = member.opens("Nobody hears of it")
    assert member.sends(slack_app.event(content, event_id=f"Ev{content['type']}")) is None
    try:
        before = len(member.slack.calls("chat.postMessage"))
        assert member.submits(view) is None  # the task is made all the same
        dead = "SELECT error FROM messages WHERE actor = 'post_task_created' AND state = 'dead' ORDER BY created_at DESC"
        error = eventually(lambda: stint.rows(dead))[0][0]
        assert "install the app again" in error
        hours_later(stint, timer)
        is_over = "SELECT state = 'done' FROM messages WHERE body->>'timer_id' = %s"
        eventually(lambda: stint.value(is_over, timer["id"]))
        assert len(member.slack.calls("chat.postMessage")) == before
    finally:
        stint.rows("DELETE FROM slack_removals RETURNING 1")
        stint.rows("UPDATE messages SET state = 'discarded' WHERE state = 'dead' RETURNING 1")


def test_a_user_tokens_end_is_not_the_apps(member: Member, person: Person, stint: Installation, customer: Json) -> None:
    member.sends(slack_app.event({"type": "tokens_revoked", "tokens": {"oauth": ["U1"]}}, event_id="EvOauth"))
    confirmed(member, person, customer, "Still there")
    eventually(lambda: member.slack.messages(member.channel))


def test_a_nudge_finds_somebody_who_was_never_seen_in_slack(
    member: Member, person: Person, stint: Installation, given: Given
) -> None:
    timer = person.post(f"/api/tasks/{given.task(person)['id']}/start")
    hours_later(stint, timer)
    eventually(lambda: member.slack.messages(member.id))
    nobody = given.person()
    timer = nobody.post(f"/api/tasks/{given.task(person)['id']}/start")
    hours_later(stint, timer)
    is_over = "SELECT state = 'done' FROM messages WHERE body->>'timer_id' = %s"
    eventually(lambda: stint.value(is_over, timer["id"]), why="there is nobody to ask")
    for somebody in (person, nobody):
        somebody.http.delete("/api/active-timers/me")


def test_a_form_that_slack_did_not_fill_is_filled_by_an_actor(member: Member, person: Person, stint: Installation) -> None:
    """Postgres is slow, so an empty form opens; and Slack fails just when it could be filled."""
    member.slack.fails("status", path="views.update", status=500, count=1)
    before, since = len(member.slack.views()), stint.value("SELECT clock_timestamp()")
    with stint.sql() as conn, conn.transaction():
        conn.execute("LOCK TABLE slack_users IN ACCESS EXCLUSIVE MODE")
        sending = threading.Thread(target=lambda: member.types("Slow"))
        sending.start()
        [view] = eventually(lambda: member.slack.views()[before:])
        assert "One moment" in texts(view)
    sending.join()

    eventually(lambda: "Slow" in texts(member.slack.views()[before:]))
    made = "SELECT state FROM messages WHERE actor = 'update_view' AND created_at > %s"
    eventually(lambda: stint.rows(made, since) == [("done",)])


# where answers go to


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Somebody else's server: its port, and whatever reaches it."""
    reached: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    conn, _ = server.accept()
                except OSError:
                    return
                with conn:
                    reached.append(conn.recv(1000))

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], reached
        server.shutdown(socket.SHUT_RDWR)


def tricks(port: int, own: int) -> list[str]:
    """URLs that would lead elsewhere, to one reader of URLs or another."""
    there = f"127.0.0.1:{port}"
    return [
        f"http://{there}/commands/T/1/a",
        f"https://{there}/commands/T/1/a",
        f"http://localhost:{own}/commands/T/1/a",
        f"http://127.0.0.1:{own}@{there}/commands/T/1/a",
        f"http://user:password@127.0.0.1:{own}/commands/T/1/a",
        f"http://{there}#@127.0.0.1:{own}/commands/T/1/a",
        f"http://{there}\\@127.0.0.1:{own}/commands",
        f"http://127.0.0.1:{own}.{there}/commands",
        f"http://127.0.0.1:{own}0/commands",
        f"http://127.0.0.1:{own}/commands/../../a",
        f"http://127.0.0.1:{own}/commands?next=http://{there}",
        f"http://127.0.0.1:{own}/commands\r\nHost: {there}",
        f"\thttp://{there}/commands",
        f"//{there}/commands",
        f"HTTP://127.0.0.1:{own}/commands/T/1/a",
        f"http://127.0.0.1:{own}/a\u2028b",
        f"https://hooks.slack.com:{port}/commands/T/1/a",
        "https://hooks.slack.com:443/commands/T/1/a",
        f"https://hooks.slack.com@{there}/commands/T/1/a",
        f"https://{there}?hooks.slack.com/commands",
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


def test_no_answer_goes_anywhere_but_to_slack(
    member: Member, stint: Installation, given: Given, person: Person, listener: tuple[int, list[bytes]]
) -> None:
    port, reached = listener
    task = given.task(person)
    before = stint.value("SELECT count(*) FROM messages")
    for url in tricks(port, member.slack.port):
        pressed = slack_app.interaction(
            "block_actions",
            user=member.id,
            trigger_id=member.slack.trigger()["triggerId"],
            response_url=url,
            channel={"id": member.channel},
            actions=[{"action_id": "start_timer", "value": task["id"]}],
        )
        problem(member.hand_over(pressed), 400)
        problem(member.hand_over(member.typing("status", response_url=url)), 400)
    time.sleep(0.5)
    assert reached == [] and stint.value("SELECT count(*) FROM messages") == before
    socket.create_connection(("127.0.0.1", port)).close()
    eventually(lambda: reached, why="it would have been noticed")


def test_what_stands_in_the_ledger_is_looked_at_again(
    member: Member, stint: Installation, listener: tuple[int, list[bytes]]
) -> None:
    """However it got there: the actor calls nobody but Slack."""
    port, reached = listener
    put = """
    INSERT INTO messages (id, actor, queue, body, allowance)
    VALUES (gen_random_uuid(), 'answer_slack', 'slack', jsonb_build_object('response_url', %s::text, 'text', 'secret'), 5)
    RETURNING id
    """
    ids = [
        stint.value(put, url) for url in (f"http://127.0.0.1:{port}/commands/T/1/a", "https://hooks.slack.com@evil.example/")
    ]
    for message_id in ids:
        eventually(lambda: stint.value("SELECT state FROM messages WHERE id = %s", message_id) == "dead")  # noqa: B023
    assert reached == []
    stint.rows("UPDATE messages SET state = 'discarded' WHERE state = 'dead' RETURNING 1")


def test_no_redirect_is_followed(
    member: Member, stint: Installation, given: Given, person: Person, listener: tuple[int, list[bytes]]
) -> None:
    port, reached = listener
    location = f"http://127.0.0.1:{port}/commands/T/1/a"
    member.slack.sets(redirect=location)
    before = len(member.slack.calls("/commands/"))

    member.presses("start_timer", given.task(person)["id"])

    eventually(lambda: len(member.slack.calls("/commands/")) > before)
    dead = "SELECT count(*) FROM messages WHERE actor = 'answer_slack' AND state = 'dead' AND error LIKE %s"
    eventually(lambda: stint.value(dead, "%status_307%") == 1)
    assert reached == []
    stint.rows("UPDATE messages SET state = 'discarded' WHERE state = 'dead' RETURNING 1")
    person.http.delete("/api/active-timers/me")


def test_the_real_slack_is_answered_at_its_own_host_alone() -> None:
    real = Settings(database_url="", secret_key=SECRET_KEY, _env_file=None)
    for url in ("https://hooks.slack.com/commands/T0123/456/aBc-d_9", "https://hooks.slack.com/actions/T0123/456/789/aBc"):
        assert is_answerable(url, real)
    for url in [*tricks(1, 8190), "http://127.0.0.1:8190/commands/T/1/a", "https://slack.com/commands/T/1/a"]:
        assert not is_answerable(url, real), url
