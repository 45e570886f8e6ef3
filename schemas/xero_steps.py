"""What comes next for a time bill, so that Xero agrees with it: approved, one time entry with its minutes; anything else, none.

Decided from what the bill says and what is known of its entry, one call at a time. Each call's outcome is written down before
the next is decided, so whoever is killed in between is followed by somebody who knows as much.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pydantic import ValidationError

from schemas.clients.xero import Time
from schemas.settings import Settings
from schemas.xero_connection import NOT_CONNECTED
from schemas.xero_entries import Known
from schemas.xero_tokens import Access

LONGEST_DESCRIPTION = 4000  # of the memo; the mark must never be what is cut off
LOOK_SECONDS = 2  # between two looks at somebody else's call


class Ask(StrEnum):
    """What can be asked of Xero for a bill."""

    renew = "renew"  # the access token
    users = "users"  # who can be named on time
    look = "look"  # for an entry with the bill's mark
    create = "create"
    update = "update"
    delete = "delete"
    read = "read"  # why it would not be changed or deleted


@dataclass(frozen=True)
class Bill:
    """What is billed, read under the bill's lock, and what it is mapped to."""

    id: UUID
    approved: bool
    minutes: int
    memo: str
    noon: datetime  # of its day, in the firm's zone: the same day there and in nearly every other
    email: str
    project_id: str | None
    task_id: str | None
    user_id: str | None  # of the consultant in Xero, or of the fallback
    users_read: bool  # whether Xero's users were read a short while ago
    users_asked: bool  # whether somebody is just doing so

    @property
    def mark(self) -> str:
        """What an entry in Xero is known by."""
        return f"[bill:{self.id}]"

    @property
    def description(self) -> str:
        memo = self.memo if len(self.memo) <= LONGEST_DESCRIPTION else f"{self.memo[:LONGEST_DESCRIPTION]}…"
        return f"{memo} {self.mark}".strip()


@dataclass(frozen=True)
class Settled:
    """Nothing is left to ask: what the bill says of Xero from now on. `entry_id`: it is there. `reopen`: it is gone, as an
    admin wanted."""

    status: str
    error: str | None = None
    entry_id: str | None = None
    reopen: bool = False


@dataclass(frozen=True)
class Later:
    """Not now, but in so many seconds. `look_again`: what was looked for and not found may be there by then."""

    seconds: float
    look_again: bool = False


@dataclass(frozen=True)
class Call:
    """The next call, and all that it needs to know."""

    ask: Ask
    access: Access
    project_id: str = ""
    entry_id: str = ""
    time: Time | None = None
    revision: int = 0
    page: int = 1
    mark: str = ""


Step = Settled | Later | Call


def decide(bill: Bill, known: Known, access: Access | None, settings: Settings) -> Step:
    """The next step. Pure: everything it looks at is given."""
    wanted = bill.approved and not known.withdrawing
    known = _without_old_attempts(known, settings)
    if known.busy:
        return Later(LOOK_SECONDS)
    if not wanted and not known.may_exist:
        return Settled("none", reopen=known.withdrawing)
    if wanted and _is_right(bill, known):  # also when Stint is not connected, or to another organisation by now
        return Settled("synced", known.note, known.entry_ids[0])
    if access is None:
        return Settled("not_connected" if wanted else "withdrawing", NOT_CONNECTED if not wanted else None)
    if known.may_exist and known.tenant_id != access.tenant_id:
        return _elsewhere(wanted)
    step = _wanted(bill, known, access, settings) if wanted else _unwanted(bill, known, access, settings)
    return Call(Ask.renew, access) if isinstance(step, Call) and access.token is None else step


def _elsewhere(wanted: bool) -> Settled:
    text = "It may have an entry in the Xero organisation that was connected before; connect that one again."
    return Settled("not_connected" if wanted else "withdrawing", text)


def _look(bill: Bill, known: Known, access: Access) -> Call:
    page = known.looked_pages + 1
    return Call(Ask.look, access, known.project_id or "", time=known.written, page=page, mark=bill.mark)


def _unwanted(bill: Bill, known: Known, access: Access, settings: Settings) -> Step:
    if known.unsure:
        return _look(bill, known, access)
    if known.entry_ids:
        return Call(Ask.read if known.refused else Ask.delete, access, known.project_id or "", known.entry_ids[-1])
    return _until_too_late(known, settings)


def _without_old_attempts(known: Known, settings: Settings) -> Known:
    """A creation that was looked for and not found may still be done; only after a while is it sure that it won't be."""
    if known.attempt_age is not None and not known.unsure and known.attempt_age >= settings.stint_xero_late_seconds:
        return replace(known, attempt_age=None)
    return known


def _until_too_late(known: Known, settings: Settings) -> Later:
    return Later(max(0.1, settings.stint_xero_late_seconds - (known.attempt_age or 0)), look_again=True)


def _wanted(bill: Bill, known: Known, access: Access, settings: Settings) -> Step:
    if known.unsure:
        return _look(bill, known, access)
    if len(known.entry_ids) > 1:
        return Call(Ask.delete, access, known.project_id or "", known.entry_ids[-1])
    if known.entry_ids:
        return _keep(bill, known, access)
    if not isinstance(time := _time(bill, access), Time):
        return time
    project_id = bill.project_id or ""
    if known.attempt_age is None:
        return Call(Ask.create, access, project_id, time=time, revision=known.revision + 1)
    if (known.project_id, known.written) == (project_id, time):
        # the very same request under the same key: should the first still be done, Xero knows it for the same
        return Call(Ask.create, access, project_id, time=time, revision=known.revision)
    return _until_too_late(known, settings)


def _is_right(bill: Bill, known: Known) -> bool:
    there = known.written
    return (
        there is not None
        and len(known.entry_ids) == 1
        and not known.unsure
        and (there.minutes, there.description) == (bill.minutes, bill.description)
        and abs(there.date_utc - bill.noon) < timedelta(hours=12)  # who moved it within its day in Xero meant to
    )


def _keep(bill: Bill, known: Known, access: Access) -> Step:
    """It is there, but not right. Only what is billed has to be: where it is, and in whose name, stays as it came there."""
    [entry_id] = known.entry_ids
    assert known.written is not None
    right = known.written.model_copy(update={"minutes": bill.minutes, "description": bill.description, "date_utc": bill.noon})
    if known.entry_status in ("LOCKED", "INVOICED"):
        return Settled("failed", f"Its entry in Xero is {known.entry_status.lower()} there, and says something else.", entry_id)
    return Call(Ask.read if known.refused else Ask.update, access, known.project_id or "", entry_id, time=right)


def _time(bill: Bill, access: Access) -> Time | Step:
    """The entry as it should be; or what is missing for it."""
    if bill.project_id is None:
        return Settled("not_mapped", "The customer has no project in Xero: choose one (xeroProjectId).")
    if bill.task_id is None:
        return Settled("not_mapped", "The pillar has no task in Xero: choose one (xeroTaskId).")
    if bill.user_id is None:
        if not bill.users_read:
            return Later(LOOK_SECONDS) if bill.users_asked else Call(Ask.users, access)
        return Settled(
            "not_mapped",
            f"Xero Projects knows nobody with the address {bill.email}: invite them there, or set XERO_FALLBACK_USER.",
        )
    try:
        return Time(
            user_id=bill.user_id,
            task_id=bill.task_id,
            date_utc=bill.noon,
            minutes=bill.minutes,
            description=bill.description,
        )
    except ValidationError:
        return Settled("failed", f"Xero takes entries of 1 to 59,940 minutes; this bill has {bill.minutes}.")
