"""What the answers to commands show, as models of Slack's SDK: questions, and tasks to choose from."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from slack_sdk.models.blocks import (
    ActionsBlock,
    ButtonElement,
    DateTimePickerElement,
    ExternalDataSelectElement,
    InputBlock,
    PlainTextInputElement,
    SectionBlock,
)
from slack_sdk.models.views import View

from schemas.slack.commands.likely_ends import RunningSince
from schemas.slack.typed import times
from schemas.slack.typed.parser import MAX_TITLE, NearMiss
from schemas.slack.views import TASK, TaskSummary, escape, markdown, plain, task_rows

# Slack sends these ids back with each press
RUN_COMMAND, NEW_TASK, LOG_TIME = "run_command", "new_task", "log_time"
LOG_FORM, START, NOTE = "log_form", "start", "note"
STOP_AT, CHOOSE_END, STOP_FORM, END = "stop_at", "choose_end", "stop_form", "end"
STOPS_AT = {f"{STOP_AT}_{n}" for n in (1, 2)}  # Slack wants another id for each button of a block
MAX_VALUE = 2_000  # Slack's limit of a button's value
MAX_SHOWN = 100
MAX_NOTE = 3_000  # Slack's limit of a field

Dicts = list[dict[str, Any]]


def question(near: NearMiss, text: str) -> Dicts:
    """A near miss: a button that runs the command, if it can be run, and one that opens the form of a task with this title."""
    buttons = [ButtonElement(text=plain("Create a task"), action_id=NEW_TASK, value=near.title[:MAX_TITLE])]
    if near.can_run and len(near.run.text) <= MAX_VALUE:
        run = ButtonElement(
            text=plain(f"Run /task {near.run.name}"), action_id=RUN_COMMAND, value=near.run.text, style="primary"
        )
        buttons.insert(0, run)
    return [SectionBlock(text=markdown(text)).to_dict(), ActionsBlock(elements=buttons).to_dict()]


def new_task_button(text: str, title: str) -> Dicts:
    """A text with a button that opens the form of a task with that title."""
    button = ButtonElement(text=plain("Create a task"), action_id=NEW_TASK, value=title[:MAX_TITLE])
    return [SectionBlock(text=markdown(text)).to_dict(), ActionsBlock(elements=[button]).to_dict()]


def tasks_to_log(tasks: list[TaskSummary], *, heading: str, value: Callable[[TaskSummary], str | None]) -> Dicts:
    """Tasks, each with a button that records the time on it. `value` is None for a note that is too long for a button."""

    def button(task: TaskSummary) -> dict[str, Any] | None:
        chosen = value(task)
        return None if chosen is None else ButtonElement(text=plain("Record"), action_id=LOG_TIME, value=chosen).to_dict()

    return task_rows(tasks, heading=heading, button=button)


def log_anyway(text: str, value: str) -> Dicts:
    """The refusal of a time that overlaps other entries, with a button that records it all the same."""
    button = ButtonElement(text=plain("Record it all the same"), action_id=LOG_TIME, value=value)
    return [SectionBlock(text=markdown(text)).to_dict(), ActionsBlock(elements=[button]).to_dict()]


def stop_buttons(timer: RunningSince, zone: ZoneInfo) -> ActionsBlock:
    """Buttons that stop the timer at a likely end, and one that opens the form for any other time."""
    buttons = [
        ButtonElement(
            text=plain(f"Stop at {times.clock(end, zone, now=timer.now)}"),
            action_id=f"{STOP_AT}_{n}",
            value=StopAt(timer.timer_id, end).value,
        )
        for n, (_, end) in enumerate(timer.ends(zone), 1)
    ]
    other = ButtonElement(text=plain("Another time…"), action_id=CHOOSE_END, value=str(timer.timer_id))
    return ActionsBlock(elements=[*buttons, other])


def stop_form(timer: RunningSince, zone: ZoneInfo, *, private_metadata: str) -> View:
    """The form that asks when the timer ended. Slack shows its times in the time zone of the person's device."""
    ends = timer.ends(zone)
    lines = [f"{times.clock(end, zone, now=timer.now)}: {reason}" for reason, end in ends]
    started = f"Your timer started at {times.clock(timer.start, zone, now=timer.now)}."
    field = DateTimePickerElement(action_id=END, initial_date_time=int((ends[0][1] if ends else timer.now).timestamp()))
    return View(
        type="modal",
        callback_id=STOP_FORM,
        title=plain("Stop your timer"),
        submit=plain("Stop"),
        close=plain("Cancel"),
        private_metadata=private_metadata,
        blocks=[
            SectionBlock(text=plain("\n".join([started, *lines]))),
            InputBlock(block_id=END, label=plain("When did you stop working?"), element=field),
        ],
    )


def stop_result(text: str) -> View:
    """What the form shows after the stop."""
    return View(type="modal", title=plain("Stop your timer"), close=plain("Close"), blocks=[SectionBlock(text=markdown(text))])


def log_form(start: datetime, end: datetime, zone: ZoneInfo, *, now: datetime) -> View:
    """The form that records time, with these times. Slack shows them in the time zone of the person's device."""
    select = ExternalDataSelectElement(action_id=TASK, placeholder=plain("Which task?"), min_query_length=0)
    picked = {START: start, END: end}
    fields = {name: DateTimePickerElement(action_id=name, initial_date_time=int(at.timestamp())) for name, at in picked.items()}
    note = PlainTextInputElement(action_id=NOTE, multiline=True, max_length=MAX_NOTE)
    return View(
        type="modal",
        callback_id=LOG_FORM,
        title=plain("Record time"),
        submit=plain("Record"),
        close=plain("Cancel"),
        blocks=[
            SectionBlock(text=plain(f"Without an entry: {times.span(start, end, zone, now=now)}.")),
            InputBlock(block_id=TASK, label=plain("Task"), element=select),
            InputBlock(block_id=START, label=plain("Start"), element=fields[START]),
            InputBlock(block_id=END, label=plain("End"), element=fields[END]),
            InputBlock(block_id=NOTE, label=plain("Note"), element=note, optional=True),
        ],
    )


def log_result(text: str) -> View:
    """What the form shows after it has recorded the time."""
    return View(type="modal", title=plain("Record time"), close=plain("Close"), blocks=[SectionBlock(text=markdown(text))])


@dataclass(frozen=True)
class StopAt:
    """What a button stops: one timer, at one time."""

    timer_id: UUID
    end: datetime

    @property
    def value(self) -> str:
        return f"{self.timer_id} {int(self.end.timestamp())}"

    @classmethod
    def parse(cls, value: str | None) -> "StopAt | None":
        """What a button's value says; None if it is none of these."""
        timer_id, _, end = (value or "").partition(" ")
        try:
            return cls(UUID(timer_id), datetime.fromtimestamp(int(end[:12]), UTC))
        except (ValueError, OverflowError, OSError):
            return None


def quoted(text: str) -> str:
    """What a person typed, as a part of a text in mrkdwn: escaped, and cut off if it is long."""
    shown = " ".join(text.split()).replace("`", "'")
    return escape(shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…")
