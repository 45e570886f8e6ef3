"""Buttons in messages: what a press does, what the person reads, and how the pressed message changes.

A press that is repeated gets the answer of the first one, and changes nothing again, also not what the first one has written.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack import deduplication, task_actions, views
from schemas.slack.members import Caller
from schemas.slack.payloads import BlockActions
from schemas.slack.task_actions import parse_id

BUTTONS = (views.START_TIMER, views.FINISH_TASK, views.STOP_TIMER, views.KEEP_RUNNING, views.TASK)


@dataclass(frozen=True)
class Outcome:
    """What a person reads after a press. `replaces`: the text takes the place of the pressed message, which only they see.
    `confirmation`: what the pressed confirmation of a task becomes, which others see too; None: it stays as it is."""

    text: str
    blocks: list[dict[str, Any]] | None = None
    replaces: bool = False
    confirmation: "Confirmation | None" = None


@dataclass(frozen=True)
class Confirmation:
    """A confirmation of a task in its channel. Slack shows the blocks, and the text in notifications."""

    text: str
    blocks: list[dict[str, Any]]


async def run(conn: Connection, pressed: BlockActions, caller: Caller, *, settings: Settings) -> Outcome:
    """Runs the pressed button's action for a caller with a user."""
    assert caller.user is not None
    action, by, only_customer = pressed.actions[0], caller.user, caller.only_customer
    row_id = parse_id(action.text)
    if row_id is None:
        return Outcome(task_actions.TASK_NOT_FOUND)
    match action.action_id:
        case views.FINISH_TASK:
            return await _finish(conn, row_id, pressed, caller, settings=settings)
        case views.STOP_TIMER:
            text = await task_actions.stop_timer(conn, by=by, only_customer=only_customer, timer_id=row_id)
            return Outcome(text, replaces=await is_first(conn, key(pressed, row_id)))
        case views.KEEP_RUNNING:
            first = await is_first(conn, key(pressed, row_id))
            text = await task_actions.keep_running(
                conn, row_id, by=by, settings=settings, only_customer=only_customer, again=not first
            )
            return Outcome(text, replaces=first)
        case _:
            return await _start(conn, row_id, pressed, caller, settings=settings)


async def _finish(conn: Connection, task_id: UUID, pressed: BlockActions, caller: Caller, *, settings: Settings) -> Outcome:
    assert caller.user is not None
    text, is_changed = await task_actions.complete(
        conn, task_id, by=caller.user, settings=settings, only_customer=caller.only_customer
    )
    line = f"<@{caller.slack_id}> has set the task to done."
    return Outcome(text, confirmation=_confirmation(pressed, line, is_done=True) if is_changed else None)


async def _start(conn: Connection, task_id: UUID, pressed: BlockActions, caller: Caller, *, settings: Settings) -> Outcome:
    assert caller.user is not None
    by, only_customer = caller.user, caller.only_customer
    before = await task_actions.get_running_timer(conn, by.id, only_customer=only_customer)
    text = await task_actions.start_timer(conn, task_id, by=by, settings=settings, only_customer=only_customer)
    timer = await task_actions.get_running_timer(conn, by.id, only_customer=only_customer)
    if timer is None or timer.task_id != task_id:
        return Outcome(text)
    is_started = before is None or before.id != timer.id
    line = f"<@{caller.slack_id}> has started a timer."
    shown = _confirmation(pressed, line, is_done=False) if is_started else None
    return Outcome(text, views.with_stop_button(text, timer.id), confirmation=shown)


def key(pressed: BlockActions, about: UUID | str) -> str:
    """Identifies the presses on this message that are about the same, such as one timer. Without a message: this press."""
    return f"pressed:{pressed.message_ts or pressed.trigger_id}:{about}"


def message_key(pressed: BlockActions) -> str:
    """Identifies the pressed message; if it has no id, this press."""
    channel_id = pressed.channel.id if pressed.channel else ""
    return f"message:{channel_id}:{pressed.message_ts or pressed.trigger_id}"


async def is_first(conn: Connection, press: str) -> bool:
    """Whether this is the first press with that key."""
    return await deduplication.record_once(conn, press)


def _confirmation(pressed: BlockActions, line: str, *, is_done: bool) -> Confirmation | None:
    """The pressed confirmation with the line. Its text stays: the answer to the person who pressed is only for them."""
    message = pressed.message if isinstance(pressed.message, dict) else {}
    blocks, text = message.get("blocks"), message.get("text")
    shown = views.updated_confirmation(blocks if isinstance(blocks, list) else (), line, is_done=is_done)
    return Confirmation(text if isinstance(text, str) and text else line, shown) if shown is not None else None
