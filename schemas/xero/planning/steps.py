"""The steps that a time bill may need on its way to Xero. `decide` (schemas/xero/next_step.py) chooses one at a time."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.xero.entries.entry import EntryContent
from schemas.xero.tokens import Access


class CallKind(StrEnum):
    """The calls to Xero that a bill can need."""

    renew_access = "renew_access"
    fetch_users = "fetch_users"  # the users whom a time entry can name
    find_entry = "find_entry"  # look for an entry with the bill's mark
    create_entry = "create_entry"
    update_entry = "update_entry"
    delete_entry = "delete_entry"
    fetch_entry = "fetch_entry"  # read the entry: why Xero refused to change or delete it, and what somebody has changed in it


@dataclass(frozen=True)
class Done:
    """No call is needed. The bill shows this Xero status and error, and what somebody has changed in its entry."""

    status: str
    error: str | None = None
    entry_id: str | None = None  # of the entry in Xero, if there is one
    reopen: bool = False  # the entry of a reopened bill is deleted, so the bill becomes pending


@dataclass(frozen=True)
class Wait:
    """Decide again after some time."""

    seconds: float
    retry_lookup: bool = False  # then look for the entry again, because Xero's list may show it by then


@dataclass(frozen=True)
class Call:
    """The call to make next, with its parameters."""

    kind: CallKind
    access: Access
    project_id: str = ""
    entry_id: str = ""
    content: EntryContent | None = None
    revision: int = 0
    page: int = 1
    mark: str = ""
    lost_before: datetime | None = None  # find an entry of which nothing is known: see Bill.lost_before


Step = Done | Wait | Call
