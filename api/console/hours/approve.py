"""Approve: a week of time bills as a grid of people and days. An admin approves exactly the bills and versions that the page
showed; what has changed since is refused, and shown again."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from pydantic import Field, StringConstraints

from api.auth.auth import require_admin
from api.console.forms import Form, FormModel, read_form, read_query
from api.console.hours.filters import ApproveQuery, ApproveView
from api.console.pages import fragment, is_htmx, page, redirect
from api.dependencies import ApiRequest
from schemas.errors import Conflict, NotFound
from schemas.hours import batch_approval, bill_approval
from schemas.hours.batch_approval import MAX_BILLS, BatchAnswer, BatchApproval
from schemas.hours.bill_approval import TimeBillChange
from schemas.hours.firm_days import get_today
from schemas.hours.time_bills import Status
from schemas.hours.weeks import bills
from schemas.hours.weeks.grid import Cell, Grid, PersonWeek, make_grid
from schemas.identity import working_hours
from schemas.reports.choices import Choice, choices

LARGEST = 2**53
NOT_PENDING = "Nothing was done: the bill is not pending any more. See below what it is now."
MOST_PEOPLE = 60  # on one page
NOT_SHOWN = "This is not a list of bills that this page has shown; open the page again."
DONE = {"approved": "Approved.", "rejected": "Rejected. The person gets your reason.", "pending": "The bill is pending again."}
WITHDRAWN = "The bill is being withdrawn from Xero, and is pending once its entry there is deleted."


class Seen(FormModel):
    """The days that are ticked, each with its bills as they were shown: `ID:VERSION ID:VERSION`."""

    bills: list[str] = Field(default_factory=list)


class Decision(FormModel):
    """What happens to one bill: approved, rejected with a reason, or pending again; and the version that was shown."""

    UNSEEN = frozenset({"version", "status"})

    version: Annotated[int, Field(ge=1, le=LARGEST)]
    status: Status
    rejection_note: Annotated[str | None, StringConstraints(max_length=2000)] = None


@dataclass(frozen=True)
class Refused:
    """The bills that were not approved, with the reasons. None: none was sent."""

    reasons: dict[UUID, str] = field(default_factory=dict)
    approved: int = 0

    def hidden(self, grid: Grid) -> int:
        """How many of them the page does not show: they were deleted, or do not fit its filters any more."""
        return len(self.reasons.keys() - {bill.id for bill in grid.bills})


@dataclass(frozen=True)
class Decided:
    """The form of one bill that was sent, and has to be corrected."""

    bill_id: UUID
    form: Form[Decision]


@get("/console/approve", guards=[require_admin])
async def show_approve(request: ApiRequest) -> Response[bytes]:
    """The week; or for htmx the bills of the day that is opened."""
    query = read_query(request, ApproveQuery)
    return await _show(request, query, status=200 if query.value is not None else 422)


@post("/console/approve", guards=[require_admin], status_code=303)
async def approve_seen(request: ApiRequest) -> Response[bytes]:
    """Approves the bills of the days that are ticked, in one transaction. 409 if some were not: the page shows them as they are
    now, with the reasons."""
    query, form = read_query(request, ApproveQuery), await read_form(request, Seen)
    seen = _read_seen(form)
    answer: BatchAnswer | None = None
    if seen:
        with form.catching():
            batch = BatchApproval.model_validate({"bills": [{"id": bill_id, "version": version} for bill_id, version in seen]})
            async with request.database.transaction() as conn:
                answer = await batch_approval.approve_all(conn, batch, by=request.user, zone=request.settings.stint_timezone)
    if answer is None:
        return await _show(request, query, status=422, seen=form)
    if not answer.skipped:
        return redirect((await _view(request, query)).link(), approved_words(answer.approved))
    reasons = {result.id: result.reason or "" for result in answer.results if result.result == "skipped"}
    return await _show(request, query, status=409, refused=Refused(reasons, answer.approved))


@post("/console/approve/{bill_id:str}", guards=[require_admin], status_code=303)
async def decide(request: ApiRequest, bill_id: FromPath[UUID]) -> Response[bytes]:
    """Approves, rejects or reopens one bill, if it is as the page showed it."""
    query, form = read_query(request, ApproveQuery), await read_form(request, Decision)
    if form.value is not None:
        sent = form.value
        patch: dict[str, Any] = {"status": sent.status, "version": sent.version}
        if sent.status == "rejected" and sent.rejection_note is not None:
            patch["rejectionNote"] = sent.rejection_note
        with form.catching():
            async with request.database.transaction() as conn:
                changed = await bill_approval.change(
                    conn, bill_id, TimeBillChange.model_validate(patch), by=request.user, zone=request.settings.stint_timezone
                )
            if isinstance(changed, Conflict | NotFound):  # after the commit, as in the API
                raise changed
            words = WITHDRAWN if changed.xero.status == "withdrawing" else DONE[changed.status]
            return redirect((await _view(request, query)).link() + "#open", words)
    refused = Refused({bill_id: " ".join(form.general)}) if form.value is not None and form.general else None
    return await _show(request, query, status=409 if refused else 422, decided=Decided(bill_id, form), refused=refused)


def approved_words(count: int) -> str:
    """`Approved 12 bills.`"""
    return f"Approved {count:,} bill{'' if count == 1 else 's'}."


def _read_seen(form: Form[Seen]) -> list[tuple[UUID, int]]:
    """The bills that were sent, with their versions. Adds what is wrong to the errors of the form; then there are none."""
    texts = " ".join(form.value.bills).split() if form.value is not None else []
    found = [_parse_seen(text) for text in texts]
    seen = [bill for bill in found if bill is not None]
    if len(seen) < len(found):
        form.general.append(NOT_SHOWN)
    elif len(seen) > MAX_BILLS:
        form.general.append(f"At most {MAX_BILLS:,} bills are approved at once; show fewer with the filters.")
    elif not seen and not form.is_wrong:
        form.general.append("No day is ticked. Tick the days whose bills you approve.")
    return [] if form.is_wrong else seen


def _parse_seen(text: str) -> tuple[UUID, int] | None:
    """The bill and its version in `ID:VERSION`. None: it is another text."""
    bill_id, _, version = text.partition(":")
    try:
        if version.isascii() and 0 < int(version) <= LARGEST:
            return UUID(bill_id), int(version)
    except ValueError:
        pass
    return None


async def _view(request: ApiRequest, query: Form[ApproveQuery]) -> ApproveView:
    async with request.database.connection() as conn:
        return ApproveView.of(query.value or ApproveQuery(), await get_today(conn, request.settings.stint_timezone))


async def _show(
    request: ApiRequest,
    query: Form[ApproveQuery],
    *,
    status: int = 200,
    seen: Form[Seen] | None = None,
    decided: Decided | None = None,
    refused: Refused | None = None,
) -> Response[bytes]:
    view, settings = await _view(request, query), request.settings
    opens_day = is_htmx(request) and status == 200
    async with request.database.connection() as conn:
        offered = await choices(conn, view.filters.customer_id)
        view = _without_other_pillar(view, offered)
        people = await bills.list_people(conn, view.first, view.filters)
        view, ids = _page_of(people, view, only_opened=opens_day)
        calendars = await working_hours.read_calendars(conn, ids, settings=settings)
        today = await get_today(conn, settings.stint_timezone)
        week = await bills.read_week(conn, view.first, ids)
        grid = make_grid(week, calendars, view.filters, first=view.first, today=today)
        person, cell = _opened(grid, view)
        if decided is not None and "rejection_note" in decided.form.errors and not _takes_note(cell, decided.bill_id):
            decided.form.is_gone(NOT_PENDING)
        values: dict[str, Any] = {
            "view": view,
            "grid": grid,
            "person": person,
            "cell": cell,
            "entries": await bills.read_entries(conn, [bill.id for bill in cell.bills]) if cell is not None else {},
            "decided": decided,
            "refused": refused,
        }
        if opens_day:
            return fragment(request, "approve/open.html", **values)
        values["earlier"] = await bills.first_pending_day(conn, before=view.first)
    chosen = {"person": view.filters.user_id, "customer": view.filters.customer_id, "pillar": view.filters.pillar_id}
    values["choices"] = {kind: _names(offered, kind, chosen[kind]) for kind in chosen}
    values |= {"people": len(people), "most_people": MOST_PEOPLE}
    return page(request, "approve.html", status=status, filters=query, seen=seen or Form(), **values)


def _without_other_pillar(view: ApproveView, offered: list[Choice]) -> ApproveView:
    """Without a pillar that is not one of the chosen customer: another customer was chosen after it."""
    filters = view.filters
    if filters.customer_id is None or any(choice.id == filters.pillar_id for choice in offered):
        return view
    return replace(view, filters=replace(filters, pillar_id=None))


def _page_of(people: list[tuple[UUID, str]], view: ApproveView, *, only_opened: bool) -> tuple[ApproveView, list[UUID]]:
    """The ids of the people of one page, and the view with its number: that of the query, or of the person who is open.
    `only_opened`: without the others."""
    ids = [user_id for user_id, _ in people]
    opened = view.opened[0] if view.opened is not None else None
    number = view.page or (ids.index(opened) // MOST_PEOPLE + 1 if opened in ids else 1)
    number = min(number, max(1, -(-len(ids) // MOST_PEOPLE)))
    view = replace(view, page=number if number > 1 else None)
    if only_opened:
        return view, [opened] if opened in ids else []
    return view, ids[(number - 1) * MOST_PEOPLE : number * MOST_PEOPLE]


def _opened(grid: Grid, view: ApproveView) -> tuple[PersonWeek | None, Cell | None]:
    """The person and the day that are open, if the grid has them."""
    person = grid.person(view.opened[0]) if view.opened is not None else None
    return person, person.of_day(view.opened[1]) if person is not None and view.opened is not None else None


def _takes_note(cell: Cell | None, bill_id: UUID) -> bool:
    """Whether the page has the field for the reason of a rejection."""
    return cell is not None and any(bill.id == bill_id and bill.status == "pending" for bill in cell.bills)


def _names(offered: list[Choice], kind: str, chosen: UUID | None) -> list[tuple[UUID, str]]:
    """The names to choose from. What is chosen is among them, also if nothing else is known of it."""
    names = [(choice.id, choice.name) for choice in offered if choice.kind == kind]
    is_missing = chosen is not None and all(found != chosen for found, _ in names)
    return [(chosen, "without bills"), *names] if chosen is not None and is_missing else names
