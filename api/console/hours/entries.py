"""Log hours by hand; change, annotate and delete time entries."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from pydantic import Field

from api.auth.auth import require_internal
from api.console.forms import Form, FormModel, read_form, read_query, valid_query
from api.console.gone import gone_if_missing
from api.console.hours.local_times import Hours, LocalTime, as_hours, is_same, to_local, to_utc
from api.console.hours.week import HoursQuery, find_tasks, hours_page, read_view, view_of
from api.console.pages import page, redirect
from api.console.words import NO_ACCESS
from api.dependencies import ApiRequest
from schemas.base import Text
from schemas.errors import Conflict
from schemas.hours import entry_changes, entry_creation
from schemas.hours.entry_changes import NotesChange, TimeEntryChange
from schemas.hours.entry_creation import NewTimeEntry
from schemas.hours.entry_rules import EntryRules
from schemas.hours.weeks import own
from schemas.hours.weeks.own import OwnEntry

Version = Annotated[int, Field(ge=1, le=2**53)]
OVERLAPS = "These times overlap other entries of the same person. Tick “Accept an overlap” to record them nevertheless."


class LogForm(FormModel):
    """Hours to log: a start, and an end or a duration. `id`: of the entry, so that a form that is sent twice logs once."""

    UNSEEN = frozenset({"id"})

    id: UUID
    task_id: UUID
    notes: Text = ""
    start_time: LocalTime
    end_time: LocalTime | None = None
    duration: Hours | None = None
    allow_overlap: str | None = None


class EntryForm(FormModel):
    """What an entry becomes."""

    UNSEEN = frozenset({"version"})

    task_id: UUID
    start_time: LocalTime
    end_time: LocalTime
    notes: Text = ""
    allow_overlap: str | None = None
    version: Version


class DeleteForm(FormModel):
    """The version of the entry that was shown."""

    UNSEEN = frozenset({"version"})

    version: Version


@post("/console/hours/log", guards=[require_internal], status_code=303)
async def log(request: ApiRequest) -> Response[bytes]:
    """Logs hours."""
    query, form = read_query(request, HoursQuery), await read_form(request, LogForm)
    view = await view_of(request, query)
    if form.value is not None:
        sent, zone = form.value, request.settings.stint_timezone
        body: dict[str, Any] = {
            "id": sent.id,
            "taskId": sent.task_id,
            "userId": view.owner_id,
            "notes": sent.notes,
            "allowOverlap": sent.allow_overlap is not None,
        }
        if sent.duration is not None:
            body["duration"] = sent.duration
        with form.catching(), _explaining():
            body["startTime"] = to_utc(sent.start_time, zone, "startTime")
            if sent.end_time is not None:
                body["endTime"] = to_utc(sent.end_time, zone, "endTime")
            new = NewTimeEntry.model_validate(body)
            async with request.database.transaction() as conn:
                made = await entry_creation.create(conn, new, by=request.user, rules=EntryRules.of(request.settings))
            return redirect(view.link(week=sent.start_time.date()), f"Logged {as_hours(made.duration)}.")
    return await hours_page(request, query, status=422, work=form)


@get("/console/hours/entries/{entry_id:str}", guards=[require_internal])
async def show_entry(request: ApiRequest, entry_id: FromPath[UUID]) -> Response[bytes]:
    """The form of one entry."""
    return await _entry_page(request, entry_id, Form())


@post("/console/hours/entries/{entry_id:str}", guards=[require_internal], status_code=303)
async def change_entry(request: ApiRequest, entry_id: FromPath[UUID]) -> Response[bytes]:
    """Changes task, times and notes, unless the entry has changed since it was shown."""
    query, form = read_query(request, HoursQuery), await read_form(request, EntryForm)
    view = await view_of(request, query)
    if form.value is not None:
        sent, rules = form.value, EntryRules.of(request.settings)
        with form.catching(), _explaining():
            async with request.database.transaction() as conn:
                shown = await own.read_entry(conn, entry_id)
                version = sent.version
                if len(change := _changes(sent, shown, rules.zone)) > 1:
                    body = TimeEntryChange.model_validate(change | {"allowOverlap": sent.allow_overlap is not None})
                    version = (await entry_changes.change(conn, entry_id, body, by=request.user, rules=rules)).version
                if sent.notes != shown.notes or version == sent.version:
                    notes = NotesChange.model_validate({"notes": sent.notes, "version": version})
                    await entry_changes.write_notes(conn, entry_id, notes, by=request.user)
            return redirect(view.link(week=sent.start_time.date()), "Saved.")
    return await _entry_page(request, entry_id, form, status=422)


@post("/console/hours/entries/{entry_id:str}/delete", guards=[require_internal], status_code=303)
async def delete_entry(request: ApiRequest, entry_id: FromPath[UUID]) -> Response[bytes]:
    """Deletes the entry, unless it has changed since it was shown."""
    query, form = read_query(request, HoursQuery), await read_form(request, DeleteForm)
    view = await view_of(request, query)
    if form.value is not None:
        with form.catching():
            async with request.database.transaction() as conn:
                await entry_changes.delete(conn, entry_id, version=form.value.version, by=request.user)
            return redirect(view.link(), "Deleted.")
    form.typed = {}  # the page shows the entry as it is now
    return await _entry_page(request, entry_id, form, status=422)


@contextmanager
def _explaining() -> Iterator[None]:
    """Says of a refused overlap what the page can do about it, instead of what a client of the API can."""
    try:
        yield
    except Conflict as refusal:
        if "overlaps" not in refusal.facts:
            raise
        raise Conflict(OVERLAPS) from None


def _changes(sent: EntryForm, shown: OwnEntry, zone: str) -> dict[str, Any]:
    """The version, and what differs from what is there."""
    change: dict[str, Any] = {"version": sent.version}
    if sent.task_id != shown.task_id:
        change["taskId"] = sent.task_id
    if not is_same(sent.start_time, shown.start_time, zone):
        change["startTime"] = to_utc(sent.start_time, zone, "startTime")
    if not is_same(sent.end_time, shown.end_time, zone):
        change["endTime"] = to_utc(sent.end_time, zone, "endTime")
    return change


def _hours_of(query: HoursQuery) -> str:
    """The page of hours that led to the entry."""
    named = {"week": query.week, "person": query.person}
    return f"/console/hours?{urlencode({name: value for name, value in named.items() if value})}"


async def _entry_page(request: ApiRequest, entry_id: UUID, form: Form[Any], *, status: int = 200) -> Response[bytes]:
    zone = request.settings.stint_timezone
    query = valid_query(request, HoursQuery)
    async with request.database.connection() as conn:
        with gone_if_missing("entry", _hours_of(query), "the hours", form):
            entry = await own.read_entry(conn, entry_id)
        person = None if entry.user_id == request.user.id else entry.user_id
        view = await read_view(request, conn, query.model_copy(update={"person": person, "week": query.week or entry.date}))
        tasks = await find_tasks(request, conn, view)
        people = dict(await own.list_people(conn)) if person is not None else {}
    present = (entry.task_id, f"{entry.task} · {entry.customer}")
    return page(
        request,
        "entry.html",
        status=status,
        entry=entry,
        view=view,
        form=form,
        tasks=[present, *(task for task in tasks if task[0] != entry.task_id)],
        start=to_local(entry.start_time, zone),
        end=to_local(entry.end_time, zone),
        owner_name=people.get(entry.user_id, NO_ACCESS) if person is not None else "",
    )
