"""The view of a person's App Home. It stays true as time passes: it names when the timer was started, and which days are meant.

Slack allows 100 blocks, 3,000 characters in a text, and 250 kB in all. The blocks are plain dicts, as in lists; a test compares
them with the models of Slack's SDK.
"""

import hashlib
import json
from datetime import datetime
from typing import Any

from schemas.slack.approvals import blocks
from schemas.slack.approvals.blocks import plain, section, shortened
from schemas.slack.home.content import Content, RunningTask
from schemas.slack.home.gaps import Span
from schemas.slack.typed import times
from schemas.slack.views import START_TIMER, STOP_TIMER, TASK, TaskSummary, escape

# Slack sends these ids back with each press
SHOW_BILLS, LOG_GAP = "show_bills", "log_gap"
MAX_NAME, MAX_NOTES = 200, 300
MOST_GAPS, MOST_GROUPS = 5, 3
NOT_FOR_YOU = "*Stint has nothing to show you here.*"

Dicts = list[dict[str, Any]]


def refusal(reason: str) -> dict[str, Any]:
    """The Home of a person who may not use Stint, with the reason."""
    return _home([section(NOT_FOR_YOU), {"type": "section", "text": plain(reason)}])


def home(content: Content, *, app_url: str | None, note: str = "", noted_at: datetime | None = None) -> dict[str, Any]:
    """The Home of a person; `note` is the result of their last press, in mrkdwn."""
    shown: Dicts = []
    if note and noted_at is not None:
        shown.append(section(f"{times.clock(noted_at, content.zone, now=content.now)}: {note}"))
    shown += [*_timer(content), *_hours(content), *_gaps(content)]
    if content.bills is not None:
        shown += [_header("Time bills to approve"), *_bills(content, app_url)]
    return _home([*shown, *_tasks(content)])


def content_hash(view: dict[str, Any]) -> bytes:
    """The same for the same view, another for any other."""
    return hashlib.sha256(json.dumps(view, sort_keys=True).encode()).digest()


def _home(shown: Dicts) -> dict[str, Any]:
    return {"type": "home", "blocks": shown}


def _timer(content: Content) -> Dicts:
    timer = content.timer
    found: Dicts = [_header("Your timer")]
    buttons: Dicts = []
    if timer is None:
        found.append(section("No timer is running."))
    else:
        found += _running(timer, content)
        stop = {"type": "button", "text": plain("Stop"), "action_id": STOP_TIMER, "value": str(timer.id), "style": "primary"}
        buttons.append(stop)
    if content.tasks:
        select = {
            "type": "external_select",
            "action_id": TASK,
            "placeholder": plain("Start on…" if timer is None else "Switch to…"),
            "min_query_length": 0,
        }
        buttons.append(select)
    if buttons:
        # another id for another timer, so that Slack does not go on showing the task that was picked
        block_id = f"timer-{timer.id if timer else 'none'}"
        found.append({"type": "actions", "block_id": block_id, "elements": buttons})
    return found


def _running(timer: RunningTask, content: Content) -> Dicts:
    since = times.clock(timer.start_time, content.zone, now=content.now)
    found = [section(f"*{escape(shortened(timer.title, MAX_NAME))}*\n{_name(timer.customer)} · since {since}")]
    if timer.notes.strip():
        found.append({"type": "context", "elements": [plain(shortened(timer.notes.strip(), MAX_NOTES))]})
    return found


def _hours(content: Content) -> Dicts:
    today = content.now.astimezone(content.zone).date()
    running = " The running timer is not counted yet." if content.timer is not None else ""
    text = (
        f"{times.day(today)}: *{format_hours(content.seconds_today)}* of {format_hours(content.plan.today)} h\n"
        f"This week until then: *{format_hours(content.seconds_week)}* of {format_hours(content.plan.week)} h"
        f" ({content.zone.key}).{running}"
    )
    return [_header("Your hours"), section(text)]


def _gaps(content: Content) -> Dicts:
    if content.last_day is None or not content.gaps:
        return []
    found = [_header(f"Gaps of {times.day(content.last_day)}"), *(_gap(gap, content) for gap in content.gaps[:MOST_GAPS])]
    if (more := len(content.gaps) - MOST_GAPS) > 0:
        found.append(section(f"… and {more} more."))
    return found


def _gap(gap: Span, content: Content) -> dict[str, Any]:
    start, end = gap
    length, zone = format_hours(int((end - start).total_seconds())), content.zone
    value = f"{int(start.timestamp())} {int(end.timestamp())}"
    button = {"type": "button", "text": plain("Log…"), "action_id": LOG_GAP, "value": value}
    text = f"{start.astimezone(zone):%H:%M}–{end.astimezone(zone):%H:%M} {zone.key}: {length} h without an entry"
    return section(text) | {"accessory": button}


def _bills(content: Content, app_url: str | None) -> Dicts:
    bills = content.bills or []
    shown, left = blocks.first_groups(bills, MOST_GROUPS, app_url=app_url)
    if left:
        button = {"type": "button", "text": plain("Show all"), "action_id": SHOW_BILLS, "value": "all"}
        shown.append(section(f"… and {left:,} more.") | {"accessory": button})
    return shown


def _tasks(content: Content) -> Dicts:
    others = " other" if content.timer is not None else ""
    if not content.tasks:
        return [_header("Your open tasks"), section(f"You have no{others} open tasks. `/task` creates one.")]
    rows = [_header("Your open tasks"), *map(_task, content.tasks)]
    if (more := content.task_count - len(content.tasks)) > 0:
        rows.append(section(f"… and {more:,} more: `/task list` or `/task start` with a word of the title."))
    return rows


def _task(task: TaskSummary) -> dict[str, Any]:
    button = {"type": "button", "text": plain("Start"), "action_id": START_TIMER, "value": str(task.id)}
    link = f"<{task.url}|{escape(shortened(task.title, MAX_NAME))}>"
    return section(f"{link}\n{_name(task.customer)}") | {"accessory": button}


def _name(text: str) -> str:
    return escape(shortened(text, MAX_NAME))


def _header(text: str) -> dict[str, Any]:
    return {"type": "header", "text": plain(text)}


def format_hours(seconds: int) -> str:
    """Recorded time in hours and whole minutes: 5400 is "1:30"."""
    minutes = seconds // 60
    return f"{minutes // 60:,}:{minutes % 60:02d}"
