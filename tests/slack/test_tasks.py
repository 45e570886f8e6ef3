"""From `/task` to a task and its confirmation, and what can be done with both in Slack."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from ops.sandbox import slack_app
from tests.given import Given, Json, Person
from tests.installation import Installation, eventually
from tests.workspace import Member, texts


def tasks_of(person: Person, customer: Json) -> list[Json]:
    items: list[Json] = person.get("/api/tasks", customerId=customer["id"])["items"]
    return items


def mapped(person: Person, channel: str, customer: Json, **more: str) -> Json:
    """The channel is the customer's from now on."""
    body = {"channelId": channel, "channelName": "acme", "customerId": customer["id"]}
    return person.post("/api/slack/channel-mappings", body | more)


def test_a_command_becomes_a_task_and_its_confirmation(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)

    view = member.opens("Mend the mail server")
    assert member.submits(view, description="It has been slow since Monday.") is None

    [task] = tasks_of(person, customer)
    assert (task["title"], task["description"]) == ("Mend the mail server", "It has been slow since Monday.")
    assert (task["source"], task["createdBy"]) == ("slack", person.id)
    [posted] = eventually(lambda: member.slack.messages(member.channel))
    assert f"https://app.example/tasks/{task['id']}" in texts(posted)
    assert "Start timer" in texts(posted) and "Done" in texts(posted)


def test_the_form_presets_customer_and_pillar_of_the_channel(member: Member, person: Person, customer: Json) -> None:
    pillar = person.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting"})
    mapped(person, member.channel, customer, pillarId=pillar["id"])

    assert member.submits(member.opens(), title="Renew the certificate") is None

    [task] = tasks_of(person, customer)
    assert task["pillarId"] == pillar["id"]


def test_where_no_customer_is_preset_one_is_picked(member: Member, person: Person, customer: Json) -> None:
    pillar = person.post(f"/api/customers/{customer['id']}/pillars", {"name": "Hosting 100%"})
    view = member.opens("Renew the certificate")

    [offered] = member.is_offered("customer", customer["name"][-8:].upper(), view=view)
    assert offered == {"text": customer["name"], "value": customer["id"]}
    names = [option["text"] for option in member.is_offered("pillar", view=view, customer=customer["id"])]
    assert names == ["General Support", "Hosting 100%"]
    assert [option["value"] for option in member.is_offered("pillar", "100%", view=view, customer=customer["id"])] == [
        pillar["id"]
    ]
    assert member.is_offered("pillar", "_", view=view, customer=customer["id"]) == []

    assert member.submits(view, customer=customer["id"], pillar=pillar["id"]) is None
    assert tasks_of(person, customer)[0]["pillarId"] == pillar["id"]


def test_picking_another_customer_offers_its_pillars(member: Member, person: Person, customer: Json) -> None:
    view = member.opens("Renew the certificate")
    picked = {"type": "external_select", "action_id": "customer", "selected_option": {"value": customer["id"]}}
    state = {"values": slack_app.state(view, {"customer": customer["id"], "title": "Another title"})}
    trigger = member.slack.trigger()["triggerId"]
    pressed = slack_app.interaction(
        "block_actions", user=member.id, trigger_id=trigger, actions=[picked], view=view | {"state": state}
    )
    assert member.sends(pressed) is None

    def changed() -> Json | None:
        [now] = [other for other in member.slack.views() if other["id"] == view["id"]]
        return now if customer["id"] in now["private_metadata"] else None

    now = eventually(changed)
    assert "Another title" in texts(now)
    assert [option["text"] for option in member.is_offered("pillar", view=now)] == ["General Support"]


def test_what_is_wrong_is_shown_in_the_form(member: Member, person: Person, given: Given, customer: Json) -> None:
    other = given.customer(person)
    foreign = person.get(f"/api/customers/{other['id']}/pillars")["items"][0]
    view = member.opens()

    assert set(member.submits(view, title="   ", customer=customer["id"])["errors"]) == {"title"}
    assert set(member.submits(view, title="A", customer=None)["errors"]) == {"customer"}
    assert set(member.submits(view, title="A", customer="nobody")["errors"]) == {"customer"}
    assert set(member.submits(view, title="A", customer=given.new_id())["errors"]) == {"customer"}
    errors = member.submits(view, title="A", customer=customer["id"], pillar=foreign["id"])["errors"]
    assert list(errors) == ["pillar-none"] and "GET" not in texts(errors)
    assert tasks_of(person, customer) == []

    assert member.submits(view, title="A", customer=customer["id"]) is None  # the same form, put right
    assert len(tasks_of(person, customer)) == 1


def test_a_form_that_is_sent_four_times_makes_one_task(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    mapped(person, member.channel, customer)
    sent = member.submission(member.opens(), title="Once")

    with ThreadPoolExecutor(3) as pool:
        answers = [answer.status_code for answer in pool.map(lambda _: member.hand_over(sent), range(3))]
    answers.append(member.hand_over(sent).status_code)

    assert answers == [200] * 4
    [task] = tasks_of(person, customer)
    eventually(lambda: member.slack.messages(member.channel))
    count = "SELECT count(*) FROM messages WHERE actor = 'post_task_created' AND body->>'task_id' = %s"
    assert stint.value(count, task["id"]) == 1


def test_a_form_that_says_something_else_the_second_time_is_told_so(member: Member, person: Person, customer: Json) -> None:
    view = member.opens()
    assert member.submits(view, title="First", customer=customer["id"]) is None
    assert "already" in texts(member.submits(view, title="Second", customer=customer["id"]))
    assert [task["title"] for task in tasks_of(person, customer)] == ["First"]


def test_a_message_becomes_a_task_with_its_link(member: Member, person: Person, customer: Json) -> None:
    trigger = member.slack.trigger()
    chosen = slack_app.interaction(
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
    assert member.sends(chosen) is None

    view = member.slack.views()[-1]
    assert member.submits(view, customer=customer["id"]) is None
    [task] = tasks_of(person, customer)
    assert task["title"] == "The site is down & slow"
    assert "this (https://a.example/x)" in task["description"]
    assert f"https://sandbox.slack.com/archives/{member.channel}/p1700000000000100" in task["description"]


def test_the_confirmations_buttons_start_a_timer_and_finish_the_task(member: Member, person: Person, given: Given) -> None:
    task = given.task(person)

    assert "runs on Mend the mail server" in member.is_told(member.presses("start_timer", task["id"]))
    assert person.get("/api/active-timers/me")["taskId"] == task["id"]
    assert "is done" in member.is_told(member.presses("finish_task", task["id"]))
    assert person.get(f"/api/tasks/{task['id']}")["status"] == "done"
    assert "no such task" in member.is_told(member.presses("finish_task", given.new_id()))
    assert "no such task" in member.is_told(member.presses("start_timer", "rubbish"))


def test_a_button_that_is_sent_again_does_nothing(member: Member, person: Person, given: Given) -> None:
    task = given.task(person)
    trigger = member.slack.trigger()
    sent = member.pressing("start_timer", task["id"], member.channel, trigger)
    member.sends(sent)
    person.post(f"/api/tasks/{task['id']}/stop", status=202)

    member.sends(sent)

    person.get("/api/active-timers/me", status=404)


def test_timers_are_started_by_picking_and_stopped(member: Member, person: Person, given: Given) -> None:
    task = given.task(person, title="Renew the certificate")
    given.task(person, title="Not now")

    assert "which of your tasks" in texts(member.types("start"))
    [offered] = member.is_offered("task", "CERTIF")
    assert offered["value"] == task["id"] and offered["text"].startswith("Renew the certificate")
    member.is_told(member.presses("task", task["id"]))
    assert "runs on Renew the certificate" in member.types("status")["text"]
    assert "is stopped" in member.types("Stop ")["text"]
    person.get("/api/active-timers/me", status=404)
    assert "No timer of yours" in member.types("stop")["text"]
    assert "Open tasks of yours: 2" in member.types("status")["text"]


def test_the_list_has_ones_own_open_tasks(member: Member, person: Person, given: Given) -> None:
    assert "no open tasks" in member.types("list")["text"]
    other = given.person()
    given.task(person, title="Nobody's, made by me")
    given.task(person, title="Somebody else's", assigneeId=other.id)
    given.task(other, title="Given to me", assigneeId=person.id)
    given.task(person, title="Over", status="done")

    shown = texts(member.types("list"))

    assert "Nobody's, made by me" in shown and "Given to me" in shown
    assert "Somebody else's" not in shown and "Over" not in shown


def test_help_says_what_there_is(member: Member) -> None:
    said = member.types("help")
    assert said["response_type"] == "ephemeral"
    assert all(f"/task {word}" in said["text"] for word in ("start", "stop", "status", "list"))


def test_a_title_can_call_nobody(member: Member, person: Person, customer: Json) -> None:
    mapped(person, member.channel, customer)
    member.submits(member.opens(), title="<!channel> & <https://evil.example|click>")

    [posted] = eventually(lambda: member.slack.messages(member.channel))

    assert "<!channel>" not in texts(posted) and "<https://evil" not in texts(posted)
    assert "&lt;!channel&gt;" in texts(posted)


def test_long_names_fit_into_slack(member: Member, person: Person, given: Given) -> None:
    long = given.customer(person, name="Ö" * 200)
    mapped(person, member.channel, long)
    given.task(person, long, title="ß" * 200)

    assert member.submits(member.opens("Ä" * 4000)) is None

    assert {len(task["title"]) for task in tasks_of(person, long)} == {200}
    assert len(member.is_offered("task", "ß")[0]["text"]) <= 75
    eventually(lambda: member.slack.messages(member.channel))
    assert member.types("list") is not None


def test_a_timer_that_runs_for_hours_nudges_its_owner(
    member: Member, person: Person, stint: Installation, given: Given
) -> None:
    task = given.task(person)
    timer = person.post(f"/api/tasks/{task['id']}/start")
    plan = "SELECT id, available_at FROM messages WHERE actor = 'nudge_owner' AND body->>'timer_id' = %s AND state = 'ready'"
    [(message_id, due)] = stint.rows(plan, timer["id"])
    started = datetime.fromisoformat(timer["startTime"])
    assert (due - started.astimezone(UTC)).total_seconds() == 8 * 3600

    hours_later(stint, timer)
    [asked] = eventually(lambda: member.slack.messages(member.id), why=stint.log("work")[-1500:])
    assert "running for 8 h 0 min" in texts(asked) and "Keep running" in texts(asked)

    assert "goes on" in member.is_told(member.presses("keep_running", timer["id"], "D0123"))
    [(again, _)] = stint.rows(plan, timer["id"])
    assert again != message_id
    stint.rows("UPDATE messages SET available_at = now() WHERE id = %s RETURNING 1", again)
    eventually(lambda: len(member.slack.messages(member.id)) == 2)

    assert "is stopped: 8 h" in member.is_told(member.presses("stop_timer", timer["id"], "D0123"))
    person.get("/api/active-timers/me", status=404)


def hours_later(stint: Installation, timer: Json) -> None:
    """Eight hours have gone by for this timer."""
    stint.rows("UPDATE timers SET start_time = start_time - interval '8 hours' WHERE id = %s RETURNING 1", timer["id"])
    due = "UPDATE messages SET available_at = now() WHERE body->>'timer_id' = %s RETURNING 1"
    stint.rows(due, timer["id"])


def test_nobody_is_nudged_for_a_timer_that_is_over(member: Member, person: Person, stint: Installation, given: Given) -> None:
    task = given.task(person)
    timer = person.post(f"/api/tasks/{task['id']}/start")
    person.post(f"/api/tasks/{task['id']}/stop", status=202)
    second = person.post(f"/api/tasks/{task['id']}/start")  # of the same task, but another timer

    stint.rows("UPDATE messages SET available_at = now() WHERE body->>'timer_id' = %s RETURNING 1", timer["id"])
    is_done = "SELECT count(*) FROM messages WHERE body->>'timer_id' = %s AND state = 'done'"
    eventually(lambda: stint.value(is_done, timer["id"]) == 1)

    assert member.slack.messages(member.id) == []
    assert "not running any more" in member.is_told(member.presses("stop_timer", timer["id"], "D0123"))
    assert person.get("/api/active-timers/me")["id"] == second["id"]
    person.http.delete("/api/active-timers/me")


def test_a_timer_whose_start_was_set_later_is_looked_at_later(person: Person, stint: Installation, given: Given) -> None:
    task = given.task(person)
    timer = person.post(f"/api/tasks/{task['id']}/start")

    stint.rows("UPDATE messages SET available_at = now() WHERE body->>'timer_id' = %s RETURNING 1", timer["id"])

    plans = "SELECT count(*) FROM messages WHERE body->>'timer_id' = %s AND state = 'ready' AND available_at > now()"
    eventually(lambda: stint.value(plans, timer["id"]) == 1)
    person.http.delete("/api/active-timers/me")
