"""Tasks in Slack: `/task`, the form, the confirmation, and what buttons and commands do with tasks and timers."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from ops.sandbox.slack import requests
from schemas.messages import NudgeOwner
from tests.outbox import probe
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, texts


def tasks_of(person: Person, customer: Json) -> list[Json]:
    items: list[Json] = person.get("/api/tasks", customerId=customer["id"])["items"]
    return items


def mapped(person: Person, channel: str, customer: Json, **more: str) -> Json:
    """Maps the channel to the customer."""
    body = {"channelId": channel, "channelName": "acme", "customerId": customer["id"]}
    return person.post("/api/slack/channel-mappings", body | more)


def test_the_form_creates_a_task_and_its_confirmation(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)

    view = member.open_form("Migrate the mail server")
    assert member.submit(view, title="Migrate\n\tthe mail server", description="It has been slow\nsince Monday.") is None

    [task] = tasks_of(person, customer)
    assert (task["title"], task["description"]) == ("Migrate the mail server", "It has been slow\nsince Monday.")
    assert (task["source"], task["createdBy"]) == ("slack", person.id)
    [posted] = eventually(lambda: member.slack.messages(member.channel))
    assert f"https://app.example/tasks/{task['id']}" in texts(posted)
    assert "Start timer" in texts(posted) and "Done" in texts(posted)


def test_the_form_presets_customer_and_pillar_of_the_channel(member: Member, person: Person, customer: Json) -> None:
    pillar = person.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    mapped(person, member.channel, customer, pillarId=pillar["id"])

    assert member.submit(member.open_form(), title="Renew the certificate") is None

    [task] = tasks_of(person, customer)
    assert task["pillarId"] == pillar["id"]


def test_without_a_preset_customer_the_user_selects_one(member: Member, person: Person, customer: Json) -> None:
    pillar = person.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting 100%"})
    view = member.open_form("Renew the certificate")

    [option] = member.get_options("customer", customer["name"][-8:].upper(), view=view)
    assert option == {"text": customer["name"], "value": customer["id"]}
    names = [option["text"] for option in member.get_options("pillar", view=view, customer=customer["id"])]
    assert names == ["General Support", "Hosting 100%"]
    assert [option["value"] for option in member.get_options("pillar", "100%", view=view, customer=customer["id"])] == [
        pillar["id"]
    ]
    assert member.get_options("pillar", "_", view=view, customer=customer["id"]) == []

    assert member.submit(view, customer=customer["id"], pillar=pillar["id"]) is None
    assert tasks_of(person, customer)[0]["pillarId"] == pillar["id"]


def test_another_customer_in_the_form_changes_the_pillars(member: Member, person: Person, customer: Json) -> None:
    view = member.open_form("Renew the certificate")
    action = {"type": "external_select", "action_id": "customer", "selected_option": {"value": customer["id"]}}
    state = {"values": requests.state(view, {"customer": customer["id"], "title": "Another title"})}
    trigger = member.slack.trigger()["triggerId"]
    pressed = requests.interaction(
        "block_actions", user=member.id, trigger_id=trigger, actions=[action], view=view | {"state": state}
    )
    assert member.send(pressed) is None

    def changed() -> Json | None:
        [now] = [other for other in member.slack.views() if other["id"] == view["id"]]
        return now if customer["id"] in now["private_metadata"] else None

    now = eventually(changed)
    assert "Another title" in texts(now)
    assert [option["text"] for option in member.get_options("pillar", view=now)] == ["General Support"]


def test_errors_are_shown_in_the_form(member: Member, person: Person, given: Given, customer: Json) -> None:
    other = given.customer(person)
    others_pillar = person.get(f"/api/customers/{other['id']}/pillars")["items"][0]
    view = member.open_form()

    assert set(member.submit(view, title="   ", customer=customer["id"])["errors"]) == {"title"}
    assert set(member.submit(view, title="A", customer=None)["errors"]) == {"customer"}
    assert set(member.submit(view, title="A", customer="nobody")["errors"]) == {"customer"}
    assert set(member.submit(view, title="A", customer=given.new_id())["errors"]) == {"customer"}
    errors = member.submit(view, title="A", customer=customer["id"], pillar=others_pillar["id"])["errors"]
    assert list(errors) == ["pillar-none"] and "GET" not in texts(errors)
    assert tasks_of(person, customer) == []

    assert member.submit(view, title="A", customer=customer["id"]) is None  # the same form, corrected
    assert len(tasks_of(person, customer)) == 1


def test_a_form_that_is_sent_four_times_creates_one_task(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    mapped(person, member.channel, customer)
    sent = member.submit_request(member.open_form(), title="Once")

    with ThreadPoolExecutor(3) as pool:
        answers = [answer.status_code for answer in pool.map(lambda _: member.post_request(sent), range(3))]
    answers.append(member.post_request(sent).status_code)

    assert answers == [200] * 4
    [task] = tasks_of(person, customer)
    eventually(lambda: member.slack.messages(member.channel))
    count = "SELECT count(*) FROM messages WHERE actor = 'post_task_created' AND body->>'task_id' = %s"
    assert stint.value(count, task["id"]) == 1


def test_a_form_that_is_sent_again_with_other_values_is_refused(member: Member, person: Person, customer: Json) -> None:
    view = member.open_form()
    assert member.submit(view, title="First", customer=customer["id"]) is None
    assert "already" in texts(member.submit(view, title="Second", customer=customer["id"]))
    assert [task["title"] for task in tasks_of(person, customer)] == ["First"]


def test_a_message_becomes_a_task_with_its_text_and_link(member: Member, person: Person, customer: Json) -> None:
    trigger = member.slack.trigger()
    action = requests.interaction(
        "message_action",
        user=member.id,
        callback_id="create_task_from_message",
        trigger_id=trigger["triggerId"],
        response_url=member.slack.url + trigger["path"],
        message_ts="1700000000.000100",
        channel={"id": member.channel, "name": "general"},
        message={
            "type": "message",
            "user": "U1",
            "ts": "1700000000.000100",
            "text": "The site is down &amp; slow\nsee <https://a.example/x|this>",
        },
    )
    assert member.send(action) is None

    view = member.slack.views()[-1]
    assert member.submit(view, customer=customer["id"]) is None
    [task] = tasks_of(person, customer)
    assert task["title"] == "The site is down & slow"
    assert "this (https://a.example/x)" in task["description"]
    assert f"https://sandbox.slack.com/archives/{member.channel}/p1700000000000100" in task["description"]


def test_the_confirmations_buttons_start_a_timer_and_complete_the_task(member: Member, person: Person, given: Given) -> None:
    task = given.task(person, title="Migrate the mail server")

    assert "runs on Migrate the mail server" in member.wait_for_answer(member.press("start_timer", task["id"]))
    assert person.get("/api/active-timers/me")["taskId"] == task["id"]
    assert "is done" in member.wait_for_answer(member.press("finish_task", task["id"]))
    assert person.get(f"/api/tasks/{task['id']}")["status"] == "done"
    assert "no such task" in member.wait_for_answer(member.press("finish_task", given.new_id()))
    assert "no such task" in member.wait_for_answer(member.press("start_timer", "not an id"))


def test_a_repeated_button_request_does_nothing(member: Member, person: Person, given: Given) -> None:
    task = given.task(person)
    trigger = member.slack.trigger()
    sent = member.press_request("start_timer", task["id"], member.channel, trigger)
    member.send(sent)
    person.post(f"/api/tasks/{task['id']}/stop", status=202)

    member.send(sent)

    person.get("/api/active-timers/me", status=404)


def test_a_timer_is_started_from_a_select_and_stopped_by_a_command(member: Member, person: Person, given: Given) -> None:
    task = given.task(person, title="Renew the certificate")
    given.task(person, title="Not now")

    assert "which of your tasks" in texts(member.run_command("start"))
    [option] = member.get_options("task", "CERTIF")
    assert option["value"] == task["id"] and option["text"].startswith("Renew the certificate")
    member.wait_for_answer(member.press("task", task["id"]))
    assert "runs on Renew the certificate" in member.run_command("status")["text"]
    assert "is stopped" in member.run_command("Stop ")["text"]
    person.get("/api/active-timers/me", status=404)
    assert "No timer of yours" in member.run_command("stop")["text"]
    assert "Open tasks of yours: 2" in member.run_command("status")["text"]


def test_the_list_has_the_users_own_open_tasks(member: Member, person: Person, given: Given) -> None:
    assert "no open tasks" in member.run_command("list")["text"]
    other = given.person()
    given.task(person, title="Unassigned, created by me")
    given.task(person, title="Assigned to another user", assigneeId=other.id)
    given.task(other, title="Assigned to me", assigneeId=person.id)
    given.task(person, title="Over", status="done")

    shown = texts(member.run_command("list"))

    assert "Unassigned, created by me" in shown and "Assigned to me" in shown
    assert "Assigned to another user" not in shown and "Over" not in shown


def test_help_lists_the_commands(member: Member) -> None:
    answer = member.run_command("help")
    assert answer["response_type"] == "ephemeral"
    assert all(f"/task {word}" in answer["text"] for word in ("start", "stop", "status", "list"))


def test_a_title_can_notify_nobody(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)
    member.submit(member.open_form(), title="<!channel> & <https://evil.example|click>")

    [posted] = eventually(lambda: member.slack.messages(member.channel))

    assert "<!channel>" not in texts(posted) and "<https://evil" not in texts(posted)
    assert "&lt;!channel&gt;" in texts(posted)


def test_long_names_are_shortened_to_slacks_limits(member: Member, person: Person, given: Given) -> None:
    long = given.customer(person, name="Ö" * 200)
    mapped(person, member.channel, long)
    given.task(person, long, title="ß" * 200)

    assert member.submit(member.open_form("Ä" * 4000)) is None

    assert {len(task["title"]) for task in tasks_of(person, long)} == {200}
    assert len(member.get_options("task", "ß")[0]["text"]) <= 75
    eventually(lambda: member.slack.messages(member.channel))
    assert member.run_command("list") is not None


def test_a_timer_that_has_run_for_hours_sends_a_nudge(
    member: Member, person: Person, stint: Installation, given: Given
) -> None:
    task = given.task(person)
    timer = person.post(f"/api/tasks/{task['id']}/start")
    hours_later(stint, timer)
    [nudge] = eventually(lambda: member.slack.messages(member.id), why=stint.log("work")[-1500:])
    assert "running for 8 h 0 min" in texts(nudge) and "Keep running" in texts(nudge)

    assert "goes on" in member.wait_for_answer(member.press("keep_running", timer["id"], "D0123"))
    due = "UPDATE slack_nudges SET next_at = next_at - interval '8 hours' WHERE timer_id = %s RETURNING next_at <= now()"
    assert stint.rows(due, timer["id"]) == [(True,)]
    eventually(lambda: len(member.slack.messages(member.id)) == 2)

    assert "is stopped: 8 h" in member.wait_for_answer(member.press("stop_timer", timer["id"], "D0123"))
    person.get("/api/active-timers/me", status=404)


def hours_later(stint: Installation, timer: Json) -> None:
    """Makes the timer eight hours older."""
    stint.rows("UPDATE timers SET start_time = start_time - interval '8 hours' WHERE id = %s RETURNING 1", timer["id"])


def test_a_stopped_timer_sends_no_nudge(member: Member, person: Person, stint: Installation, given: Given) -> None:
    task = given.task(person)
    timer = person.post(f"/api/tasks/{task['id']}/start")
    person.post(f"/api/tasks/{task['id']}/stop", status=202)
    second = person.post(f"/api/tasks/{task['id']}/start")  # another timer on the same task

    with stint.sql() as conn:
        probe.enqueue(conn, NudgeOwner(timer_id=UUID(timer["id"]), user_id=UUID(person.id)))
    is_done = "SELECT count(*) FROM messages WHERE body->>'timer_id' = %s AND state = 'done'"
    eventually(lambda: stint.value(is_done, timer["id"]) == 1)
    assert stint.value("SELECT count(*) FROM messages WHERE body->>'timer_id' = %s", second["id"]) == 0

    assert member.slack.messages(member.id) == []
    assert "not running any more" in member.wait_for_answer(member.press("stop_timer", timer["id"], "D0123"))
    assert person.get("/api/active-timers/me")["id"] == second["id"]
    person.http.delete("/api/active-timers/me")


def test_a_timer_whose_start_was_set_later_sends_its_nudge_later(person: Person, stint: Installation, given: Given) -> None:
    task = given.task(person)
    timer = person.post(f"/api/tasks/{task['id']}/start")

    with stint.sql() as conn:  # it was enqueued before the start was set
        probe.enqueue(conn, NudgeOwner(timer_id=UUID(timer["id"]), user_id=UUID(person.id)))
    due = """
        SELECT count(*) FROM slack_nudges n JOIN timers t ON t.id = n.timer_id
        WHERE t.id = %s AND next_at = start_time + interval '8 hours'
    """
    eventually(lambda: stint.value(due, timer["id"]) == 1)
    person.http.delete("/api/active-timers/me")
