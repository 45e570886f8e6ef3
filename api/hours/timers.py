"""Starting and stopping timers."""

import contextlib
import json
from typing import Annotated, Any
from uuid import UUID

from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from api.auth.auth import require_internal
from api.dependencies import ApiRequest
from api.http.responses import created, row_response
from api.outcome_waiter import OutcomeWaiter
from schemas.hours import timer_stops, timers
from schemas.hours.timer_stops import Stop, Stopped, StopReceipt, TimerStop
from schemas.hours.timers import StartedTimer, StartTimer
from schemas.outbox.outbox import State
from schemas.postgres.connection import UNREACHABLE
from schemas.postgres.pool import Database

Wait = Annotated[
    float | None,
    QueryParameter(
        name="wait",
        ge=0,
        le=10,
        description="Seconds (0 to 10) to wait for the entry to be on its bill",
        schema_extra={"minimum": 0},  # Litestar leaves out a minimum of 0
    ),
]


@post(
    "/api/tasks/{task_id:str}/start",
    summary="Start a timer",
    guards=[require_internal],
    responses={200: ResponseSpec(StartedTimer, description="The timer was running already", generate_examples=False)},
)
async def start_timer(
    request: ApiRequest, task_id: FromPath[UUID], data: JSONBody[StartTimer | None] = None
) -> Response[StartedTimer]:
    """Starts your timer on the task. A timer that runs on another task is stopped, and returned in `stopped`. If your timer
    runs on this task already, it is returned unchanged, with 200."""
    async with request.database.connection() as conn:
        timer, started = await timers.start(conn, task_id, user_id=request.user.id, notes=data.notes if data else "")
    return created(timer, f"/api/active-timers/{request.user.id}") if started else row_response(timer)


@post(
    "/api/tasks/{task_id:str}/stop",
    summary="Stop a timer",
    guards=[require_internal],
    status_code=202,
    responses={200: ResponseSpec(Stopped, description="With `wait`: the entry is on its bill", generate_examples=False)},
)
async def stop_timer(
    request: ApiRequest, task_id: FromPath[UUID], wait: Wait = None, data: JSONBody[TimerStop | None] = None
) -> Response[Stop]:
    """Stops your timer on the task: now, or at `endTime` if you forgot to stop it. An `endTime` is not before the start, and
    not in the future (one minute is allowed). The answer is final: a time entry with exactly these values follows.

    A repeated stop gets the same answer until the task is started again. With other values it is 409. With `timerId` it does
    not stop a timer that was started since: it is 409."""
    receipt = None
    async with request.database.connection() as conn:
        if data in (None, TimerStop()):
            receipt = await timer_stops.stop_now(conn, task_id, user_id=request.user.id)
        if receipt is None:
            async with conn.transaction():
                receipt = await timer_stops.stop(conn, task_id, data, user_id=request.user.id)
    return await stop_response(receipt, request.database, request.outcomes, wait)


async def stop_response(
    receipt: StopReceipt, database: Database, outcomes: OutcomeWaiter, wait: float | None
) -> Response[Stop]:
    """The answer to a committed stop: 202, or with `wait` 200 once the entry is on its bill."""
    if wait and await outcomes.wait_for(receipt.message_id, seconds=wait) is State.done:
        outcome = None
        with contextlib.suppress(*UNREACHABLE):  # the stop is committed, even if its entry cannot be read now
            async with database.connection() as conn:
                outcome = await timer_stops.get_entry_and_bill(conn, receipt.stop.entry_id)
        if outcome is not None:
            made: dict[str, Any] = json.loads(outcome)
            return row_response(Stopped.model_validate(receipt.stop.model_dump() | made))
    return row_response(receipt.stop, 202)
