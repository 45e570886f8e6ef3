"""The next step that makes Xero agree with a time bill.

An approved bill has exactly one time entry in Xero, with the bill's minutes. A bill that is not approved has none, and a bill
of 0 minutes has none.

`decide` is a pure function of the bill and of what Stint knows of its entry. It plans one call at a time. The result of each
call is committed before the next step is decided, so after a crash the next attempt continues with the same knowledge.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from schemas.settings import Settings
from schemas.xero.connection import NOT_CONNECTED
from schemas.xero.differences.content import is_same_day, sentence
from schemas.xero.entries.entry import EntryContent
from schemas.xero.entry_records import EntryRecord
from schemas.xero.planning import certainty, unknown_entries
from schemas.xero.planning.steps import Call, CallKind, Done, Step, Wait
from schemas.xero.tokens import Access

MAX_MEMO_LENGTH = 4000  # a longer memo is cut, so that Xero does not cut off the mark, which comes after it
ELSEWHERE = "another Xero organisation: connect that one again, or choose one of the connected organisation"
NO_USER = "Xero Projects has no user with the address"
EARLIER = "the Xero organisation that was connected before"
MAX_MINUTES = 59_940  # of one entry in Xero
RETRY_SECONDS = 2  # between two checks whether another message's call has ended
READ_SECONDS = 3600.0  # Stint writes to an entry without reading it first if it has read it within this time


@dataclass(frozen=True)
class Bill:
    """A locked bill, with what it is mapped to in Xero."""

    id: UUID
    approved: bool
    minutes: int
    memo: str
    noon: datetime  # of the bill's date in the firm's time zone: noon is on the same date in nearly every other zone, too
    email: str
    project_id: str | None
    task_id: str | None
    user_id: str | None  # Xero's id of the consultant, or of the fallback user
    users_fetched: bool  # whether Xero's users were fetched recently
    users_fetch_running: bool  # whether another call is fetching them now
    users_fetched_at: float = 0  # when the last read of Xero's users began, in seconds since 1970
    project_elsewhere: bool = False  # the project is in another organisation than the connected one
    task_elsewhere: bool = False
    lost_before: datetime | None = None  # Postgres may have lost what was known of its entry before that: it was restored

    @property
    def mark(self) -> str:
        """The end of the description, by which Stint finds the bill's entry in Xero."""
        return f"[bill:{self.id}]"

    @property
    def description(self) -> str:
        memo = self.memo if len(self.memo) <= MAX_MEMO_LENGTH else f"{self.memo[:MAX_MEMO_LENGTH]}…"
        return f"{memo} {self.mark}".strip()


def decide(bill: Bill, record: EntryRecord, access: Access | None, settings: Settings, *, no_access: str | None = None) -> Step:
    """The next step for the bill.

    `access` is None if Stint is not connected to Xero, or has no access any more. In the second case `no_access` is the reason.
    """
    needs_entry = bill.approved and bill.minutes > 0 and not record.withdrawing
    if certainty.has_certainly_failed(record, settings):
        record = replace(record, create_attempted_at=None)
    if record.claimed_by_other:
        return Wait(RETRY_SECONDS)
    if not needs_entry and not record.may_exist:
        return Done("none", reopen=record.withdrawing)
    in_doubt = record.recheck or _may_be_replaced(bill, record, settings)
    to_be_read = in_doubt and access is not None and record.tenant_id == access.tenant_id
    # This comes before the checks of the access: a correct bill stays so while Stint is disconnected, too.
    if needs_entry and not to_be_read and (done := _settled(bill, record, settings)) is not None:
        return done
    if access is None:
        return Done("not_connected", no_access) if needs_entry else Done("withdrawing", no_access or NOT_CONNECTED)
    if record.may_exist and record.tenant_id != access.tenant_id:
        error = f"It may have an entry in {EARLIER}; connect that one again."
        return Done("not_connected" if needs_entry else "withdrawing", error)
    ensure = _ensure_entry if needs_entry else _ensure_no_entry
    step = ensure(bill, record, access, settings)
    if isinstance(step, Call) and access.token is None:
        return Call(CallKind.renew_access, access)
    return step


def _settled(bill: Bill, record: EntryRecord, settings: Settings) -> Done | None:
    """The outcome for a bill that needs no call, although it must have an entry. None: the bill may need a call.

    Such a bill has exactly one entry, and what Stint knows of it is certain. Either the entry is correct, or somebody has
    changed or deleted it in Xero: then nothing happens until an admin decides.
    """
    if record.content is None or len(record.entry_ids) != 1 or record.outcome_unknown or record.delete_attempted_at is not None:
        return None
    if record.difference is not None and not record.overwrite and not record.accepted:
        error = sentence(record.content, record.difference, record.entry_status, settings.stint_timezone)
        return Done("differs", error, record.entry_ids[0])
    if record.accepted or (record.difference is None and _is_correct(bill, record.content)):
        # reopen_error: the bill could not be reopened, because its entry is invoiced; the bill stays approved and correct
        return Done("synced", record.reopen_error, record.entry_ids[0])
    return None


def _is_correct(bill: Bill, content: EntryContent) -> bool:
    """Whether the entry has the bill's minutes, description and day."""
    is_same = (content.minutes, content.description) == (bill.minutes, bill.description)
    return is_same and is_same_day(bill.noon, content.date_utc)


def _ensure_entry(bill: Bill, record: EntryRecord, access: Access, settings: Settings) -> Step:
    """The next step until the bill has exactly one correct entry."""
    if record.outcome_unknown:
        return _find(bill, record, access, settings)
    if len(record.entry_ids) > 1:
        return Call(CallKind.delete_entry, access, record.project_id or "", record.entry_ids[-1])
    if record.entry_ids and record.delete_attempted_at is not None:
        return _fetch_once_certain(record, access, settings)
    if record.entry_ids:
        replaced = _may_be_replaced(bill, record, settings)
        look = _look_for_unknown(bill, record, access, record.content, settings) if replaced else None
        return look or _update(bill, record, access)
    content = _content(bill, record, access, settings)
    if not isinstance(content, EntryContent):
        return content
    if (look := _look_for_unknown(bill, record, access, content, settings)) is not None:
        return look
    project_id = bill.project_id or ""
    if record.create_attempted_at is None:
        revision = unknown_entries.next_revision(bill.lost_before, record)
        return Call(CallKind.create_entry, access, project_id, content=content, revision=revision)
    if (record.project_id, record.content) == (project_id, content) and certainty.is_key_remembered(record, settings):
        # the same request under the same Idempotency-Key: if Xero still executes the first one, it recognizes the second
        return Call(CallKind.create_entry, access, project_id, content=content, revision=record.revision)
    return _wait_for_late_create(record, settings)


def _ensure_no_entry(bill: Bill, record: EntryRecord, access: Access, settings: Settings) -> Step:
    """The next step until the bill certainly has no entry."""
    if record.outcome_unknown:
        return _find(bill, record, access, settings)
    if record.entry_ids:
        return _delete(record, access)
    return _wait_for_late_create(record, settings)


def _fetch_once_certain(record: EntryRecord, access: Access, settings: Settings) -> Step:
    """Reads the entry when no delete request for it can be executed any more; until then, a wait.

    The step for an entry that a delete request was sent for, and that the bill needs again. Earlier, the entry might be deleted
    after it was read. Then it is either there and stays, or is deleted, and the bill gets another one.
    """
    if (seconds := certainty.seconds_until_deleted(record, settings)) > 0:
        return Wait(max(0.1, seconds))
    return Call(CallKind.fetch_entry, access, record.project_id or "", record.entry_ids[-1])


def _delete(record: EntryRecord, access: Access) -> Call:
    """Deletes one entry of the bill. If Xero has refused that, it reads the entry instead, to learn why."""
    kind = CallKind.fetch_entry if record.refused else CallKind.delete_entry
    return Call(kind, access, record.project_id or "", record.entry_ids[-1])


def _find(bill: Bill, record: EntryRecord, access: Access, settings: Settings) -> Call | Wait:
    """The call that looks for the entry in Xero's list, one page at a time.

    After a restore of Postgres, it is a wait until the list is certain: until it shows all entries that Stint has created, and
    none that Stint has deleted.
    """
    if (seconds := _seconds_until_look(bill, record, settings) or 0) > 0:
        return Wait(max(0.1, seconds))
    page = record.searched_pages + 1
    return Call(CallKind.find_entry, access, record.project_id or "", content=record.content, page=page, mark=bill.mark)


def _may_be_replaced(bill: Bill, record: EntryRecord, settings: Settings) -> bool:
    """Whether the entry is missing in Xero, and another one may exist that Postgres has lost in a restore."""
    if record.difference is None or not record.difference.is_deletion or record.overwrite:
        return False
    return _seconds_until_look(bill, record, settings) is not None


def _seconds_until_look(bill: Bill, record: EntryRecord, settings: Settings) -> float | None:
    """Seconds until a look for a lost entry is proof. None: no entry can be lost."""
    return unknown_entries.seconds_until_look(bill.lost_before, record, proof_seconds=certainty.proof_seconds(settings))


def _look_for_unknown(
    bill: Bill, record: EntryRecord, access: Access, content: EntryContent | None, settings: Settings
) -> Call | Wait | None:
    """The look for an entry that Postgres may have lost in a restore, or the wait until such a look is proof. None: no entry
    can be lost."""
    if _seconds_until_look(bill, record, settings) is None:
        return None
    known = record if record.may_exist else replace(record, project_id=bill.project_id)
    look = _find(bill, replace(known, content=content), access, settings)
    return replace(look, lost_before=bill.lost_before) if isinstance(look, Call) else look


def _wait_for_late_create(record: EntryRecord, settings: Settings) -> Wait:
    """A wait until a look for the entry of the create request is proof. After it the entry is looked for again."""
    assert record.create_attempted_at is not None
    seconds = certainty.proof_seconds(settings) - record.seconds_since(record.create_attempted_at)
    return Wait(max(0.1, seconds), retry_lookup=True)


def _update(bill: Bill, record: EntryRecord, access: Access) -> Step:
    """The step that corrects an existing entry.

    Only minutes, description and day are corrected. Project, task and user stay as they were when the entry was created.

    The entry is read before it is written, so that no change that somebody has made in Xero is overwritten unnoticed. It is not
    read if Stint has read it within READ_SECONDS, or if an admin has chosen to overwrite such a change.
    """
    [entry_id] = record.entry_ids
    assert record.content is not None
    fetch = Call(CallKind.fetch_entry, access, record.project_id or "", entry_id)
    if record.recheck or (record.difference is not None and record.difference.is_deletion):
        return fetch
    correct = record.content.model_copy(
        update={"minutes": bill.minutes, "description": bill.description, "date_utc": bill.noon}
    )
    if record.entry_status in ("LOCKED", "INVOICED"):
        return Done("failed", f"Its entry in Xero differs from the bill, and is {record.entry_status.lower()} there.", entry_id)
    was_read = record.entry_read_at is not None and record.seconds_since(record.entry_read_at) < READ_SECONDS
    if record.refused or not (was_read or record.overwrite):
        return fetch
    return Call(CallKind.update_entry, access, record.project_id or "", entry_id, content=correct)


def _content(bill: Bill, record: EntryRecord, access: Access, settings: Settings) -> EntryContent | Step:
    """The content of the entry to create. If something for it is missing, the step to take instead."""
    if bill.project_id is None:
        return Done("not_mapped", "The customer has no project in Xero: choose one (xeroProjectId).")
    if bill.project_elsewhere:
        return Done("not_mapped", f"The customer's project is in {ELSEWHERE} (xeroProjectId).")
    if bill.task_id is None:
        return Done("not_mapped", "The pillar has no task in Xero: choose one (xeroTaskId).")
    if bill.task_elsewhere:
        return Done("not_mapped", f"The pillar's task is in {ELSEWHERE} (xeroTaskId).")
    may_be_removed = record.user_refused_at is not None and bill.users_fetched_at <= record.user_refused_at.timestamp()
    if may_be_removed or (bill.user_id is None and not bill.users_fetched):
        return Wait(RETRY_SECONDS) if bill.users_fetch_running else Call(CallKind.fetch_users, access)
    if bill.user_id is None:
        fallback = settings.xero_fallback_user
        also = f", or {fallback} (XERO_FALLBACK_USER)" if fallback else ", or set XERO_FALLBACK_USER"
        return Done("not_mapped", f"{NO_USER} {bill.email}: invite them there{also}.")
    if bill.minutes > MAX_MINUTES:
        return Done("failed", f"Xero takes entries of 1 to {MAX_MINUTES:,} minutes; this bill has {bill.minutes}.")
    return EntryContent(
        user_id=bill.user_id,
        task_id=bill.task_id,
        date_utc=bill.noon,
        minutes=bill.minutes,
        description=bill.description,
    )
