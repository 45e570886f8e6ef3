"""The next step for a bill, from the bill and the record of its entry: every case, without Xero or Postgres."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas.settings import Settings
from schemas.xero.bill_calls import known_after, known_after_failure
from schemas.xero.bill_sync import known_before
from schemas.xero.client_errors import DoesNotExist, OutcomeUnknown, RateLimited
from schemas.xero.differences.content import Difference
from schemas.xero.entries.entry import Entry, EntryContent, EntryPage
from schemas.xero.entry_records import EntryRecord
from schemas.xero.next_step import Bill, decide
from schemas.xero.planning.steps import Call, CallKind, Done, Step, Wait
from schemas.xero.tokens import Access

SETTINGS = Settings(
    database_url="",
    secret_key="0123456789abcdef",
    stint_xero_call_seconds=10,
    stint_xero_late_seconds=120,
    stint_xero_lag_seconds=60,
)
EXECUTION_SECONDS = 140  # after its start a call is not executed any more: 2 × 10 + 120
PROOF_SECONDS = 200  # a look that began that long after a create request is proof: 2 × 10 + 120 + 60
ACCESS = Access("tenant", "token")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BILL = Bill(UUID(int=1), True, 60, "memo", NOON, "jo@example.com", "project", "task", "user", True, False)
TIME = EntryContent(user_id="user", task_id="task", date_utc=NOON, minutes=60, description=f"memo {BILL.mark}")
NOTHING_KNOWN = EntryRecord()
EXISTING = EntryRecord(
    tenant_id="tenant", project_id="project", entry_ids=("entry",), content=TIME, entry_status="ACTIVE", revision=1
)
SENT = NOON - timedelta(seconds=3)
LOST = EntryRecord(
    read_at=NOON,
    tenant_id="tenant",
    project_id="project",
    content=TIME,
    first_attempted_at=SENT,
    create_attempted_at=SENT,
    outcome_unknown=True,
    revision=1,
)
NOT_FOUND = replace(LOST, outcome_unknown=False, looked_at=NOON)
PENDING = replace(BILL, approved=False)


def not_found(*, sent: float, looked: float, first: float | None = None) -> EntryRecord:
    """The record of a create request that was sent, and whose entry was looked for in vain, that many seconds ago."""
    first_sent, last_sent, last_looked = (NOON - timedelta(seconds=ago) for ago in (first or sent, sent, looked))
    return replace(NOT_FOUND, first_attempted_at=first_sent, create_attempted_at=last_sent, looked_at=last_looked)


def next_step(bill: Bill = BILL, record: EntryRecord = NOTHING_KNOWN, access: Access | None = ACCESS) -> Step:
    return decide(bill, record, access, SETTINGS)


def kind_of(step: Step) -> CallKind:
    assert isinstance(step, Call), step
    return step.kind


def test_an_approved_bill_without_an_entry_is_created_under_a_new_key() -> None:
    created = next_step(record=EntryRecord(revision=4))
    assert isinstance(created, Call) and (created.kind, created.content, created.revision) == (CallKind.create_entry, TIME, 5)


def test_after_a_lost_answer_the_entry_is_looked_for_first() -> None:
    for bill, record in ((BILL, LOST), (PENDING, LOST), (BILL, replace(LOST, withdrawing=True))):
        assert kind_of(next_step(bill, record)) is CallKind.find_entry


def test_an_entry_that_was_not_found_is_created_again_under_the_same_key_only_with_the_same_content() -> None:
    again = next_step(record=NOT_FOUND)
    assert isinstance(again, Call) and (again.kind, again.revision) == (CallKind.create_entry, 1)
    assert next_step(replace(BILL, task_id="another"), NOT_FOUND) == Wait(PROOF_SECONDS - 3, retry_lookup=True)


@pytest.mark.parametrize("throttled", [130, 200, 3600])
def test_a_look_that_was_too_early_proves_nothing_however_long_ago_it_was(throttled: float) -> None:
    """The answer of a create was lost, the list did not show its entry yet, and then every call was refused for a while."""
    record = not_found(sent=throttled + 3, looked=throttled)
    step = next_step(record=record)
    same_key = isinstance(step, Call) and (step.kind, step.revision) == (CallKind.create_entry, 1)
    assert same_key if throttled == 130 else step == Wait(max(0.1, PROOF_SECONDS - throttled - 3), retry_lookup=True)
    # for a bill that is reopened, or mapped to another task, meanwhile
    for bill, other in ((BILL, replace(record, withdrawing=True)), (replace(BILL, task_id="another"), record)):
        assert next_step(bill, other) == Wait(max(0.1, PROOF_SECONDS - throttled - 3), retry_lookup=True)


@pytest.mark.parametrize(("before", "is_proof"), [(PROOF_SECONDS - 1, False), (PROOF_SECONDS, True)])
def test_a_create_is_forgotten_after_a_look_that_began_late_enough(before: float, is_proof: bool) -> None:
    record = not_found(sent=before + 400, looked=400)
    step = next_step(record=record)
    is_new = isinstance(step, Call) and (step.kind, step.revision) == (CallKind.create_entry, 2)
    assert is_new if is_proof else step == Wait(0.1, retry_lookup=True)
    reopened = next_step(record=replace(record, withdrawing=True))
    assert reopened == (Done("none", reopen=True) if is_proof else Wait(0.1, retry_lookup=True))


@pytest.mark.parametrize(("first", "is_repeated"), [(159, True), (161, False), (None, False)])
def test_a_key_is_used_only_while_xero_certainly_remembers_it(first: float | None, is_repeated: bool) -> None:
    """A repeat may be executed 140 s after it is planned, and Xero remembers a key for 300 s at least."""
    record = not_found(sent=3, looked=1, first=first)
    step = next_step(record=record if first else replace(record, first_attempted_at=None))
    assert isinstance(step, Call) == is_repeated, step


@pytest.mark.parametrize("status", ["ACTIVE", "LOCKED", ""])
def test_an_entry_that_may_have_been_deleted_is_read_once_that_cannot_happen_any_more(status: str) -> None:
    """The delete request's answer was lost, and then an admin approved the bill again. Its status was read before that."""
    kept = replace(EXISTING, read_at=NOON, delete_attempted_at=NOON - timedelta(seconds=3), entry_status=status)
    assert next_step(record=kept) == Wait(EXECUTION_SECONDS - 3)
    certain = replace(kept, read_at=NOON + timedelta(seconds=EXECUTION_SECONDS - 3))
    assert kind_of(next_step(record=certain)) is CallKind.fetch_entry
    assert kind_of(next_step(record=certain.deleted("entry"))) is CallKind.create_entry
    there = certain.fetched(Entry("entry", TIME, "ACTIVE"), not_deleted=True, reopen_error="")
    assert next_step(record=there) == Done("synced", entry_id="entry")
    assert kind_of(next_step(record=replace(kept, withdrawing=True))) is CallKind.delete_entry


@pytest.mark.parametrize("access", [ACCESS, None, Access("another", "token")])
def test_a_bill_with_a_correct_entry_is_synced_whatever_is_connected(access: Access | None) -> None:
    assert next_step(record=EXISTING, access=access) == Done("synced", entry_id="entry")
    assert next_step(replace(BILL, task_id=None, user_id=None), EXISTING, access) == Done("synced", entry_id="entry")


def test_an_entry_that_was_written_differently_is_read_updated_and_keeps_its_task() -> None:
    """The bill's day has another noon, because the firm's time zone is another one now."""
    unread = replace(EXISTING, read_at=NOON, content=TIME.model_copy(update={"minutes": 30, "task_id": "old"}))
    for seconds, kind in ((None, CallKind.fetch_entry), (3700, CallKind.fetch_entry), (3500, CallKind.update_entry)):
        wrong = replace(unread, entry_read_at=None if seconds is None else NOON - timedelta(seconds=seconds))
        assert kind_of(next_step(record=wrong)) is kind
    rewritten = next_step(record=wrong)
    assert isinstance(rewritten, Call) and rewritten.kind is CallKind.update_entry
    assert rewritten.content == TIME.model_copy(update={"task_id": "old"})
    assert kind_of(next_step(record=replace(wrong, refused=True))) is CallKind.fetch_entry
    assert next_step(record=replace(wrong, entry_status="INVOICED")).status == "failed"  # type: ignore[union-attr]


CHANGED = replace(EXISTING, read_at=NOON, difference=Difference(content=TIME.model_copy(update={"minutes": 5, "user_id": "x"})))
DELETED = replace(EXISTING, read_at=NOON, difference=Difference())


@pytest.mark.parametrize("access", [ACCESS, None, Access("another", "token"), Access("tenant", None)])
def test_an_entry_that_somebody_changed_is_left_to_an_admin(access: Access | None) -> None:
    for record, words in ((CHANGED, "5 minutes instead of 60, another user."), (DELETED, "deleted in Xero")):
        done = next_step(record=record, access=access)
        assert isinstance(done, Done) and (done.status, done.entry_id) == ("differs", "entry")
        assert words in (done.error or "") and "Send the bill again, or accept" in (done.error or "")
        accepted = replace(record, accepted=True)
        assert next_step(record=accepted, access=access) == Done("synced", entry_id="entry")
    shortest = Difference(content=TIME.model_copy(update={"minutes": 1}))
    assert "1 minute instead of 60." in (next_step(record=replace(CHANGED, difference=shortest)).error or "")  # type: ignore[union-attr]
    invoiced = next_step(record=replace(CHANGED, entry_status="INVOICED"), access=access)
    assert isinstance(invoiced, Done) and invoiced.status == "differs" and "is invoiced there" in (invoiced.error or "")


def test_a_change_is_overwritten_once_an_admin_has_chosen_that() -> None:
    rewritten = next_step(record=replace(CHANGED, overwrite=True))
    assert isinstance(rewritten, Call) and (rewritten.kind, rewritten.content) == (CallKind.update_entry, TIME)
    assert next_step(record=CHANGED.updated(TIME)) == Done("synced", entry_id="entry")
    invoiced = next_step(record=replace(CHANGED, overwrite=True, entry_status="LOCKED"))
    assert isinstance(invoiced, Done) and invoiced.status == "failed"


def test_a_deleted_entry_is_created_again_only_after_it_was_not_there_once_more() -> None:
    chosen = replace(DELETED, overwrite=True)
    fetch = next_step(record=chosen)
    assert isinstance(fetch, Call) and fetch.kind is CallKind.fetch_entry
    gone = known_after(chosen, fetch, None, planned_on=chosen, settings=SETTINGS)
    created = next_step(record=gone)
    assert isinstance(created, Call) and (created.kind, created.revision) == (CallKind.create_entry, 2)
    there = known_after(chosen, fetch, Entry("entry", TIME, "ACTIVE"), planned_on=chosen, settings=SETTINGS)
    assert next_step(record=there) == Done("synced", entry_id="entry")


RESTORED = replace(BILL, lost_before=NOON)


def after(seconds: float, record: EntryRecord = NOTHING_KNOWN) -> EntryRecord:
    return replace(record, read_at=NOON + timedelta(seconds=seconds))


def looked_for(record: EntryRecord, *found: Entry) -> EntryRecord:
    """What is known after the look that is the next step of a bill of a Postgres that was restored."""
    call = next_step(RESTORED, record)
    assert isinstance(call, Call) and (call.kind, call.mark) == (CallKind.find_entry, BILL.mark), call
    before = known_before(record, call, at=record.read_at)
    return known_after(before, call, EntryPage(list(found), last=True), planned_on=record, settings=SETTINGS)


@pytest.mark.parametrize("record", [NOTHING_KNOWN, NOT_FOUND, LOST, replace(EXISTING, difference=Difference())])
def test_after_a_restore_an_entry_is_looked_for_once_lists_are_certain(record: EntryRecord) -> None:
    assert next_step(RESTORED, after(PROOF_SECONDS - 1, record)) == Wait(1.0)
    found = looked_for(after(PROOF_SECONDS, record), Entry("unknown", TIME, "ACTIVE"))
    assert (found.entry_ids, next_step(RESTORED, found)) == (("unknown",), Done("synced", entry_id="unknown"))


def test_after_a_restore_what_is_not_found_is_created_once_and_under_a_key_that_was_never_used() -> None:
    gone = looked_for(after(PROOF_SECONDS, EntryRecord(revision=7)))
    created = next_step(RESTORED, gone)
    assert isinstance(created, Call) and (created.kind, created.content) == (CallKind.create_entry, TIME)
    assert created.revision > 100_000_000
    again = next_step(replace(RESTORED, lost_before=NOON + timedelta(seconds=1)), gone)
    assert isinstance(again, Wait)


def test_after_a_restore_an_entry_that_is_missing_and_was_not_replaced_was_deleted_by_hand() -> None:
    deleted = replace(EXISTING, difference=Difference())
    gone = looked_for(after(PROOF_SECONDS, deleted))
    step = next_step(RESTORED, gone)
    assert isinstance(step, Done) and (step.status, gone.entry_ids) == ("differs", ("entry",))


def test_after_a_restore_an_entry_with_other_minutes_is_left_to_an_admin() -> None:
    other = TIME.model_copy(update={"minutes": 75})
    found = looked_for(after(PROOF_SECONDS), Entry("unknown", other, "ACTIVE"))
    assert kind_of(next_step(RESTORED, found)) is CallKind.fetch_entry


def test_an_entry_that_a_list_shows_otherwise_is_read_unless_there_is_no_access() -> None:
    doubted = replace(EXISTING, recheck=True)
    assert kind_of(next_step(record=doubted)) is CallKind.fetch_entry
    assert kind_of(next_step(record=replace(CHANGED, recheck=True))) is CallKind.fetch_entry
    for access in (None, Access("another", "token")):
        assert next_step(record=doubted, access=access) == Done("synced", entry_id="entry")


def test_a_read_finds_out_what_was_changed_and_forgets_what_an_admin_chose_about_another_change() -> None:
    doubted = replace(EXISTING, read_at=NOON, recheck=True)
    fetch = Call(CallKind.fetch_entry, ACCESS, "project", "entry")

    def read(record: EntryRecord, **changes: Any) -> EntryRecord:
        entry = Entry("entry", TIME.model_copy(update=changes), "ACTIVE")
        return known_after(record, fetch, entry, planned_on=record, settings=SETTINGS)

    same = read(doubted, date_utc=NOON - timedelta(hours=12), description=f" memo  {BILL.mark}", user_id="USER")
    assert (same.difference, same.recheck, same.entry_read_at) == (None, False, NOON)
    for changes in ({"minutes": 5}, {"date_utc": NOON + timedelta(hours=12)}, {"description": "memo"}, {"user_id": "x"},
                    {"task_id": "x"}):  # fmt: skip
        assert read(doubted, **changes).difference == Difference(content=TIME.model_copy(update=changes))
    accepted = replace(read(doubted, minutes=5), accepted=True)
    assert read(accepted, minutes=5).accepted and not read(accepted, minutes=6).accepted
    assert next_step(record=read(accepted)) == Done("synced", entry_id="entry")
    assert not known_after(accepted, fetch, None, planned_on=accepted, settings=SETTINGS).accepted


def test_an_entry_that_stint_may_have_deleted_was_not_deleted_by_hand() -> None:
    fetch = Call(CallKind.fetch_entry, ACCESS, "project", "entry")
    deleting = replace(EXISTING, read_at=NOON, delete_attempted_at=NOON - timedelta(seconds=300))
    for record in (deleting, replace(EXISTING, withdrawing=True)):
        known = known_after(record, fetch, None, planned_on=record, settings=SETTINGS)
        assert (known.entry_ids, known.difference) == ((), None)
    by_hand = known_after(EXISTING, fetch, None, planned_on=EXISTING, settings=SETTINGS)
    assert (by_hand.entry_ids, by_hand.difference) == (("entry",), Difference())
    update = Call(CallKind.update_entry, ACCESS, "project", "entry", content=TIME)
    missing = DoesNotExist("no", status=404)
    assert known_after_failure(EXISTING, update, missing, planned_on=EXISTING).difference == Difference()


def test_an_entry_that_was_changed_before_stint_found_it_is_read_and_not_overwritten() -> None:
    find = Call(CallKind.find_entry, ACCESS, "project", content=TIME, mark=BILL.mark)
    page = EntryPage([Entry("entry", TIME.model_copy(update={"minutes": 5}), "ACTIVE")], last=True)
    found = known_after(LOST, find, page, planned_on=LOST, settings=SETTINGS)
    assert kind_of(next_step(record=found)) is CallKind.fetch_entry
    assert next_step(record=known_after(LOST, find, EntryPage([Entry("entry", TIME, "ACTIVE")], last=True),
                                        planned_on=LOST, settings=SETTINGS)) == Done("synced", entry_id="entry")  # fmt: skip


def test_a_failed_read_is_left_to_the_next_check() -> None:
    doubted = replace(EXISTING, recheck=True)
    fetch = Call(CallKind.fetch_entry, ACCESS, "project", "entry")
    assert not known_after_failure(doubted, fetch, OutcomeUnknown("?"), planned_on=doubted).recheck
    assert known_after_failure(doubted, fetch, RateLimited("no", seconds=1), planned_on=doubted).recheck


def test_an_entry_in_another_organisation_waits_for_that_one() -> None:
    for record, status in ((LOST, "not_connected"), (replace(EXISTING, withdrawing=True), "withdrawing")):
        waiting = next_step(record=record, access=Access("another", "token"))
        assert isinstance(waiting, Done) and waiting.status == status and "connected before" in (waiting.error or "")


def test_the_second_of_two_entries_is_deleted() -> None:
    second = next_step(record=replace(EXISTING, entry_ids=("entry", "copy")))
    assert isinstance(second, Call) and (second.kind, second.entry_id) == (CallKind.delete_entry, "copy")


def test_a_withdrawal_deletes_the_entry_and_fetches_it_when_that_was_refused() -> None:
    withdrawing = replace(EXISTING, withdrawing=True)
    assert kind_of(next_step(record=withdrawing)) is CallKind.delete_entry
    assert kind_of(next_step(record=replace(withdrawing, refused=True))) is CallKind.fetch_entry
    assert next_step(record=withdrawing, access=None).status == "withdrawing"  # type: ignore[union-attr]


@pytest.mark.parametrize(("missing", "word"), [
    ({"project_id": None}, "project"), ({"task_id": None}, "task"), ({"user_id": None}, "jo@example.com"),
])  # fmt: skip
def test_a_bill_that_is_not_mapped_shows_what_is_missing(missing: dict[str, Any], word: str) -> None:
    done = next_step(replace(BILL, **missing))
    assert isinstance(done, Done) and done.status == "not_mapped" and word in (done.error or "")


def test_xeros_users_are_fetched_once_for_an_unknown_consultant() -> None:
    assert kind_of(next_step(replace(BILL, user_id=None, users_fetched=False))) is CallKind.fetch_users
    assert isinstance(next_step(replace(BILL, user_id=None, users_fetched=False, users_fetch_running=True)), Wait)


def test_xeros_users_are_fetched_again_after_xero_refused_the_user_and_once() -> None:
    refused = EntryRecord(user_refused_at=datetime.fromtimestamp(1000, UTC))
    for bill in (BILL, replace(BILL, users_fetched_at=999), replace(BILL, users_fetched_at=float("-inf"), user_id=None)):
        assert kind_of(next_step(bill, refused)) is CallKind.fetch_users
        assert isinstance(next_step(replace(bill, users_fetch_running=True), refused), Wait)
    fetched = replace(BILL, users_fetched_at=1001)
    assert kind_of(next_step(fetched, refused)) is CallKind.create_entry
    done = next_step(replace(fetched, user_id=None), refused)
    assert isinstance(done, Done) and done.status == "not_mapped" and "invite them" in (done.error or "")


def test_a_token_that_is_about_to_expire_is_renewed_first() -> None:
    assert kind_of(next_step(access=Access("tenant", None))) is CallKind.renew_access
    assert next_step(PENDING, access=Access("tenant", None)) == Done("none")  # no call is needed


def test_more_minutes_than_xero_takes_fail_with_the_limit() -> None:
    assert "59,940" in str(next_step(replace(BILL, minutes=60_000)))


def test_an_approved_bill_of_0_minutes_has_no_entry() -> None:
    closed = replace(BILL, minutes=0)
    assert next_step(closed) == next_step(closed, access=None) == Done("none")


def test_a_long_memo_is_cut_before_its_mark() -> None:
    created = next_step(replace(BILL, memo="x" * 10_000))
    assert isinstance(created, Call) and created.content is not None and created.content.description.endswith(BILL.mark)
    assert len(created.content.description) < 4_100  # Xero does not cut it


def test_a_bill_that_another_message_is_calling_for_waits() -> None:
    for record in (NOTHING_KNOWN, LOST, replace(EXISTING, withdrawing=True)):
        assert isinstance(next_step(record=replace(record, claimed_by_other=True)), Wait)


def test_an_unknown_outcome_never_counts_as_failed() -> None:
    """However long ago the create request was sent: nobody has looked for the entry yet, or not to the end."""
    later = NOON + timedelta(days=2)
    for bill in (BILL, PENDING):
        for looked_at in (None, later):
            assert kind_of(next_step(bill, replace(LOST, read_at=later, looked_at=looked_at))) is CallKind.find_entry


@pytest.mark.parametrize("status", ["LOCKED", "INVOICED"])
def test_an_entry_that_is_invoiced_and_differs_is_an_error_and_no_call(status: str) -> None:
    done = next_step(replace(BILL, minutes=90), replace(EXISTING, entry_status=status))
    assert isinstance(done, Done) and (done.status, done.entry_id) == ("failed", "entry")
    assert status.lower() in (done.error or "")


@pytest.mark.parametrize(("hours", "is_correct"), [(0, True), (11, True), (-11, True), (13, False), (-13, False), (48, False)])
def test_an_entry_may_be_moved_within_its_day_and_not_to_another(hours: int, is_correct: bool) -> None:
    moved = replace(EXISTING, content=TIME.model_copy(update={"date_utc": NOON + timedelta(hours=hours)}))
    step = next_step(record=moved)
    assert isinstance(step, Done) is is_correct
