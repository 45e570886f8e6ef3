"""Start, switch, change and stop a timer: the own one, or as an admin somebody else's."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Response, post
from pydantic import ConfigDict, Field

from api.auth.auth import require_internal
from api.console.forms import FormModel, read_form, read_query
from api.console.hours.local_times import LocalTime, as_hours, is_same, to_utc
from api.console.hours.week import HoursQuery, hours_page, view_of
from api.console.pages import redirect
from api.dependencies import ApiRequest
from schemas.base import Text
from schemas.hours import timer_stops, timers
from schemas.hours.timer_stops import TimerStop
from schemas.hours.timers import StartedTimer, TimerChange
from schemas.hours.weeks import own
from schemas.outbox.outbox import State

WAIT_SECONDS = 3.0  # for the entry of a stop
IN_A_MOMENT = "Its entry appears in a moment."


class StartForm(FormModel):
    """What starts a timer; the form has also the fields that log hours."""

    model_config = ConfigDict(extra="ignore")

    task_id: UUID
    notes: Text = ""


class StopForm(FormModel):
    """Which timer is stopped, and when it ended; without an end: now. Notes that are left out are kept."""

    UNSEEN = frozenset({"timer_id"})

    timer_id: UUID
    end_time: LocalTime | None = None


class DiscardForm(FormModel):
    """Which timer is discarded, as it was shown."""

    UNSEEN = frozenset({"timer_id", "version"})

    timer_id: UUID
    version: Annotated[int, Field(ge=1, le=2**53)]


class TimerForm(FormModel):
    """What the timer becomes."""

    UNSEEN = frozenset({"task_id", "version"})

    task_id: UUID
    start_time: LocalTime
    notes: Text = ""
    version: Annotated[int, Field(ge=1, le=2**53)]


@post("/console/hours/start", guards=[require_internal], status_code=303)
async def start(request: ApiRequest) -> Response[bytes]:
    """Starts a timer on the task; one on another task is stopped."""
    query, form = read_query(request, HoursQuery), await read_form(request, StartForm)
    view = await view_of(request, query)
    if form.value is not None:
        sent = form.value
        with form.catching():
            timer, started = await _start(request, sent, view.owner_id, is_own=view.person is None)
            words = "Started." if started else "This timer is running already."
            if timer.stopped is not None:
                words = f"Started. The timer before it was stopped after {as_hours(timer.stopped.duration)}. {IN_A_MOMENT}"
            return redirect(view.link(), words)
    return await hours_page(request, query, status=422, work=form)


async def _start(request: ApiRequest, sent: StartForm, owner_id: UUID, *, is_own: bool) -> tuple[StartedTimer, bool]:
    if is_own:
        async with request.database.connection() as conn:
            return await timers.start(conn, sent.task_id, user_id=owner_id, notes=sent.notes)
    change = TimerChange.model_validate({"taskId": sent.task_id} | ({"notes": sent.notes} if sent.notes else {}))
    async with request.database.transaction() as conn:
        return await timers.start_or_change(conn, owner_id, change, by=request.user)


@post("/console/hours/stop", guards=[require_internal], status_code=303)
async def stop(request: ApiRequest) -> Response[bytes]:
    """Stops the timer that the page showed: now, or at an earlier time. Waits a little for its entry."""
    query, form = read_query(request, HoursQuery), await read_form(request, StopForm)
    view = await view_of(request, query)
    if form.value is not None:
        sent = form.value
        body: dict[str, Any] = {"timerId": sent.timer_id}
        with form.catching():
            if sent.end_time is not None:
                body["endTime"] = to_utc(sent.end_time, request.settings.stint_timezone, "endTime")
            async with request.database.transaction() as conn:
                receipt = await timer_stops.stop_any(
                    conn, TimerStop.model_validate(body), user_id=view.owner_id, by=request.user.id
                )
            done = await request.outcomes.wait_for(receipt.message_id, seconds=WAIT_SECONDS) is State.done
            words = f"Stopped: {as_hours(receipt.stop.duration)}. {'' if done else IN_A_MOMENT}"
            return redirect(view.link(), words.strip())
    return await hours_page(request, query, status=422, stop=form)


@post("/console/hours/timer", guards=[require_internal], status_code=303)
async def change_timer(request: ApiRequest) -> Response[bytes]:
    """Changes the start and the notes of the running timer, unless it has changed since it was shown."""
    query, form = read_query(request, HoursQuery), await read_form(request, TimerForm)
    view = await view_of(request, query)
    async with request.database.connection() as conn:
        shown = await own.read_timer(conn, view.owner_id)
    if form.value is not None:
        sent, zone = form.value, request.settings.stint_timezone
        body: dict[str, Any] = {"taskId": sent.task_id, "notes": sent.notes, "version": sent.version}
        with form.catching():
            if shown is None or not is_same(sent.start_time, shown.start_time, zone):
                body["startTime"] = to_utc(sent.start_time, zone, "startTime")
            async with request.database.transaction() as conn:
                await timers.start_or_change(conn, view.owner_id, TimerChange.model_validate(body), by=request.user)
            return redirect(view.link(), "Saved.")
    return await hours_page(request, query, status=422, timer_form=form)


@post("/console/hours/discard", guards=[require_internal], status_code=303)
async def discard(request: ApiRequest) -> Response[bytes]:
    """Deletes the timer that the page showed without making an entry, unless it has changed since."""
    query, form = read_query(request, HoursQuery), await read_form(request, DiscardForm)
    view = await view_of(request, query)
    if form.value is not None:
        with form.catching():
            async with request.database.transaction() as conn:
                await timers.discard(conn, view.owner_id, timer_id=form.value.timer_id, version=form.value.version)
            return redirect(view.link(), "Discarded. Nothing was recorded.")
    return await hours_page(request, query, status=422, stop=form)
