"""`/task log`: a time entry that ends now, by the same function as `POST /api/time-entries`."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import Conflict, Invalid, NotFound
from schemas.hours import entry_creation
from schemas.hours.entry_creation import NewTimeEntry
from schemas.hours.entry_rules import EntryRules
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.settings import Settings
from schemas.slack.task_actions import TASK_NOT_FOUND, format_duration, get_task
from schemas.slack.typed import times
from schemas.slack.views import escape

ENTRY_NAMESPACE = UUID("6e0b7c52-3f0c-4c39-8f43-0f6a2b6f4d55")  # an entry's id is made of the command that records it
RECORDED_ALREADY = "This time is recorded already. `/task today` shows it."
TOO_LONG = "The note is longer than 10,000 characters. Shorten it, or write it in Stint."
NO_CONFIRM = "The note is too long for a button that records it all the same: shorten it."
MAX_BUTTON_VALUE = 2_000  # Slack's limit


class LogDraft(BaseModel):
    """What `log` records, once its task is known: in the value of each button that chooses one. `entry_id` is the same for all
    buttons of one command, so that they record one entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry_id: UUID
    start: datetime
    end: datetime
    note: str = ""
    task_id: UUID | None = None
    allow_overlap: bool = False

    @classmethod
    def parse(cls, value: str | None) -> "LogDraft | None":
        """The draft in a button's value; None if it is none."""
        try:
            return cls.model_validate_json(value or "")
        except ValidationError:
            return None

    def value(self, task_id: UUID, *, allow_overlap: bool = False) -> str | None:
        """The value of the button that records the draft on the task; None if the note is too long for it."""
        chosen = self.model_copy(update={"task_id": task_id, "allow_overlap": allow_overlap})
        value = json.dumps(chosen.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)
        return value if len(value) <= MAX_BUTTON_VALUE else None


@dataclass(frozen=True)
class Logged:
    """The answer; `confirm` is the value of a button that records the time although it overlaps other entries. `is_recorded`:
    the time is recorded now; `is_repeat`: the draft was recorded before."""

    text: str
    confirm: str | None = None
    is_repeat: bool = False
    is_recorded: bool = False


async def draft(conn: Connection, seconds: int, *, by: User, command: str, note: str = "") -> LogDraft:
    """A draft of that many seconds until now; `command` identifies the command that was run."""
    now: datetime = await conn.value("SELECT date_trunc('second', now(), 'UTC')")
    return LogDraft(
        entry_id=uuid5(ENTRY_NAMESPACE, f"{by.id}:{command}"), start=now - timedelta(seconds=seconds), end=now, note=note
    )


async def record(
    conn: Connection, log: LogDraft, task_id: UUID, *, by: User, settings: Settings, only_customer: UUID | None, zone: ZoneInfo
) -> Logged:
    """Records the draft on the task, once. Returns the answer to the user."""
    task = await get_task(conn, task_id, settings=settings, only_customer=only_customer)
    if task is None:
        return Logged(TASK_NOT_FOUND)
    now: datetime = await conn.value("SELECT now()")
    span = times.span(log.start, log.end, zone, now=now)
    try:
        body = NewTimeEntry(
            id=log.entry_id,
            taskId=task_id,
            startTime=log.start,
            endTime=log.end,
            notes=log.note,
            allowOverlap=log.allow_overlap,
        )
        async with conn.transaction():
            entry = await entry_creation.create(conn, body, by=by, rules=EntryRules.of(settings))
    except ValidationError:
        return Logged(TOO_LONG)
    except (Invalid, NotFound) as error:
        return Logged(error.detail)
    except Conflict as error:
        if overlaps := error.facts.get("overlaps"):
            others = "another entry" if len(overlaps) == 1 else f"{len(overlaps)} other entries"
            text = f"Nothing is recorded: {span} overlaps {others} of yours. `/task today` shows your hours."
            confirm = log.value(task_id, allow_overlap=True)
            return Logged(text if confirm else f"{text} {NO_CONFIRM}", confirm)
        taken = await conn.value("SELECT EXISTS (SELECT FROM time_entries WHERE id = %s)", (log.entry_id,))
        return Logged(RECORDED_ALREADY if taken else error.detail, is_repeat=bool(taken))
    noted = ", with your note" if entry.notes else ""
    text = f"{format_duration(entry.duration)} are recorded on {escape(task.title)}{noted}: {span}."
    return Logged(text, is_recorded=True)
