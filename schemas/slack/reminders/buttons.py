"""The buttons of a reminder, and of the answer that says whether reminders are on."""

from typing import Any
from uuid import UUID

from schemas.identity import working_hours
from schemas.identity.working_hours import WorkingHoursChange
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.approvals.blocks import plain, section
from schemas.slack.typed import durations
from schemas.slack.views import STOP_TIMER

# Slack sends these ids back with each press
TURN_REMINDERS, HOW_TO_LOG = "turn_reminders", "how_to_log"


def actions(timer_id: UUID | None, *, missing: int) -> dict[str, Any]:
    """The buttons of a reminder: to stop the timer that it names, to record the missing seconds, and to get no more."""
    elements = [_button("Log time…", HOW_TO_LOG, str(missing)), _button("Turn off reminders", TURN_REMINDERS, "off")]
    if timer_id is not None:
        elements.insert(0, _button("Stop timer", STOP_TIMER, str(timer_id)) | {"style": "primary"})
    return {"type": "actions", "elements": elements}


def how_to_log(value: str | None) -> str:
    """The answer to *Log time…*: the command, with the missing time if the button has it."""
    missing = int(value) if value and value.isascii() and value.isdigit() and len(value) < 7 else 0
    typed = durations.short(missing // 60 * 60) if missing >= 60 else "1h30"
    return (
        f"Type `/task log {typed}`, and choose the task; or `/task log {typed} mail server: moved the boxes` with the task "
        "and a note. The time ends now. `/task today` shows what is recorded."
    )


async def turn(conn: Connection, user_id: UUID, *, on: bool, settings: Settings) -> tuple[str, list[dict[str, Any]]]:
    """Turns the person's reminders on or off, in their profile. Returns the answer and its blocks."""
    calendar = await working_hours.read_calendar(conn, user_id, settings=settings)
    await working_hours.change(conn, user_id, WorkingHoursChange(reminders=on), settings=settings)
    return state(on=on, already=calendar.reminders == on)


async def is_on(conn: Connection, user_id: UUID, *, settings: Settings) -> bool:
    """Whether the person gets reminders."""
    return (await working_hours.read_calendar(conn, user_id, settings=settings)).reminders


def state(*, on: bool, already: bool = False) -> tuple[str, list[dict[str, Any]]]:
    """The text whether reminders are on, with a button that changes that."""
    text = f"Your reminders are {'on' if on else 'off'}{' already' if already else ''}."
    if on:
        text += " You get one at the end of your working day if hours are missing or your timer runs, and each week a summary."
    button = _button("Turn off reminders" if on else "Turn on again", TURN_REMINDERS, "off" if on else "on")
    return text, [section(text), {"type": "actions", "elements": [button]}]


def _button(text: str, action_id: str, value: str) -> dict[str, Any]:
    return {"type": "button", "text": plain(text), "action_id": action_id, "value": value}
