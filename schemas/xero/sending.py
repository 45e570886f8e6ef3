"""An admin's request to send bills to Xero again: those that have failed, or whose time entries were changed there by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Body, Row
from schemas.errors import Conflict, Invalid
from schemas.hours.firm_days import check_days
from schemas.hours.time_bills import BillScope, scope_condition
from schemas.identity.users import User
from schemas.outbox.dead_letters.actions import Reason
from schemas.postgres.connection import Connection
from schemas.postgres.listing import contains_pattern
from schemas.xero import backlog

MAX_BILLS = 1000  # in one request


class SelectedBills(BillScope):
    """The bills of some days, of one customer, of one user, with one error. A field that is left out means all."""

    error: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="text in `xero.error`; upper and lower case match"),
    ] = None


class BillsToResend(SelectedBills):
    """The same, of those with one status."""

    xero_status: Annotated[
        Literal["failed", "differs"],
        Field(description="`differs`: bills whose time entries were changed in Xero by hand; they are written over"),
    ] = "failed"


class BillsToSend(Body):
    """Either `ids`, or `filter`; an empty filter selects all failed bills."""

    ids: Annotated[list[UUID] | None, Field(min_length=1, max_length=MAX_BILLS)] = None
    filter: BillsToResend | None = None
    reason: Reason


class SendResult(Row):
    """The result for one bill."""

    id: UUID
    result: Literal["sent", "skipped"]
    reason: Annotated[str | None, Field(description="why it was skipped")] = None


class SendAnswer(Row):
    """The result for each bill, in the order of the request."""

    sent: Annotated[int, Field(description="bills that are queued for Xero again")]
    skipped: int
    remaining: Annotated[
        int, Field(description=f"bills that match the filter beyond these {MAX_BILLS:,}: repeat the request for them")
    ]
    results: list[SendResult]


async def send_selected(conn: Connection, body: BillsToSend, *, by: User) -> SendAnswer:
    """Sends the bills that the request selects again. Raises Invalid unless it has either ids or a filter."""
    status = body.filter.xero_status if body.filter is not None else "failed"
    bill_ids, remaining = await selected(conn, body.ids, body.filter, status=status)
    who = by.email or str(by.id)
    done = await backlog.send_again(conn, bill_ids, who=who, reason=body.reason, created_by=by.id, overwrite=True)
    results = [
        SendResult(id=bill_id, result="skipped", reason=done.skipped[bill_id])
        if bill_id in done.skipped
        else SendResult(id=bill_id, result="sent")
        for bill_id in bill_ids
    ]
    return SendAnswer(sent=len(done.sent), skipped=len(done.skipped), remaining=remaining, results=results)


@dataclass(frozen=True)
class FailedBills:
    """How many bills have failed, and when they were counted."""

    count: int
    at: datetime


async def count_failed(conn: Connection) -> FailedBills:
    """The failed bills, for a page that offers to send them again."""
    return await conn.one(
        "SELECT count(*), now() AS at FROM time_bills WHERE xero_status = 'failed' AND deleted_at IS NULL", row=FailedBills
    )


async def send_shown(conn: Connection, shown: FailedBills, *, reason: Reason, by: User) -> SendAnswer:
    """Sends the failed bills again that a page has counted, at most MAX_BILLS of them, and none that has failed since.

    Raises Conflict if some of them have changed since.
    """
    found = await conn.values(
        """
        SELECT id FROM time_bills WHERE xero_status = 'failed' AND deleted_at IS NULL AND updated_at <= %s
        ORDER BY id FOR NO KEY UPDATE
        """,
        (shown.at,),
    )
    if len(found) != shown.count:
        raise Conflict(
            f"This has changed since it was shown: of the {shown.count:,} bills that had failed, {len(found):,} are as they"
            " were then. Nothing was sent; look at what has failed now, and send that."
        )
    if not found:
        return SendAnswer(sent=0, skipped=0, remaining=0, results=[])
    answer = await send_selected(conn, BillsToSend(ids=found[:MAX_BILLS], reason=reason), by=by)
    return answer.model_copy(update={"remaining": max(0, len(found) - MAX_BILLS)})


async def selected(
    conn: Connection, ids: list[UUID] | None, chosen: SelectedBills | None, *, status: Literal["failed", "differs"]
) -> tuple[list[UUID], int]:
    """The bills of the request, and the number of further bills that match its filter.

    The bills are those of its ids, or the first MAX_BILLS with that status that match its filter. Raises Invalid unless it has
    either ids or a filter.
    """
    if (ids is None) == (chosen is None):
        raise Invalid("", f"Send either ids or filter; an empty filter, {{}}, selects all {_NOUNS[status]}.")
    if chosen is None:
        return list(dict.fromkeys(ids or [])), 0
    check_days(chosen.start_date, chosen.end_date, path="filter.endDate")
    scope = chosen.model_dump(exclude_none=True, exclude={"xero_status"})
    # a literal, since there is a partial index for each status
    condition = f"b.xero_status = '{status}' AND b.deleted_at IS NULL AND {scope_condition('b', scope)}"
    if chosen.error is not None:
        condition += " AND b.xero_error ILIKE %(error)s"
        scope["error"] = contains_pattern(chosen.error)
    found = await conn.values(f"SELECT b.id FROM time_bills b WHERE {condition} ORDER BY b.id LIMIT {MAX_BILLS}", scope)
    if len(found) < MAX_BILLS:
        return found, 0
    return found, await conn.value(f"SELECT count(*) FROM time_bills b WHERE {condition}", scope) - len(found)


async def check_seen(conn: Connection, seen: Mapping[UUID, datetime]) -> None:
    """Locks the bills until the transaction ends. Raises Conflict if one of them has changed since a person has seen it.

    `seen`: by bill, the `updated_at` that the person has seen. The facts of the Conflict have the ids of changed bills, as
    `bills` of `current`.
    """
    query = "SELECT id, updated_at FROM time_bills WHERE id = ANY(%s) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE"
    changed = [bill_id for bill_id, updated_at in await conn.all(query, (list(seen),)) if updated_at != seen[bill_id]]
    if changed:
        raise Conflict(
            f"Of these bills, {len(changed)} changed, here or in Xero, after the page was shown. Nothing was done; look at"
            " them as they are now, and choose again.",
            current={"bills": changed},
        )


_NOUNS = {"failed": "failed bills", "differs": "bills that differ"}
