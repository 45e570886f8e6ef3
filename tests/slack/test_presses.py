"""Buttons in messages: what a person reads after a press, how the message changes, and what a second press does."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ops.sandbox.slack import requests
from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, texts


@dataclass
class Pressed:
    """A message with buttons, and the presses on it."""

    member: Member
    ts: str
    message: Json = field(default_factory=dict)

    def press(self, action_id: str, value: str) -> Json:
        """Presses a button, and returns the first answer that does not change the confirmation."""
        path = self.path_of(action_id, value)
        found: list[Json] = eventually(lambda: [each for each in self.member.slack.answers(path) if "Open" not in texts(each)])
        return found[0]

    def path_of(self, action_id: str, value: str, trigger: Json | None = None) -> str:
        trigger = trigger or self.member.slack.trigger()
        action = {"type": "button", "action_id": action_id, "block_id": "b", "value": value, "action_ts": "1.1"}
        sent = requests.interaction(
            "block_actions",
            user=self.member.id,
            trigger_id=trigger["triggerId"],
            response_url=self.member.slack.url + trigger["path"],
            channel={"id": self.member.channel, "name": "general"},
            actions=[action],
            container={"type": "message", "message_ts": self.ts},
            message=self.message,
        )
        assert self.member.send(sent) is None
        return str(trigger["path"])

    def changed(self, action_id: str, value: str) -> Json:
        """Presses a button, and returns what the message becomes."""
        path = self.path_of(action_id, value)
        found: list[Json] = eventually(lambda: [each for each in self.member.slack.answers(path) if "Open" in texts(each)])
        return found[0]


def is_answered(stint: Installation) -> None:
    """Waits until all answers are sent, and all entries of stopped timers exist."""
    waiting = (
        "SELECT count(*) FROM messages WHERE actor IN ('answer_slack', 'stop_timer') AND state IN ('ready', 'sent', 'calling')"
    )
    eventually(lambda: stint.value(waiting) == 0)


def buttons(answer: Json) -> list[tuple[str, Any]]:
    """The buttons of an answer: each its label and value."""
    actions = [block for block in answer.get("blocks") or () if block["type"] == "actions"]
    return [(button["text"]["text"], button.get("value")) for block in actions for button in block["elements"]]


def test_done_stops_the_timer_and_start_opens_the_task_again(
    member: Member, person: Person, stint: Installation, given: Given, customer: Json
) -> None:
    mapped(person, member.channel, customer)
    task = given.task(person, customer, title="Backups <all>")
    other = given.person()
    other.post(f"/api/tasks/{task['id']}/start")
    message = Pressed(member, "2.1")

    started = message.press("start_timer", task["id"])
    timer = person.get("/api/active-timers/me")
    assert started["text"] == "Your timer runs on Backups &lt;all&gt;." and not started["replace_original"]
    assert buttons(started) == [("Stop", timer["id"])] and started["text"] in texts(started["blocks"])
    assert "is running already" in message.press("start_timer", task["id"])["text"]

    done = message.press("finish_task", task["id"])["text"]
    assert done == "Backups &lt;all&gt; is done. Your timer on it is stopped: 0 min. Timers of others still run on it: 1."
    person.get("/api/active-timers/me", status=404)
    assert person.get(f"/api/tasks/{task['id']}")["status"] == "done"
    assert other.get("/api/active-timers/me")["taskId"] == task["id"]
    assert message.press("finish_task", task["id"])["text"].startswith("Backups &lt;all&gt; is done already.")

    again = message.press("start_timer", task["id"])["text"]
    assert "The task was done, and is open again." in again
    assert person.get(f"/api/tasks/{task['id']}")["status"] == "open"
    assert "Backups" in texts(member.run_command("list"))
    # a task that takes no timer stays done
    person.put(f"/api/tasks/{task['id']}", {"status": "done"})
    person.http.delete("/api/active-timers/me")
    person.put(f"/api/customers/{customer['id']}", {"active": False})
    assert "inactive" in message.press("start_timer", task["id"])["text"]
    assert person.get(f"/api/tasks/{task['id']}")["status"] == "done"
    other.http.delete("/api/active-timers/me")


def test_a_confirmation_says_who_pressed_its_buttons(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    mapped(person, member.channel, customer)
    assert member.submit(member.open_form("Backups & more")) is None
    [posted] = eventually(lambda: member.slack.messages(member.channel))
    task = next(value for label, value in buttons(posted) if label == "Done")
    section = posted["blocks"][0]["text"]["text"]
    message = Pressed(member, posted["ts"], posted)

    changed = message.changed("start_timer", task)
    assert changed["text"] == posted["text"], "the answer to the presser is only for them"
    assert changed["replace_original"] and changed["blocks"][0]["text"]["text"] == section
    assert f"<@{member.id}> has started a timer." in texts(changed["blocks"])
    assert [label for label, _ in buttons(changed)] == ["Start timer", "Done", "Open"]
    message.message = {"blocks": changed["blocks"]}
    changed = message.changed("finish_task", task)
    assert changed["text"] == f"<@{member.id}> has set the task to done."
    assert f"<@{member.id}> has set the task to done." in texts(changed) and "has started" not in texts(changed)
    assert buttons(changed) == [("Start timer", task), ("Open", None)]
    # a second press finds it done, and changes the confirmation no more
    message.message = changed
    path = message.path_of("finish_task", task)
    assert "is done already" in member.wait_for_answer(path)
    is_answered(stint)
    assert len(member.slack.answers(path)) == 1
    # another message, or one of another shape, is not changed
    unknown: list[Any] = [{}, {"blocks": None}, {"blocks": [5, {"type": "section"}, {"type": "actions", "elements": [5]}]}, []]
    for message.message in unknown:
        message.press("start_timer", task)
        person.http.delete("/api/active-timers/me")


def test_a_confirmation_names_who_has_set_the_task_to_done_and_not_who_pressed_at_the_same_time(
    member: Member, person: Person, stint: Installation, given: Given, customer: Json
) -> None:
    mapped(person, member.channel, customer)
    assert member.submit(member.open_form("Backups")) is None
    [posted] = eventually(lambda: member.slack.messages(member.channel))
    task = next(value for label, value in buttons(posted) if label == "Done")
    both = [member, Member(member.slack, stint, member.slack.user(given.person().email), member.channel)]
    for each in both:
        each.run_command("status")
    waiting = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, 'FOR NO KEY UPDATE') > 0"""
    with ThreadPoolExecutor(2) as pool:
        with stint.sql() as conn, conn.transaction():
            conn.execute("SELECT FROM tasks WHERE id = %s FOR UPDATE", (task,))
            presses = [pool.submit(Pressed(each, posted["ts"], posted).path_of, "finish_task", task) for each in both]
            eventually(lambda: stint.value(waiting) == 2, why="both wait for the task")
        paths = [press.result() for press in presses]
    eventually(lambda: all(member.slack.answers(path) for path in paths))
    is_answered(stint)

    changed = [[each for each in member.slack.answers(path) if each["replace_original"]] for path in paths]
    first = [("done already" not in member.slack.answers(path)[0]["text"]) for path in paths]
    assert sorted(first) == [False, True] and [len(each) for each in changed] == [int(is_first) for is_first in first]
    assert f"<@{both[first.index(True)].id}> has set the task to done." in texts(changed)


def test_of_two_presses_the_later_one_stays_in_the_confirmation(
    member: Member, person: Person, stint: Installation, customer: Json
) -> None:
    """Also if Slack does not take what the earlier one shows at the first attempt, so that it is sent after the later one."""
    mapped(person, member.channel, customer)
    assert member.submit(member.open_form("Backups")) is None
    [posted] = eventually(lambda: member.slack.messages(member.channel))
    task = next(value for label, value in buttons(posted) if label == "Done")
    message = Pressed(member, posted["ts"], posted)
    trigger = member.slack.trigger()
    # the first is the answer to the person, the second what the confirmation becomes
    member.slack.inject_fault("status", path=trigger["path"], status=500, nth=(2,))
    started, done = message.path_of("start_timer", task, trigger), message.path_of("finish_task", task)
    eventually(lambda: len(member.slack.answers(done)) == 2)
    is_answered(stint)

    changes = [each for each in member.slack.answers() if each["path"] in (started, done) and each["replace_original"]]
    assert "has set the task to done" in texts(changes[-1]), [each["text"] for each in changes]


def test_a_repeated_press_gets_the_same_answer_and_changes_nothing(
    member: Member, person: Person, stint: Installation, given: Given, customer: Json
) -> None:
    task = given.task(person, title="Confidential")
    timer = person.post(f"/api/tasks/{task['id']}/start")["id"]
    nudge, other = Pressed(member, "3.1"), Pressed(member, "3.2")
    planned = "SELECT next_at FROM slack_nudges WHERE timer_id = %s"

    first = nudge.press("keep_running", timer)
    due = stint.value(planned, timer)
    kept = [first, nudge.press("keep_running", timer)]
    assert kept[0]["text"] == kept[1]["text"] and [answer["replace_original"] for answer in kept] == [True, False]
    assert stint.value(planned, timer) == due

    stopped = [other.press("stop_timer", timer) for _ in range(2)]
    assert [answer["text"] for answer in stopped] == ["Your timer on Confidential is stopped: 0 min."] * 2
    assert [answer["replace_original"] for answer in stopped] == [True, False]
    is_answered(stint)  # also once the entry exists
    assert other.press("stop_timer", timer)["text"] == stopped[0]["text"]
    assert other.press("keep_running", timer)["text"] == stopped[0]["text"]
    mapped(person, member.channel, customer)  # of another customer
    assert other.press("stop_timer", timer)["text"] == "Your timer on another customer's task is stopped: 0 min."

    # a timer that was stopped elsewhere: the first press says so in the nudge itself
    person.post(f"/api/tasks/{task['id']}/start")
    timer = person.get("/api/active-timers/me")["id"]
    person.post(f"/api/tasks/{task['id']}/stop", status=202)
    answers = [Pressed(member, "3.3").press("stop_timer", timer) for _ in range(2)]
    assert {answer["text"] for answer in answers} == {"That timer is not running any more. It was stopped after 0 min."}
    assert [answer["replace_original"] for answer in answers] == [True, False]
    assert other.press("stop_timer", given.new_id())["text"] == "That timer is not running any more."
