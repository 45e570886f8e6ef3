"""A timer that somebody forgot to stop: its nudge has buttons that stop it at an earlier time."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from schemas.slack.commands.likely_ends import RunningSince
from schemas.slack.commands.views import StopAt, stop_buttons, stop_form
from tests.slack.test_commands import buttons, entries, press, running
from tests.support.given import Given, Json, Person
from tests.support.installation import Installation, eventually
from tests.support.slack_sandbox import Member, texts

BERLIN, TOKYO = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo")
TIMER = "0b7fbd4e-26e4-4a8e-9f0e-6a3f7c1d2b5a"


def since(start: str, now: str, activity: str | None = None) -> RunningSince:
    parse = datetime.fromisoformat
    return RunningSince(UUID(TIMER), parse(start), parse(now), parse(activity) if activity else None)


@pytest.mark.parametrize(
    ("zone", "timer", "expected"),
    [
        (BERLIN, since("2026-03-02T08:00Z", "2026-03-02T20:30Z", "2026-03-02T15:12:40Z"), ["16:12", "17:00"]),
        (TOKYO, since("2026-03-02T00:00Z", "2026-03-02T09:30Z"), ["17:00"]),
        (BERLIN, since("2026-03-02T08:00Z", "2026-03-03T06:00Z"), ["Mon 2 Mar 17:00"]),  # yesterday, as it is shown today
        (BERLIN, since("2026-03-02T16:30Z", "2026-03-03T01:00Z"), []),  # it started after the end of the working day
        (BERLIN, since("2026-03-02T08:00Z", "2026-03-02T15:30Z"), []),  # which has not come yet
        (BERLIN, since("2026-03-02T08:00Z", "2026-03-02T20:30Z", "2026-03-02T16:00:20Z"), ["17:00"]),  # one button for a time
    ],
)
def test_the_likely_ends_are_in_the_persons_time_zone(zone: ZoneInfo, timer: RunningSince, expected: list[str]) -> None:
    block = stop_buttons(timer, zone).to_dict()
    assert [element["text"]["text"] for element in block["elements"]] == [
        *(f"Stop at {time} {zone.key}" for time in expected), "Another time…",
    ]  # fmt: skip
    assert len({element["action_id"] for element in block["elements"]}) == len(expected) + 1
    stops = [StopAt.parse(element["value"]) for element in block["elements"][:-1]]
    assert [stop.end for stop in stops if stop] == [end for _, end in timer.ends(zone)]
    field = stop_form(timer, zone, private_metadata="").to_dict()["blocks"][1]["element"]
    assert field["initial_date_time"] == int((stops[0].end if stops and stops[0] else timer.now).timestamp())


def forgotten(person: Person, given: Given, stint: Installation, *, hours: int = 60) -> Json:
    """A timer that was started days ago."""
    task = given.task(person, title="Network")
    timer = person.post(f"/api/tasks/{task['id']}/start")
    change = "UPDATE timers SET start_time = start_time - make_interval(hours => %s) WHERE id = %s RETURNING 1"
    stint.rows(change, hours, timer["id"])
    return timer


def test_a_nudges_buttons_stop_its_timer_at_the_end_of_the_working_day(
    member: Member, person: Person, given: Given, stint: Installation
) -> None:
    timer = forgotten(person, given, stint)
    person.patch("/api/me/working-hours", {"end": "16:30", "hoursPerDay": 7})
    [nudge] = eventually(lambda: member.slack.messages(member.id), why="a nudge")
    stop = buttons(nudge)[-2]
    assert "16:30 Europe/Berlin" in stop["text"] and buttons(nudge)[-1]["text"] == "Another time…"

    trigger = member.slack.trigger()
    sent = member.press_request(stop["action_id"], stop["value"], "D0123", trigger)
    member.send(sent)
    assert "is stopped at" in member.wait_for_answer(trigger["path"])
    member.send(sent)  # Slack repeats it
    [entry] = eventually(lambda: entries(person))
    assert datetime.fromisoformat(entry["endTime"]).astimezone(BERLIN).strftime("%H:%M:%S") == "16:30:00"

    task = given.task(person)
    person.post(f"/api/tasks/{task['id']}/start")
    assert "was stopped already, at" in press(member, stop)["text"]
    assert (
        "was stopped already, at"
        in press(member, buttons(nudge)[0] | {"action_id": "stop_at_2", "value": f"{timer['id']} 1"})["text"]
    )
    assert running(person) == task["id"], "a later timer is not affected"
    assert "does not belong" in press(member, {"action_id": "stop_at_1", "value": "nothing"})["text"]
    assert len(entries(person)) == 1


def test_another_time_is_chosen_in_a_form(member: Member, person: Person, given: Given, stint: Installation) -> None:
    timer = forgotten(person, given, stint)
    opened = len(member.slack.views())
    path = member.press("choose_end", timer["id"], "D0123")
    [view] = member.slack.views()[opened:]
    assert "Your timer started at" in texts(view) and "Europe/Berlin" in texts(view)

    chosen = datetime.now(UTC).replace(microsecond=0, second=0) - timedelta(hours=30)
    too_early, in_future = (chosen - timedelta(hours=60), chosen + timedelta(hours=40))
    assert "it started at" in texts(member.submit(view, end=str(int(too_early.timestamp()))))
    assert "in the future" in texts(member.submit(view, end=str(int(in_future.timestamp()))))
    assert "Pick a day" in texts(member.submit(view, end=None))
    assert running(person) == timer["taskId"]

    sent = member.submit_request(view, end=str(int(chosen.timestamp())))
    first = member.send(sent)
    assert first["response_action"] == "update" and "is stopped at" in texts(first)
    again = member.send(sent)
    assert again["response_action"] == "update" and "stopped already" in texts(again), "Slack repeats it"
    assert "is stopped at" in member.wait_for_answer(path)
    [entry] = eventually(lambda: entries(person))
    given.settled()
    assert len(member.slack.answers(path)) == 1, "of two answers at one message, either could be the last"
    assert datetime.fromisoformat(entry["endTime"]) == chosen

    late = member.press("choose_end", timer["id"], "D0123")
    assert "not running any more" in member.wait_for_answer(late)


def test_the_form_is_only_for_ones_own_timer_and_shows_no_other_customer(
    member: Member, person: Person, given: Given, stint: Installation
) -> None:
    colleague = given.person()
    timer = forgotten(colleague, given, stint)
    assert "not running any more" in member.wait_for_answer(member.press("choose_end", timer["id"], "D0123"))
    element = {"type": "datetimepicker", "action_id": "end"}
    view: Json = {"id": "V0FORGED", "callback_id": "stop_form", "blocks": [{"block_id": "end", "element": element}]}
    view["private_metadata"] = json.dumps({"timer_id": timer["id"], "response_url": "https://evil.example/x"})
    now = str(int(datetime.now(UTC).timestamp()) - 3600)
    assert "not running" in texts(member.submit(view, end=now)) and running(colleague) == timer["taskId"]
    own = forgotten(person, given, stint)
    view["private_metadata"] = json.dumps({"timer_id": own["id"], "response_url": "https://evil.example/x"})
    assert "is stopped at" in texts(member.submit(view, end=now))
    assert stint.value("SELECT count(*) FROM messages WHERE body->>'response_url' LIKE '%%evil.example%%'") == 0
    assert member.post_request(member.submit_request(view | {"private_metadata": "[]"}, end=now)).status_code == 400


def test_the_last_activity_is_the_latest_task_entry_or_note(
    member: Member, person: Person, given: Given, stint: Installation
) -> None:
    timer = forgotten(person, given, stint, hours=1)
    assert member.run_command("note The cable was broken") is not None
    stint.rows("UPDATE timers SET start_time = start_time - interval '1 hour' WHERE id = %s RETURNING 1", timer["id"])
    path, opened = member.press("choose_end", timer["id"], "D0123"), len(member.slack.views())
    assert path and "your last activity in Stint" in texts(member.slack.views()[opened - 1])
