"""The view of App Home at the extremes: within the limits of Slack, by the models of its SDK, and the same blocks as theirs."""

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

from ops.sandbox.slack.checks import check_home
from schemas.identity.work_calendar import WorkCalendar
from schemas.slack.approvals.pending import PendingBill
from schemas.slack.home import gaps, view
from schemas.slack.home.content import Content, Plan, RunningTask
from schemas.slack.views import TaskSummary
from tests.slack.at_home import buttons, seen

NOW = datetime(2026, 12, 1, 11, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
AMPERSANDS = "&" * 200


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 12, day, hour, minute, tzinfo=UTC)


def content(**more: Any) -> Content:
    values: dict[str, Any] = {
        "now": NOW, "zone": BERLIN, "timer": None, "seconds_today": 0, "seconds_week": 0, "plan": Plan(8 * 3600, 16 * 3600),
        "tasks": [], "task_count": 0, "last_day": None, "gaps": [], "bills": None,
    }  # fmt: skip
    return Content(**values | more)


def bill(**more: Any) -> PendingBill:
    values: dict[str, Any] = {
        "id": uuid4(), "version": 999_999, "status": "pending", "date": date(2026, 3, 2), "minutes": 99_999, "stale": True,
        "customer_id": uuid4(), "pillar": AMPERSANDS, "customer": AMPERSANDS, "consultant": AMPERSANDS, "approved_by": None,
        "overlapping": 12, "user_id": uuid4(), "group_count": 50, "group_minutes": 99_999, "total_count": 3_000,
        "total_minutes": 9_999_999,
    }  # fmt: skip
    return PendingBill(**values | more)


def validated(shown: dict[str, Any]) -> dict[str, Any]:
    """The view, which the SDK's validators and the stand-in accept, and which the SDK's models make as well."""
    parsed = View(type="home", blocks=Block.parse_all(shown["blocks"]))
    parsed.validate_json()
    for block in parsed.blocks or ():
        block.validate_json()
        for element in [*(getattr(block, "elements", None) or ()), *filter(None, [getattr(block, "accessory", None)])]:
            element.validate_json()
    assert parsed.to_dict() == shown
    check_home(shown)
    assert len(shown["blocks"]) <= 100 and len(json.dumps(shown)) < 250_000
    ids = [block["block_id"] for block in shown["blocks"] if "block_id" in block]
    assert len(ids) == len(set(ids))
    return shown


@pytest.mark.parametrize("text", [AMPERSANDS, "\U0001f980" * 200, "<!channel>" * 20, "x" * 200])
def test_the_view_of_a_person_with_3000_tasks_fits(text: str) -> None:
    tasks = [TaskSummary(uuid4(), text, text, url=f"https://app.example/tasks/{uuid4()}") for _ in range(20)]
    group = [bill(customer_id=UUID(int=1), user_id=UUID(int=2), pillar=text) for _ in range(50)]
    shown = view.home(
        content(
            timer=RunningTask(uuid4(), uuid4(), text, text, at(1, 8, 12), text * 50),
            tasks=tasks,
            task_count=3_000,
            last_day=date(2026, 11, 30),
            gaps=[(at(1, hour), at(1, hour, 30)) for hour in range(24)],
            bills=[*group, *(bill(customer=text, consultant=text) for _ in range(50))],
        ),
        app_url=f"https://app.example/{'x' * 100}",
        note=text * 10,
        noted_at=NOW,
    )
    text_of = seen(validated(shown))
    assert "… and 2,980 more" in text_of and "[Show all]" in text_of and "… and 19 more" in text_of
    mrkdwn = [block["text"]["text"] for block in shown["blocks"] if block.get("text", {}).get("type") == "mrkdwn"]
    assert not any("<!channel>" in shown for shown in mrkdwn[1:]), "the first one is the note, whose names are escaped already"


def test_the_smallest_view_fits() -> None:
    shown = seen(validated(view.home(content(bills=[]), app_url=None)))
    assert "No timer is running." in shown and "There is nothing to approve" in shown and "You have no open tasks" in shown
    validated(view.refusal("Because."))


def test_the_view_says_since_when_and_which_days() -> None:
    timer = RunningTask(uuid4(), uuid4(), "Backups", "Acme", at(1, 8, 12), " Tape 4 ")
    shown = seen(view.home(content(timer=timer, seconds_today=11_700, seconds_week=40_500), app_url=None))
    assert "*Backups*\nAcme · since 09:12 Europe/Berlin\nTape 4\n[Stop]" in shown
    assert "Tue 1 Dec: *3:15* of 8:00 h\nThis week until then: *11:15* of 16:00 h (Europe/Berlin)." in shown
    assert "since Mon 30 Nov 23:30" in seen(view.home(content(timer=_since(at(1, 0) - timedelta(minutes=90))), app_url=None))
    later = content(timer=timer, seconds_today=11_700, seconds_week=40_500, now=NOW + timedelta(hours=2))
    assert seen(view.home(later, app_url=None)) == shown, "it does not age"


def _since(start: datetime) -> RunningTask:
    return RunningTask(uuid4(), uuid4(), "Backups", "Acme", start, "")


def test_gaps_are_times_without_an_entry_between_the_first_and_the_last() -> None:
    day, hours = (at(1, 0), at(2, 0)), (at(1, 9), at(1, 17))

    def found(*spans: tuple[datetime, datetime]) -> list[str]:
        return [f"{start:%H:%M}-{end:%H:%M}" for start, end in gaps.find(spans, day, hours)]

    whole = ["09:00-17:00"]
    assert found() == whole
    assert found((at(1, 8), at(1, 12)), (at(1, 13), at(1, 16))) == ["12:00-13:00"]
    assert found((at(1, 13), at(1, 16)), (at(1, 9), at(1, 12)), (at(1, 10), at(1, 11))) == ["12:00-13:00"]
    assert found((at(1, 9), at(1, 12)), (at(1, 12, 14), at(1, 13)), (at(1, 13, 15), at(1, 14))) == ["13:00-13:15"]
    assert found((at(1, 9), at(1, 16)), (at(1, 22), at(1, 23))) == ["16:00-17:00"], "the evening is no gap"
    assert found((at(1, 6), at(1, 7)), (at(1, 10), at(1, 17))) == ["09:00-10:00"]
    night = (at(1, 0) - timedelta(hours=2), at(1, 1))
    assert found(night) == whole and found(night, (at(1, 10), at(1, 12))) == [], "the night before does not begin the day"
    assert found((at(1, 9), at(1, 10)), (at(1, 11), at(3, 9))) == ["10:00-11:00"]


@pytest.mark.parametrize(
    ("today", "weekdays", "expected"),
    [
        (date(2026, 12, 1), {1, 2, 3, 4, 5}, date(2026, 11, 30)), (date(2026, 11, 30), {1, 2, 3, 4, 5}, date(2026, 11, 27)),
        (date(2026, 11, 29), {7}, date(2026, 11, 15)), (date(2026, 12, 1), set(), None),
        (date(2026, 11, 23), {1, 2, 3, 4, 5}, date(2026, 11, 17)),
    ],
)  # fmt: skip
def test_the_last_working_day(today: date, weekdays: set[int], expected: date | None) -> None:
    off = (date(2026, 11, 18), date(2026, 11, 22))
    calendar = WorkCalendar(BERLIN, frozenset(weekdays), time(9), time(17), 8 * 3600, reminders=False, days_off=(off,))
    assert gaps.last_working_day(today, calendar) == expected


def test_buttons_name_what_they_are_about() -> None:
    timer, task = _since(at(1, 8)), TaskSummary(uuid4(), "Backups", "Acme", url="https://app.example/tasks/1")
    shown = view.home(content(timer=timer, tasks=[task], task_count=1), app_url=None)
    assert [(button["action_id"], button["value"]) for button in buttons(shown)] == [
        ("stop_timer", str(timer.id)), ("start_timer", str(task.id)),
    ]  # fmt: skip
