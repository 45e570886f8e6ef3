"""The commands of `/task` that find tasks, record time and change the running timer, against a running installation."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.slack.test_tasks import mapped
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, texts


def buttons(answer: Any) -> list[Json]:
    """The buttons of an answer: {"text", "action_id", "value"}."""
    found = []
    for block in answer.get("blocks") or []:
        for element in [*block.get("elements", []), block.get("accessory") or {}]:
            if element.get("type") == "button":
                found.append(
                    {"text": element["text"]["text"], "action_id": element["action_id"], "value": element.get("value", "")}
                )
    return found


def press(member: Member, button: Json) -> Json:
    """Presses the button, and returns the answer that replaces its message."""
    path = member.press(button["action_id"], button["value"])
    eventually(lambda: member.slack.answers(path), why="an answer")
    answer: Json = member.slack.answers(path)[0]
    return answer


def entries(person: Person) -> list[Json]:
    items: list[Json] = person.get("/api/time-entries", userId=person.id)["items"]
    return items


def running(person: Person) -> str | None:
    """The task of the person's timer."""
    answer = person.http.get("/api/active-timers/me")
    return str(answer.json()["taskId"]) if answer.status_code == 200 else None


def test_near_misses_are_asked_about_and_run_or_become_a_task(member: Member, person: Person, given: Given) -> None:
    task = given.task(person, title="Migrate the mail server")
    person.post(f"/api/tasks/{task['id']}/start")
    opened = len(member.slack.views())

    for typed in ("stpo", "stop the migration", "Status page of &lt;Acme&gt;", "log 90", "log rotation is broken"):
        asked = member.run_command(typed)
        assert "new task?" in asked["text"] and "<" not in asked["text"], typed
        assert buttons(asked)[-1]["action_id"] == "new_task"
    assert running(person) == task["id"] and len(member.slack.views()) == opened and entries(person) == []

    run, create = buttons(member.run_command("stpo"))
    assert "is stopped" in press(member, run)["text"]
    assert "already run" in press(member, run)["text"]
    [create] = buttons(member.run_command("log rotation of R&amp;D"))
    member.press(create["action_id"], create["value"])
    assert [view["blocks"][0]["element"]["initial_value"] for view in member.slack.views()[opened:]] == ["log rotation of R&D"]


def test_a_repeated_press_runs_a_command_once(member: Member, person: Person, given: Given) -> None:
    task = given.task(person)
    person.post(f"/api/tasks/{task['id']}/start")
    trigger = member.slack.trigger()
    sent = member.press_request("run_command", "stop", member.channel, trigger)
    member.send(sent)
    assert "is stopped" in member.wait_for_answer(trigger["path"])
    person.post(f"/api/tasks/{task['id']}/start")

    member.send(sent)

    assert running(person) == task["id"]
    assert "does not belong" in member.wait_for_answer(member.press("run_command", "Migrate the server"))
    assert "does not belong" in member.wait_for_answer(member.press("log_time", '{"start": 1}'))


def test_a_button_that_is_pressed_twice_runs_its_command_once(member: Member, person: Person, given: Given) -> None:
    """Each press has another trigger. The second one leaves the first answer in its place."""
    task = given.task(person, title="Migrate the mail server")
    timer = person.post(f"/api/tasks/{task['id']}/start")
    stop = f"{timer['id']} {int(datetime.now(UTC).timestamp())}"
    for action_id, value in (
        ("run_command", "log 90m mail server: moved"), ("run_command", "note The cable"), ("stop_at_1", stop),
    ):  # fmt: skip
        button = {"action_id": action_id, "value": value}
        first, second = press(member, button), press(member, button)
        assert first["replace_original"] and not second["replace_original"], value
        assert "already" in second["text"] and "already" not in first["text"], value
        if "note" in value:
            assert person.get("/api/active-timers/me")["notes"] == "The cable"
    assert sum(entry["duration"] == 90 * 60 for entry in entries(person)) == 1


def test_start_finds_the_task_by_its_words(member: Member, person: Person, given: Given) -> None:
    acme, other = given.customer(person, name=f"Acme {given.new_id()}"), given.customer(person)
    mail = given.task(person, acme, title="Migrate the mail server")
    printer = given.task(person, acme, title="Printer")
    given.task(person, other, title="Printer of the mail office")
    token = given.new_id()
    colleagues = given.task(given.person(), acme, title=f"Backups {token}")

    assert "runs on Migrate the mail server" in member.run_command("start SERVER migrate")["text"]
    assert running(person) == mail["id"]
    assert "runs on Printer" in member.run_command("start “Printer”")["text"], "a whole title is this task"
    assert running(person) == printer["id"]

    several = member.run_command("start mail")
    assert "fit “mail”" in several["text"] and running(person) == printer["id"]
    assert {button["value"] for button in buttons(several)} > {mail["id"]}
    assert "runs on Migrate" in member.wait_for_answer(member.press("start_timer", mail["id"]))

    assert "runs on Backups" in member.run_command(f"start {token}")["text"], "a colleague's, if none of one's own fits"
    nothing = member.run_command("start nothing-like-this")
    assert "No open task" in nothing["text"] and buttons(nothing)[0]["value"] == "nothing-like-this"
    assert running(person) == colleagues["id"]


def test_a_repeated_start_does_not_start_again(member: Member, person: Person, given: Given) -> None:
    task = given.task(person, title="Renew the certificate")
    sent = member.command_request("start certificate")
    assert "runs on" in member.send(sent)["text"]
    person.post(f"/api/tasks/{task['id']}/stop", status=202)

    assert member.send(sent) is None
    assert running(person) is None


def test_switch_lists_the_latest_tasks_without_the_running_one(member: Member, person: Person, given: Given) -> None:
    assert "no other open tasks" in member.run_command("switch")["text"]
    first, second, third = (given.task(person, title=title) for title in ("First", "Second", "Third"))
    given.logged(person, first, start="2026-03-02T09:00:00Z")
    given.logged(person, second, start="2026-03-03T09:00:00Z")
    person.post(f"/api/tasks/{third['id']}/start")

    shown = member.run_command("switch")
    assert "runs on Third" in shown["text"]
    assert [button["value"] for button in buttons(shown)] == [second["id"], first["id"]]
    assert "runs on First. The one before it was stopped" in member.wait_for_answer(member.press("start_timer", first["id"]))
    assert "runs on Second" in member.run_command("switch second")["text"]


def test_a_note_is_a_line_of_the_running_timer(member: Member, person: Person, given: Given) -> None:
    assert "No timer of yours" in member.run_command("note The cable was broken")["text"]
    assert "after the command" in member.run_command("note")["text"]
    task = given.task(person, title="Network")
    person.post(f"/api/tasks/{task['id']}/start", {"notes": "Looked for it"})

    sent = member.command_request("note The cable &amp; the plug")
    assert "added to your timer on Network" in member.send(sent)["text"]
    assert member.send(sent) is None, "Slack repeats it"
    assert person.get("/api/active-timers/me")["notes"] == "Looked for it\nThe cable & the plug"
    assert "longer than 10,000" in member.run_command(f"note {'x' * 9_990}")["text"]
    assert person.get("/api/active-timers/me")["notes"] == "Looked for it\nThe cable & the plug"


def test_log_records_time_on_a_task_with_a_note_once(member: Member, person: Person, given: Given) -> None:
    given.task(person, title="Something else")
    task = given.task(person, title="Migrate the mail server")

    sent = member.command_request("log 1h30 mail server: moved R&amp;D")
    answer = member.send(sent)["text"]
    assert "1 h 30 min are recorded on Migrate the mail server, with your note" in answer and "Europe/Berlin" in answer
    assert member.send(sent) is None, "Slack repeats it"
    [entry] = entries(person)
    assert (entry["taskId"], entry["duration"], entry["notes"]) == (task["id"], 5400, "moved R&D")
    ended = datetime.fromisoformat(entry["endTime"])
    assert timedelta(0) <= datetime.now(UTC) - ended < timedelta(minutes=1)

    again = member.run_command("log 1h mail server")
    assert "Nothing is recorded" in again["text"] and "overlaps another entry" in again["text"]
    [anyway] = buttons(again)
    assert "1 h 0 min are recorded" in press(member, anyway)["text"]
    assert "1 h 0 min are recorded" in press(member, anyway)["text"], "a second press records nothing more"
    assert sorted(entry["duration"] for entry in entries(person)) == [3600, 5400]
    assert {flag for entry in entries(person) for flag in entry["flags"]} == {"overlap"}


def test_log_asks_which_task_and_records_one_entry_however_often_its_buttons_are_pressed(
    member: Member, person: Person, given: Given
) -> None:
    assert "How long?" in member.run_command("log")["text"]
    assert "How long?" in member.run_command("log 0h")["text"]
    assert "no open tasks" in member.run_command("log 1h")["text"]
    first, second = given.task(person, title="Servers of Acme"), given.task(person, title="Servers of Globex")

    asked = member.run_command("log 45m servers moved the boxes")
    assert "“moved the boxes”" in asked["text"] and entries(person) == []
    chosen, other = buttons(asked)
    assert "45 min are recorded on Servers of Globex" in press(member, chosen)["text"]
    repeated = press(member, other)
    assert "recorded already" in repeated["text"] and not repeated["replace_original"]
    [entry] = entries(person)
    assert (entry["taskId"], entry["notes"]) == (second["id"], "moved the boxes")

    unclear = member.run_command("log 30m nothing fits this")
    assert "No open task here fits" in unclear["text"] and "“nothing fits this”" in unclear["text"]
    assert {json.loads(button["value"])["task_id"] for button in buttons(unclear)} == {first["id"], second["id"]}
    long = "nothing fits this " * 150
    dead_end = member.run_command(f"log 30m {long}")
    assert "Name the task exactly" in dead_end["text"] and buttons(dead_end) == []
    overlap = member.run_command(f"log 30m servers of acme: {long}")
    assert "Nothing is recorded" in overlap["text"] and "too long for a button" in overlap["text"]
    assert "31 days" in member.run_command("log 900h servers of acme")["text"]
    assert len(entries(person)) == 1


def test_one_word_of_a_note_names_no_task_by_chance(member: Member, person: Person, given: Given) -> None:
    given.task(person, title="Fixed assets")
    asked = member.run_command("log 1h fixed the printer")
    assert "On which task" in asked["text"] and entries(person) == []


def test_hours_of_today_and_this_week_are_those_of_the_persons_days(
    member: Member, person: Person, given: Given, stint: Installation
) -> None:
    assert "Nothing is recorded today" in member.run_command("today")["text"]
    mail, other = given.task(person, title="Mail & more"), given.task(person, title="Printer")
    member.run_command("log 1m mail")
    stopped = given.stopped(person, other)
    person.post(f"/api/tasks/{other['id']}/start")

    for word in ("today", "week"):
        shown = member.run_command(word)["text"]
        assert "Mail &amp; more" in shown and "Printer" in shown and "your timer runs" in shown and "Europe/Berlin" in shown
    assert stopped["entry"]["taskId"] == other["id"]
    mapped(person, member.channel, {"id": mail["customerId"]})
    here = member.run_command("today")["text"]
    assert "Mail" in here and "Printer" not in here


def test_stop_at_an_earlier_time(member: Member, person: Person, given: Given, stint: Installation) -> None:
    task = given.task(person, title="Network")
    timer = person.post(f"/api/tasks/{task['id']}/start")
    assert "still runs: it started at" in member.run_command("stop at 0:00")["text"]
    stint.rows("UPDATE timers SET start_time = start_time - interval '2 days' WHERE id = %s RETURNING 1", timer["id"])

    sent = member.command_request("stop at 0:00")
    assert "is stopped at" in member.send(sent)["text"]
    assert member.send(sent) is None
    [entry] = eventually(lambda: entries(person))
    assert datetime.fromisoformat(entry["endTime"]).minute == 0


def test_a_customers_channel_finds_and_changes_nothing_of_another_customer(
    member: Member, person: Person, given: Given, customer: Json
) -> None:
    mapped(person, member.channel, customer)
    hidden = given.customer(person, name=f"Hidden {given.new_id()}")
    task = given.task(person, hidden, title="Hidden mail server")
    given.logged(person, task, start=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), minutes=1)
    elsewhere = buttons(member.run_command("log 10m hidden: x", member.slack.channel()))
    before = len(entries(person))

    shown = [
        member.run_command(text) for text in ("start hidden mail", "switch", "today", "week", "log 5m hidden mail", "log 5m")
    ]
    shown += [member.run_command("start server"), member.run_command("switch hidden"), elsewhere]
    log = {"entry_id": given.new_id(), "start": "2026-03-02T09:00:00Z", "end": "2026-03-02T10:00:00Z", "task_id": task["id"]}
    shown.append(member.wait_for_answer(member.press("log_time", json.dumps(log))))
    person.post(f"/api/tasks/{task['id']}/start")
    shown += [member.run_command(text) for text in ("switch", "today", "note A note", "stop at 0:00", "log 5m")]

    assert "Hidden mail" not in texts(shown) and hidden["name"] not in texts(shown)
    assert "another customer's task" in texts(shown)
    assert len(entries(person)) == before and running(person) == task["id"]


def test_an_inactive_customers_task_takes_no_time(member: Member, person: Person, given: Given) -> None:
    customer = given.customer(person)
    token = given.new_id()
    given.task(person, customer, title=f"Servers {token}")
    [choice] = buttons(member.run_command("log 10m"))
    person.put(f"/api/customers/{customer['id']}", {"active": False})

    assert "inactive" in press(member, choice)["text"]
    assert "No open task" in member.run_command(f"start {token}")["text"]
    assert "no open tasks" in member.run_command(f"log 10m {token}")["text"]
    assert entries(person) == []


def test_times_are_in_the_time_zone_of_the_person(member: Member, person: Person, given: Given) -> None:
    given.task(person, title="Servers")
    for tz, shown in (("Asia/Tokyo", "Asia/Tokyo"), ("Mars/Base", "(UTC)"), (None, "(UTC)")):
        slack_id = member.slack.user(person.email, tz=tz)
        traveller = Member(member.slack, member.stint, slack_id, member.channel)
        assert shown in traveller.run_command("today")["text"]
