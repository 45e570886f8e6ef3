"""Bills against their time entries in Xero: what differs, and what to do with it."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from litestar import Response, get, post
from pydantic import BeforeValidator, Field, TypeAdapter

from api.auth.auth import require_admin
from api.console.connections.overview import PATH as CONNECTIONS
from api.console.forms import Form, FormModel, read_form, read_query
from api.console.pages import page, redirect
from api.dependencies import ApiRequest
from schemas.base import Day, Instant
from schemas.hours.firm_days import get_today
from schemas.outbox.dead_letters.actions import Reason
from schemas.postgres.connection import Connection
from schemas.postgres.listing import Page
from schemas.xero import sending
from schemas.xero.differences import accepting
from schemas.xero.differences.accepting import BillsToAccept
from schemas.xero.reconciliation import comparison
from schemas.xero.reconciliation.models import Reconciliation
from schemas.xero.sending import BillsToSend

PATH = f"{CONNECTIONS}/xero/differences"
PAGE_SIZE, FIRST_DAYS = 100, 31
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
SHOWS = [("different", "all that differs"), ("undecided", "what is undecided")]


class DaysFilter(FormModel):
    """The days that are compared, without them the last month; and what is shown of them."""

    start_date: Day | None = None
    end_date: Day | None = None
    show: Literal["different", "undecided"] = "different"
    cursor: Annotated[str, Field(max_length=1_000)] | None = None


def _parse_seen(text: object) -> tuple[UUID, datetime]:
    bill_id, _, updated_at = str(text).partition("@")
    try:
        return UUID(bill_id), _INSTANT.validate_python(updated_at)
    except ValueError:
        raise ValueError("choose bills of the list") from None


class ChosenBills(FormModel):
    """What to do with the chosen bills: `send` them again, or `accept` what is in Xero; and why. `bill`: the id of each, and
    when it had last changed as it was shown, `ID@TIME`."""

    UNSEEN = frozenset({"action"})

    bill: Annotated[list[Annotated[tuple[UUID, datetime], BeforeValidator(_parse_seen)]], Field(max_length=PAGE_SIZE)]
    action: Literal["send", "accept"]
    reason: Reason


@get(PATH, guards=[require_admin])
async def show_differences(request: ApiRequest) -> Response[bytes]:
    """The bills that do not agree with Xero, the latest day first."""
    return await _differences_page(request, Form())


@post(PATH, guards=[require_admin], status_code=303)
async def settle(request: ApiRequest) -> Response[bytes]:
    """Sends the chosen bills again, or accepts what is in Xero. What needs neither any more is skipped, and said."""
    form = await read_form(request, ChosenBills)
    if "bill" in form.errors or "bill" not in form.typed:
        form.errors["bill"] = "Choose the bills first."
    elif form.value is not None:
        with form.catching():
            async with request.database.transaction() as conn:
                done, skipped = await _settle(conn, request, form.value)
            verb = "sent again" if form.value.action == "send" else "accepted as in Xero"
            said = [f"{done} {'bill is' if done == 1 else 'bills are'} {verb}."] + [f"Skipped: {why}" for why in skipped[:3]]
            days = f"?{request.url.query}" if request.url.query else ""
            return redirect(PATH + days, " ".join(said), kind="warning" if skipped else "done")
    return await _differences_page(request, form, status=422)


async def _settle(conn: Connection, request: ApiRequest, chosen: ChosenBills) -> tuple[int, list[str]]:
    """How many bills were settled, and why others were not. Raises Conflict if one has changed since it was shown."""
    seen = dict(chosen.bill)
    await sending.check_seen(conn, seen)
    body = {"ids": list(seen), "reason": chosen.reason}
    if chosen.action == "send":
        sent = await sending.send_selected(conn, BillsToSend.model_validate(body), by=request.user)
        return sent.sent, [each.reason or "" for each in sent.results if each.result == "skipped"]
    accepted = await accepting.accept_selected(conn, BillsToAccept.model_validate(body), by=request.user)
    return accepted.accepted, [each.reason or "" for each in accepted.results if each.result == "skipped"]


async def _differences_page(request: ApiRequest, form: Form[ChosenBills], *, status: int = 200) -> Response[bytes]:
    filters = read_query(request, DaysFilter)
    chosen, found = filters.value or DaysFilter(), None
    async with request.database.connection() as conn:
        today = await get_today(conn, request.settings.stint_timezone)
        last = chosen.end_date or today
        first = chosen.start_date or last - timedelta(days=FIRST_DAYS - 1)
        with filters.catching():
            answer = await comparison.compare(
                conn, first, last, Page(PAGE_SIZE, chosen.cursor), request.settings, shown=chosen.show
            )
            found = Reconciliation.from_json(answer)
    if found is not None and not found.items:
        form.leave_out("bill", "reason")
    values = {"shows": SHOWS, "filters": filters, "first": first, "last": last, "found": found}
    status = 422 if filters.is_wrong else status
    return page(request, "connections/differences.html", status=status, form=form, **values)
