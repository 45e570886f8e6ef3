"""Posts to Slack: each once, within the channel's rate; retries, dead letters, nudges and modals."""

import json
import threading
import time

import pytest

from ops.sandbox.slack import requests
from tests.slack.test_tasks import hours_later, mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, texts


def create_task(member: Member, title: str) -> None:
    """Creates a task in the member's channel."""
    assert member.submit(member.open_form(title)) is None


def is_confirmed(stint: Installation, member: Member) -> bool:
    """Whether all confirmations for the member's channel are done."""
    query = (
        "SELECT count(*) = 0 FROM messages WHERE actor = 'post_task_created' AND body->>'channel_id' = %s AND state <> 'done'"
    )
    return bool(stint.value(query, member.channel))


@pytest.fixture(autouse=True)
def channel_of_the_customer(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)


def test_a_channel_gets_about_one_message_a_second(member: Member, person: Person, stint: Installation, customer: Json) -> None:
    started = time.time()
    for number in range(6):
        create_task(member, f"Task {number}")

    eventually(lambda: len(member.slack.messages(member.channel)) == 6, seconds=40)

    at = sorted(message["at"] for message in member.slack.messages(member.channel))
    # the slots are a second apart; a post may be late, and so nearer to the next one, but is never early
    assert all(posted >= started + number for number, posted in enumerate(at)), (started, at)
    eventually(lambda: is_confirmed(stint, member))
    attempts = "SELECT count(*) FROM message_attempts JOIN messages ON id = message_id WHERE body->>'channel_id' = %s"
    assert stint.value(attempts, member.channel) == 0  # waiting for a slot is not a failed attempt


def test_retry_after_is_respected_and_counts_no_attempt(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    member.slack.inject_fault("status", path="chat.postMessage", status=429, retryAfter=3, count=2)
    before = len(member.slack.calls("chat.postMessage"))
    create_task(member, "Retry-After")

    eventually(lambda: member.slack.messages(member.channel), seconds=30)

    at = [call["at"] for call in member.slack.calls("chat.postMessage")[before:]]
    assert len(at) == 3 and at[1] - at[0] > 3 and at[2] - at[1] > 3
    [(attempts, max_attempts)] = stint.rows(
        "SELECT attempts, max_attempts FROM messages WHERE actor = 'post_task_created' ORDER BY created_at DESC LIMIT 1"
    )
    assert max_attempts - attempts == 15  # none of the three counts


@pytest.mark.parametrize("kind", ["drop_after", "half", "stall"])
def test_a_post_whose_response_is_lost_is_found_and_not_repeated(
    kind: str, member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    member.slack.inject_fault(kind, path="chat.postMessage", count=1, seconds=6)
    create_task(member, "Once")

    eventually(lambda: member.slack.messages(member.channel))
    eventually(lambda: is_confirmed(stint, member), seconds=40)

    assert len(member.slack.messages(member.channel)) == 1


@pytest.mark.slow
def test_a_worker_that_dies_after_posting_does_not_post_again(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    member.slack.inject_fault("stall", path="chat.postMessage", count=1, seconds=20)
    create_task(member, "Once")
    eventually(lambda: member.slack.messages(member.channel))

    stint.kill("work")
    stint.start("work")

    eventually(lambda: is_confirmed(stint, member), seconds=60)
    assert len(member.slack.messages(member.channel)) == 1


def test_a_post_that_cannot_be_searched_for_is_repeated(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    """Without the scope to read the channel, Stint can only guarantee at-least-once."""
    member.slack.configure(history=False)
    member.slack.inject_fault("drop_after", path="chat.postMessage", count=1)
    create_task(member, "At least once")

    eventually(lambda: is_confirmed(stint, member) and member.slack.messages(member.channel), seconds=40)

    assert len(member.slack.messages(member.channel)) == 2
    assert "posting this again" in stint.log("work")


def test_a_confirmation_is_retried_until_slack_answers(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    member.slack.inject_fault("drop_before", path="chat.postMessage", count=3)
    create_task(member, "In the end")
    eventually(lambda: member.slack.messages(member.channel), seconds=40)


def test_a_post_that_slack_refuses_becomes_a_dead_letter(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    view = member.open_form("Too long")
    member.slack.configure(refused={"chat.postMessage": {"error": "msg_too_long"}})
    member.submit(view)
    dead = "SELECT id::text FROM messages WHERE actor = 'post_task_created' AND state = 'dead'"
    [(message_id,)] = eventually(lambda: stint.rows(dead))
    assert "msg_too_long" in stint.value("SELECT error FROM messages WHERE id = %s", message_id)

    member.slack.configure(refused={})
    stint.rows("UPDATE messages SET state = 'ready', available_at = now() WHERE id = %s RETURNING 1", message_id)
    eventually(lambda: member.slack.messages(member.channel))


@pytest.mark.parametrize("content", [{"type": "app_uninstalled"}, {"type": "tokens_revoked", "tokens": {"bot": ["U0STINT"]}}])
def test_what_is_posted_while_the_app_is_removed_waits_and_the_operator_reads_what_to_do(
    content: Json, member: Member, person: Person, stint: Installation, given: Given, customer: Json
) -> None:
    timer = person.post(f"/api/tasks/{given.task(person)['id']}/start")
    view = member.open_form("Waits for the app")
    # the mails to admins about it have no server
    dead = "SELECT count(*) FROM messages WHERE state = 'dead' AND queue <> 'mail'"
    before = stint.value(dead)
    member.slack.configure(revoked=True)
    assert member.submit(view) is None  # the task is created nevertheless
    assert member.send(requests.event(content, event_id=f"Ev{content['type']}")) is None
    assert stint.value("SELECT count(*) FROM slack_access_losses WHERE method = 'auth.test'") == 1  # known from the event
    shown = json.loads(stint.command("status", "--json").stdout)
    assert "removed from" in shown["servers"]["Slack"] or "was revoked" in shown["servers"]["Slack"]
    assert "install the app again" in shown["cures"]["Slack"]
    hours_later(stint, timer)
    waits = "SELECT count(*) FROM messages WHERE state = 'ready' AND (body->>'channel_id' = %s OR body->>'timer_id' = %s)"
    eventually(lambda: stint.value(waits + " AND available_at > created_at", member.channel, timer["id"]) == 2)
    assert stint.value(dead) == before

    member.slack.configure(revoked=False)
    eventually(lambda: member.slack.messages(member.channel) and member.slack.messages(member.id), seconds=30)
    eventually(lambda: stint.value("SELECT count(*) FROM slack_access_losses") == 0)
    assert stint.value(dead) == before
    person.http.delete("/api/active-timers/me")


def test_a_revoked_user_token_changes_nothing(member: Member, person: Person, stint: Installation, customer: Json) -> None:
    member.send(requests.event({"type": "tokens_revoked", "tokens": {"oauth": ["U1"]}}, event_id="EvOauth"))
    create_task(member, "Still there")
    eventually(lambda: member.slack.messages(member.channel))


def test_a_nudge_finds_its_owner_by_e_mail_address(member: Member, person: Person, stint: Installation, given: Given) -> None:
    timer = person.post(f"/api/tasks/{given.task(person)['id']}/start")
    hours_later(stint, timer)
    eventually(lambda: member.slack.messages(member.id))
    not_in_slack = given.person()
    timer = not_in_slack.post(f"/api/tasks/{given.task(person)['id']}/start")
    hours_later(stint, timer)
    is_done = "SELECT count(*) FROM messages WHERE body->>'timer_id' = %s AND state = 'done'"
    eventually(lambda: stint.value(is_done, timer["id"]) == 1, why="the owner is not in Slack")
    for user in (person, not_in_slack):
        user.http.delete("/api/active-timers/me")


def test_a_modal_that_slack_did_not_update_is_updated_by_an_actor(member: Member, person: Person, stint: Installation) -> None:
    """Postgres is slow, so an empty modal opens; and Slack fails when the modal should be updated."""
    member.slack.inject_fault("status", path="views.update", status=500, count=1)
    before, since = len(member.slack.views()), stint.value("SELECT clock_timestamp()")
    with stint.sql() as conn, conn.transaction():
        conn.execute("LOCK TABLE slack_users IN ACCESS EXCLUSIVE MODE")
        sending = threading.Thread(target=lambda: member.run_command("Slow"))
        sending.start()
        [view] = eventually(lambda: member.slack.views()[before:])
        assert "One moment" in texts(view)
    sending.join()

    eventually(lambda: "Slow" in texts(member.slack.views()[before:]))
    made = "SELECT state FROM messages WHERE actor = 'update_view' AND created_at > %s"
    eventually(lambda: stint.rows(made, since) == [("done",)])
