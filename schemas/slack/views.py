"""What Stint shows in Slack, most of it as models of Slack's SDK: the form, its options, lists, confirmations and nudges.

Users typed the names and titles. So they are shown as plain text or escaped: none of them can notify a channel or look like
another link.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ContextBlock,
    ExternalDataSelectElement,
    InputBlock,
    Option,
    PlainTextInputElement,
    PlainTextObject,
    SectionBlock,
)
from slack_sdk.models.blocks.basic_components import MarkdownTextObject
from slack_sdk.models.views import View

# Slack sends these ids back with each interaction
CREATE_TASK = "create_task"
TITLE, DESCRIPTION, CUSTOMER, PILLAR, TASK = "title", "description", "customer", "pillar", "task"
START_TIMER, FINISH_TASK, STOP_TIMER, KEEP_RUNNING, OPEN = "start_timer", "finish_task", "stop_timer", "keep_running", "open"

Blocks: TypeAlias = list[Block]
AnyBlocks: TypeAlias = Blocks | list[dict[str, Any]]
Modal: TypeAlias = View

MAX_OPTION_LENGTH = 75
MAX_DESCRIPTION_LENGTH = 3_000
MAX_SECTION_LENGTH = 3_000
MAX_BLOCKS_LENGTH = 10_000  # of all blocks as JSON: Slack documents no limit, and refuses somewhat longer ones
LEFT_OUT = "… and {count} more, which do not fit here. Type words of the title to find them."


@dataclass(frozen=True)
class Choice:
    """One option of a select."""

    id: UUID
    name: str


@dataclass(frozen=True)
class Draft:
    """The initial values of a form, and the channel where it was opened."""

    channel_id: str
    title: str = ""
    description: str = ""
    customer: Choice | None = None
    pillar: Choice | None = None


def task_form(draft: Draft) -> Modal:
    """The form for a new task. The id of the pillar's block contains the customer's id, so that Slack clears the selected
    pillar when the customer changes."""
    customer_id = str(draft.customer.id) if draft.customer else None
    return View(
        type="modal",
        callback_id=CREATE_TASK,
        title=plain("New task"),
        submit=plain("Create"),
        close=plain("Cancel"),
        private_metadata=json.dumps({"channel_id": draft.channel_id, "customer_id": customer_id}),
        blocks=[
            InputBlock(
                block_id=TITLE,
                label=plain("Title"),
                element=PlainTextInputElement(
                    action_id=TITLE, max_length=200, initial_value=draft.title[:200] or None, focus_on_load=True
                ),
            ),
            InputBlock(
                block_id=CUSTOMER,
                label=plain("Customer"),
                dispatch_action=True,
                element=_select(CUSTOMER, "Which customer?", draft.customer),
            ),
            InputBlock(
                block_id=f"{PILLAR}-{customer_id or 'none'}",
                label=plain("Pillar"),
                optional=True,
                hint=plain('Default: "General Support"'),
                element=_select(PILLAR, "Which area of work?", draft.pillar),
            ),
            InputBlock(
                block_id=DESCRIPTION,
                label=plain("Description"),
                optional=True,
                element=PlainTextInputElement(
                    action_id=DESCRIPTION,
                    multiline=True,
                    max_length=MAX_DESCRIPTION_LENGTH,
                    initial_value=draft.description[:MAX_DESCRIPTION_LENGTH] or None,
                ),
            ),
        ],
    )


def notice(text: str, *, title: str = "New task") -> Modal:
    """A modal that only shows a text."""
    return View(type="modal", title=plain(title), close=plain("Close"), blocks=[SectionBlock(text=plain(text))])


def loading() -> Modal:
    """The modal that opens if the form is not ready in time."""
    return notice("One moment: Stint is preparing the form.")


@dataclass(frozen=True)
class TaskSummary:
    """A task as Slack shows it; `url` is its page in the web application."""

    id: UUID
    title: str
    customer: str
    url: str


def task_created(task: TaskSummary, *, by: str) -> tuple[str, Blocks]:
    """The confirmation of a new task: its text for notifications, and its blocks. `by` is the creator's Slack user id."""
    text = f"<@{by}> created {_link(task)} for {escape(task.customer)}"
    return (
        f"New task: {escape(task.title)}",
        [_section(text), ActionsBlock(elements=[_start_button(task.id), _done_button(task.id), _open_button(task)])],
    )


def updated_confirmation(blocks: Sequence[Any], line: str, *, is_done: bool) -> list[dict[str, Any]] | None:
    """The blocks of the confirmation of a task, after a press: with that line, and without *Done* if the task is done. None if
    `blocks` are those of another message."""
    text, task_id, url = None, None, None
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "section":
            text = block.get("text")
        elif isinstance(block, dict) and block.get("type") == "actions":
            task_id, url = (_of_button(block, name, field) for name, field in ((START_TIMER, "value"), (OPEN, "url")))
    if not isinstance(text, dict) or not all(isinstance(value, str) for value in (text.get("text"), task_id, url)):
        return None
    actions = [_button("Start timer", START_TIMER, value=task_id)]
    actions += [] if is_done else [_button("Done", FINISH_TASK, value=task_id)]
    actions.append(_button("Open", OPEN, url=url))
    shown = [_section(text["text"]), ContextBlock(elements=[markdown(line)]), ActionsBlock(elements=actions)]
    try:
        return [block.to_dict() for block in shown]
    except SlackObjectFormationError:  # a value that is longer than Slack allows, for example
        return None


def _of_button(actions: dict[str, Any], action_id: str, field: str) -> Any:
    """A field of the button with that id; None if there is none."""
    elements = actions.get("elements")
    for button in elements if isinstance(elements, list) else ():
        if isinstance(button, dict) and button.get("action_id") == action_id:
            return button.get(field)
    return None


def with_stop_button(text: str, timer_id: UUID) -> list[dict[str, Any]]:
    """The answer to a person whose timer runs now, with a button that stops it."""
    button = _button("Stop", STOP_TIMER, value=str(timer_id))
    return [block.to_dict() for block in (_section(text), ActionsBlock(elements=[button]))]


def task_preview(task: TaskSummary) -> dict[str, Any]:
    """The preview of a link to the task."""
    return {"blocks": [{"type": "section", "text": _markdown_dict(f"*{_link(task)}*\n{escape(task.customer)}")}]}


def timer_nudge(task: TaskSummary, *, timer_id: UUID, hours: str, ends: Block) -> tuple[str, Blocks]:
    """The nudge for a timer that has run for hours: its text for notifications, and its blocks. `ends` are the buttons that
    stop it at an earlier time."""
    text = f"Your timer on {_link(task)} has been running for {hours}. Are you still working on it?"
    buttons = [
        ButtonElement(text=plain("Stop"), action_id=STOP_TIMER, value=str(timer_id), style="primary"),
        ButtonElement(text=plain("Keep running"), action_id=KEEP_RUNNING, value=str(timer_id)),
    ]
    return f"Your timer has been running for {hours}.", [_section(text), ActionsBlock(elements=buttons), ends]


def task_list(tasks: list[TaskSummary], *, heading: str) -> list[dict[str, Any]]:
    """A list of tasks, each with a button to start its timer."""
    return task_rows(
        tasks,
        heading=heading,
        button=lambda task: {
            "type": "button",
            "text": _plain_dict("Start timer"),
            "action_id": START_TIMER,
            "value": str(task.id),
        },
    )


def task_rows(
    tasks: list[TaskSummary], *, heading: str, button: Callable[[TaskSummary], dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """A list of tasks, each with its button; None: without one. If Slack would refuse all of them as too long, the list has as
    many as fit, and says how many are left out."""
    rows: list[dict[str, Any]] = []
    length = len(heading)
    for number, task in enumerate(tasks):
        row: dict[str, Any] = {"type": "section", "text": _markdown_dict(f"{_link(task)}\n{escape(task.customer)}")}
        if (accessory := button(task)) is not None:
            row["accessory"] = accessory
        length += len(json.dumps(row))
        if length > MAX_BLOCKS_LENGTH and rows:
            rows.append({"type": "section", "text": _plain_dict(LEFT_OUT.format(count=len(tasks) - number))})
            break
        rows.append(row)
    return [{"type": "section", "text": _markdown_dict(heading)}, *rows]


def task_picker(heading: str) -> list[dict[str, Any]]:
    """A select with the user's own tasks; picking one starts its timer."""
    select = {
        "type": "external_select",
        "action_id": TASK,
        "placeholder": _plain_dict("Which task?"),
        "min_query_length": 0,
    }
    return [{"type": "section", "text": _plain_dict(heading)}, {"type": "actions", "elements": [select]}]


def escape(text: str) -> str:
    """The text escaped for Slack's mrkdwn."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _link(task: TaskSummary) -> str:
    return f"<{task.url}|{escape(task.title)}>"


def _start_button(task_id: UUID) -> ButtonElement:
    return _button("Start timer", START_TIMER, value=str(task_id))


def _done_button(task_id: UUID) -> ButtonElement:
    return _button("Done", FINISH_TASK, value=str(task_id))


def _open_button(task: TaskSummary) -> ButtonElement:
    return _button("Open", OPEN, url=task.url)


def _button(label: str, action_id: str, **more: Any) -> ButtonElement:
    return ButtonElement(text=plain(label), action_id=action_id, **more)


def _select(action_id: str, placeholder: str, initial: Choice | None) -> ExternalDataSelectElement:
    return ExternalDataSelectElement(
        action_id=action_id,
        placeholder=plain(placeholder),
        min_query_length=0,
        initial_option=_option(initial) if initial else None,
    )


def _option(choice: Choice) -> Option:
    return Option(text=plain(_shortened(choice.name)), value=str(choice.id))


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_OPTION_LENGTH else f"{name[: MAX_OPTION_LENGTH - 1]}…"


def _section(text: str) -> SectionBlock:
    return SectionBlock(text=markdown(text))


def markdown(text: str) -> MarkdownTextObject:
    """A text in Slack's mrkdwn, at most as long as a section may be."""
    return MarkdownTextObject(text=text[:MAX_SECTION_LENGTH], verbatim=True)


def plain(text: str) -> PlainTextObject:
    """A text that is shown as it is."""
    return PlainTextObject(text=text, emoji=False)


def _markdown_dict(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text[:MAX_SECTION_LENGTH], "verbatim": True}


def _plain_dict(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}
