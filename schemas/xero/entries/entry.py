"""A time entry in Xero. Modules that only compare or store entries import this, not the client, whose libraries are large."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

PAGE_SIZE = 500  # Xero's maximum


class EntryContent(BaseModel):
    """The fields of a time entry that Stint writes: `minutes` of a user for a task, at a moment of the day that they are
    for. People can give an entry a duration and a time that Stint would not."""

    model_config = ConfigDict(frozen=True)

    user_id: str
    task_id: str
    date_utc: datetime
    minutes: int
    description: str


@dataclass(frozen=True)
class Entry:
    """A time entry in Xero; `status` is ACTIVE, LOCKED or INVOICED."""

    id: str
    content: EntryContent
    status: str


@dataclass(frozen=True)
class EntryPage:
    """A page of a project's time entries, and whether it is the last."""

    entries: list[Entry]
    last: bool
