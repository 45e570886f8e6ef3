"""What Stint shows in Slack: the form, its options, lists, confirmations and nudges, in Slack's own models.

Names and titles are what people typed: they stand in plain text, or escaped, so that none of them can call a channel or pose
as a link.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from slack_sdk.models.blocks import (
    ActionsBlock,
    Block,
    ButtonElement,
    ExternalDataSelectElement,
    InputBlock,
    Option,
    PlainTextInputElement,
    PlainTextObject,
    SectionBlock,
)
from slack_sdk.models.blocks.basic_components import MarkdownTextObject
from slack_sdk.models.views import View

# what somebody does, as Slack gives it back to us
CREATE_TASK = "create_task"
TITLE, DESCRIPTION, CUSTOMER, PILLAR, TASK = "title", "description", "customer", "pillar", "task"
START_TIMER, FINISH_TASK, STOP_TIMER, KEEP_RUNNING, OPEN = "start_timer", "finish_task", "stop_timer", "keep_running", "open"

Blocks: TypeAlias = list[Block]
Modal: TypeAlias = View

LONGEST_OPTION = 75
LONGEST_DESCRIPTION = 3_000
LONGEST_SECTION = 3_000


@dataclass(frozen=True)
class Choice:
    """One thing that can be picked, by its name."""

    id: UUID
    name: str


@dataclass(frozen=True)
class Draft:
    """What a form begins with, and the channel in which it was asked for."""

    channel_id: str
    title: str = ""
    description: str = ""
    customer: Choice | None = None
    pillar: Choice | None = None


def form(draft: Draft) -> Modal:
    """The form for a new task. The pillar's block is named after the customer: with another one, what was picked is gone."""
    chosen = str(draft.customer.id) if draft.customer else None
    return View(
        type="modal",
        callback_id=CREATE_TASK,
        title=_plain("New task"),
        submit=_plain("Create"),
        close=_plain("Cancel"),
        private_metadata=json.dumps({"channel_id": draft.channel_id, "customer_id": chosen}),
        blocks=[
            InputBlock(
                block_id=TITLE,
                label=_plain("Title"),
                element=PlainTextInputElement(
                    action_id=TITLE, max_length=200, initial_value=draft.title[:200] or None, focus_on_load=True
                ),
            ),
            InputBlock(
                block_id=CUSTOMER,
                label=_plain("Customer"),
                dispatch_action=True,
                element=_select(CUSTOMER, "Whom is it for?", draft.customer),
            ),
            InputBlock(
                block_id=f"{PILLAR}-{chosen or 'none'}",
                label=_plain("Pillar"),
                optional=True,
                hint=_plain('Without one: "General Support"'),
                element=_select(PILLAR, "Which area of work?", draft.pillar),
            ),
            InputBlock(
                block_id=DESCRIPTION,
                label=_plain("Description"),
                optional=True,
                element=PlainTextInputElement(
                    action_id=DESCRIPTION,
                    multiline=True,
                    max_length=LONGEST_DESCRIPTION,
                    initial_value=draft.description[:LONGEST_DESCRIPTION] or None,
                ),
            ),
        ],
    )


def notice(text: str) -> Modal:
    """A modal that only says something."""
    return View(type="modal", title=_plain("New task"), close=_plain("Close"), blocks=[SectionBlock(text=_plain(text))])


def waiting() -> Modal:
    """The modal that opens when the form cannot be had at once."""
    return notice("One moment: Stint is getting the form ready.")


def options(choices: Iterable[Choice]) -> dict[str, Any]:
    """The answer to somebody who types into a select."""
    return {"options": [_option(choice).to_dict() for choice in choices]}


@dataclass(frozen=True)
class Shown:
    """A task as it is shown; `url` leads to it."""

    id: UUID
    title: str
    customer: str
    url: str


def created(task: Shown, *, by: str) -> tuple[str, Blocks]:
    """The confirmation: its text for notifications, and its blocks."""
    said = f"<@{by}> created {_link(task)} for {escape(task.customer)}"
    return (
        f"New task: {escape(task.title)}",
        [_section(said), ActionsBlock(elements=[_start(task.id), _finish(task.id), _open(task)])],
    )


def nudge(task: Shown, *, timer_id: UUID, hours: str) -> tuple[str, Blocks]:
    """The question to whose timer has run for long."""
    said = f"Your timer on {_link(task)} has been running for {hours}. Are you still at it?"
    buttons = [
        ButtonElement(text=_plain("Stop"), action_id=STOP_TIMER, value=str(timer_id), style="primary"),
        ButtonElement(text=_plain("Keep running"), action_id=KEEP_RUNNING, value=str(timer_id)),
    ]
    return f"Your timer has been running for {hours}.", [_section(said), ActionsBlock(elements=buttons)]


def tasks(shown: list[Shown], *, heading: str) -> list[dict[str, Any]]:
    """A list of tasks, each with a button to start its timer."""
    rows = [
        SectionBlock(text=_markdown(f"{_link(task)}\n{escape(task.customer)}"), accessory=_start(task.id)) for task in shown
    ]
    return [block.to_dict() for block in [_section(heading), *rows]]


def pick_task(heading: str) -> list[dict[str, Any]]:
    """A select over one's own tasks; picking one starts its timer."""
    return [
        SectionBlock(text=_plain(heading)).to_dict(),
        ActionsBlock(elements=[_select(TASK, "Which task?", None)]).to_dict(),
    ]


def escape(text: str) -> str:
    """The text as mrkdwn that says just that."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _link(task: Shown) -> str:
    return f"<{task.url}|{escape(task.title)}>"


def _start(task_id: UUID) -> ButtonElement:
    return ButtonElement(text=_plain("Start timer"), action_id=START_TIMER, value=str(task_id))


def _finish(task_id: UUID) -> ButtonElement:
    return ButtonElement(text=_plain("Done"), action_id=FINISH_TASK, value=str(task_id))


def _open(task: Shown) -> ButtonElement:
    return ButtonElement(text=_plain("Open"), action_id=OPEN, url=task.url)


def _select(action_id: str, placeholder: str, initial: Choice | None) -> ExternalDataSelectElement:
    return ExternalDataSelectElement(
        action_id=action_id,
        placeholder=_plain(placeholder),
        min_query_length=0,
        initial_option=_option(initial) if initial else None,
    )


def _option(choice: Choice) -> Option:
    name = choice.name if len(choice.name) <= LONGEST_OPTION else f"{choice.name[: LONGEST_OPTION - 1]}…"
    return Option(text=_plain(name), value=str(choice.id))


def _section(text: str) -> SectionBlock:
    return SectionBlock(text=_markdown(text))


def _markdown(text: str) -> MarkdownTextObject:
    return MarkdownTextObject(text=text[:LONGEST_SECTION], verbatim=True)


def _plain(text: str) -> PlainTextObject:
    return PlainTextObject(text=text, emoji=False)
