"""What an admin decides in Slack about time bills, by the same functions as the API: each bill is approved or rejected only if
it still has the version that was shown.

In a channel that is mapped to a customer, `only_customer` is that customer: bills of others are not there.
"""

from dataclasses import dataclass
from uuid import UUID

from schemas.errors import Conflict, NotFound
from schemas.hours import batch_approval, bill_approval
from schemas.hours.batch_approval import CHANGED, BatchApproval, BatchResult, SeenBill
from schemas.hours.bill_approval import TimeBillChange
from schemas.identity.users import User
from schemas.postgres.connection import Connection
from schemas.slack.approvals import pending
from schemas.slack.approvals.blocks import count, describe, format_minutes, lines, name
from schemas.slack.approvals.pending import ShownBill
from schemas.slack.views import escape

NO_BILL = "There is no such time bill here any more."


@dataclass(frozen=True)
class Outcome:
    """What was decided: the text for the admin, in mrkdwn, and whether it was done for each bill."""

    text: str
    is_complete: bool


async def approve(conn: Connection, bills: list[SeenBill], *, by: User, zone: str, only_customer: UUID | None) -> Outcome:
    """Approves the bills that have not changed since they were shown. The others are named, with the reason."""
    here = await pending.get_bills(conn, [bill.id for bill in bills], only_customer=only_customer)
    known = [bill for bill in bills if bill.id in here]
    if not known:
        return Outcome(NO_BILL, is_complete=False)
    answer = await batch_approval.approve_all(conn, BatchApproval(bills=known), by=by, zone=zone)
    now = await pending.get_bills(conn, here.keys(), only_customer=only_customer)
    done = [now[result.id] for result in answer.results if result.result == "approved"]
    skipped = {result.id: _why_skipped(result, now.get(result.id), by) for result in answer.results if result.reason}
    return _outcome("Approved", done, here, skipped, len(bills) - len(known))


def _why_skipped(result: BatchResult, bill: ShownBill | None, by: User) -> str:
    if bill is not None and bill.status == "approved":
        who = "you" if result.current is not None and result.current.approved_by == by.id else name(bill.approved_by or "")
        return f"It is approved already, by {who or 'somebody else'}."
    return _why(result.reason or "", bill)


async def reject(
    conn: Connection, bills: list[SeenBill], reason: str, *, by: User, zone: str, only_customer: UUID | None
) -> Outcome:
    """Rejects the bills that have not changed since they were shown. The others are named, with the reason. Raises
    ValidationError for a reason that the API refuses too."""
    here = await pending.get_bills(conn, [bill.id for bill in bills], only_customer=only_customer)
    done, skipped = [], {}
    for bill in sorted(bills, key=lambda bill: bill.id):  # bills are locked in this order
        if bill.id not in here:
            continue
        patch = TimeBillChange(status="rejected", rejectionNote=reason, version=bill.version)
        try:
            changed = await bill_approval.change(conn, bill.id, patch, by=by, zone=zone)
        except NotFound as error:
            changed = error
        if isinstance(changed, Conflict | NotFound):
            skipped[bill.id] = changed.detail
        else:
            done.append(here[bill.id])
    now = await pending.get_bills(conn, skipped.keys(), only_customer=only_customer)
    skipped = {bill_id: _why(why, now.get(bill_id)) for bill_id, why in skipped.items()}
    return _outcome("Rejected", done, here, skipped, len(bills) - len(here))


def _why(reason: str, bill: ShownBill | None) -> str:
    """The reason, with what a bill is now that has changed since it was shown."""
    if bill is None or reason != CHANGED:
        return escape(reason)
    match bill.status:
        case "approved":
            return f"It is approved meanwhile, by {name(bill.approved_by or 'somebody else')}."
        case "rejected":
            return "It is rejected meanwhile."
    return "It has changed since it was shown. Check its figures again."


def why_left_out(bill: ShownBill | None) -> str:
    """Why a bill is not in the form to reject bills: it has changed since it was shown."""
    return NO_BILL if bill is None else f"{describe(bill)}: {_why(CHANGED, bill)}"


def _outcome(
    verb: str, done: list[ShownBill], before: dict[UUID, ShownBill], skipped: dict[UUID, str], unknown: int
) -> Outcome:
    texts = []
    if done:
        first, minutes = done[0], sum(bill.minutes for bill in done)
        whose = f" of {name(first.consultant)} for {name(first.customer)}"
        texts.append(f"{verb}: {count(len(done))}{whose}, {format_minutes(minutes)}.")
    texts += [f"Not {verb.lower()}: {describe(before[bill_id])}. {why}" for bill_id, why in skipped.items()]
    if unknown:
        texts.append(f"Not {verb.lower()}: {count(unknown)}. {NO_BILL}")
    return Outcome(lines(texts), is_complete=not skipped and not unknown)
