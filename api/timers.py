"""Starting and stopping timers."""

import contextlib
import json
from typing import Annotated, Any
from uuid import UUID

from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from api.auth import internal
from api.dependencies import TheDatabase, TheOutcomes, TheUser
from schemas import timers
from schemas.database import UNREACHABLE
from schemas.ledger import State
from schemas.timers import StartedTimer, StartTimer, Stop, Stopped

Wait = Annotated[
    float | None,
    QueryParameter(
        name="wait",
        ge=0,
        le=10,
        description="Seconds (0 to 10) to hold the answer until the entry is on its bill",
        schema_extra={"minimum": 0},  # which the framework would leave out
    ),
]


@post(
    "/api/tasks/{task_id:uuid}/start",
    summary="Start a timer",
    guards=[internal],
    responses={200: ResponseSpec(StartedTimer, description="That very timer was running already", generate_examples=False)},
)
async def start_timer(
    database: TheDatabase,
    user: TheUser,
    task_id: FromPath[UUID],
    data: JSONBody[StartTimer | None] = None,
) -> Response[StartedTimer]:
    """Starts your timer on the task. A timer that runs on another task is stopped on the way and returned under `stopped`; one
    that runs on this task is returned as it is, with 200."""
    async with database.transaction() as conn:
        timer, started = await timers.start(conn, task_id, user_id=user.id, notes=data.notes if data else "")
    return Response(timer, status_code=201 if started else 200)


@post(
    "/api/tasks/{task_id:uuid}/stop",
    summary="Stop a timer",
    guards=[internal],
    status_code=202,
    responses={200: ResponseSpec(Stopped, description="With `wait`: the entry is on its bill", generate_examples=False)},
)
async def stop_timer(
    database: TheDatabase,
    user: TheUser,
    outcomes: TheOutcomes,
    task_id: FromPath[UUID],
    wait: Wait = None,
) -> Response[Stop]:
    """Stops your timer on the task. The answer is final: the end is stamped now, and the time entry with these facts follows.
    The same stop again gives the same answer until the task is started again."""
    async with database.transaction() as conn:
        promise = await timers.stop(conn, task_id, user_id=user.id)
    if wait and await outcomes.of(promise.message_id, seconds=wait) is State.done:
        outcome = None
        with contextlib.suppress(*UNREACHABLE):  # the stop is committed, whether its entry can be read just now or not
            async with database.connection() as conn:
                outcome = await timers.outcome(conn, promise.stop.entry_id)
        if outcome is not None:
            made: dict[str, Any] = json.loads(outcome)
            return Response(Stopped.model_validate(promise.stop.model_dump() | made), status_code=200)
    return Response(promise.stop, status_code=202)
