"""What a delivery is, who handles which message, and the look at the row that comes before any handler begins."""

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from schemas import failures, ledger
from schemas.database import Connection
from schemas.failures import Failure
from schemas.ledger import Record, State
from schemas.messages import Message, check_body

Function = TypeVar("Function", bound=Callable[..., Awaitable[None]])


@dataclass(frozen=True)
class Handler:
    """A message's model and the function that handles it."""

    model: type[Message]
    function: Callable[..., Awaitable[None]]
    calls_out: bool


HANDLERS: dict[str, Handler] = {}


def handles(model: type[Message], *, calls_out: bool = False) -> Callable[[Function], Function]:
    """Registers the actor of a message. Its name must be the message's in snake_case.

    An ordinary handler gets `(conn, message)` inside the transaction that also marks the message done, so its effect in
    Postgres happens exactly once. A call-out gets a `CallOut` (actors/calling.py) and holds no transaction across the call.
    """

    def register(function: Function) -> Function:
        name = getattr(function, "__name__", "")
        if name != model.actor:
            raise TypeError(f"the actor of {model.__name__} is called {model.actor}, not {name}")
        HANDLERS[model.actor] = Handler(model, function, calls_out)
        return function

    return register


@dataclass(frozen=True)
class Delivery:
    """What RabbitMQ handed to this worker: a row's id, which of its publications, and whether a consumer had it before; and
    the bytes and headers that said so, as they came."""

    id: UUID
    publication: int
    actor: str
    queue: str
    redelivered: bool
    body: bytes
    headers: dict[str, Any]


@dataclass(frozen=True)
class Work:
    """A locked row whose turn it is, and its body as the handler's message."""

    record: Record
    message: Message

    may_begin: bool  # False for a message under suspicion, until `note_beginning` has committed that it begins


async def take(conn: Connection, delivery: Delivery, *, worker: str, base_seconds: float, noted: bool = False) -> Work | None:
    """Locks the row and looks: the work to do now, or None for what is settled by leaving it.

    None for a duplicate; for an id that is none of ours (kept as a foreign letter); and for work whose worker died of it,
    which goes to the back of the queue with that on its account. Raises Misfit for a body that no longer fits its model.
    `noted` says that this very delivery has just been through `note_beginning`.
    """
    record = await ledger.lock(conn, delivery.id)
    if record is None or (record.actor, record.queue) != (delivery.actor, delivery.queue):
        reason = "no message of ours has this id, actor and queue"
        await failures.keep_foreign(conn, queue=delivery.queue, reason=reason, body=delivery.body, headers=delivery.headers)
        return None
    if not record.is_delivery(delivery.publication):
        return None
    if delivery.redelivered and not noted and record.begun == record.publication:
        await _blame(conn, record, worker=worker, base_seconds=base_seconds)
        return None
    above_suspicion = record.begun is None and not delivery.redelivered
    return Work(record, check_body(record.actor, record.body), may_begin=noted or above_suspicion)


async def _blame(conn: Connection, record: Record, *, worker: str, base_seconds: float) -> None:
    """Puts the worker's death on the message's account; the first proven one together with the death that raised the
    suspicion, so that the fifth death makes it dead."""
    failure = _worker_died(worker)
    state = await failures.fail(conn, record, failure, base_seconds=base_seconds)
    if record.crashes == 0 and state is State.ready and (again := await ledger.lock(conn, record.id)) is not None:
        await failures.fail(conn, again, failure, base_seconds=base_seconds)


# Messages under suspicion run one at a time in each process: were two of them to begin together, the innocent one would be
# blamed, too, as often as it takes to be dead.
quarantine = threading.Lock()
QUARANTINE_SECONDS = 0.5  # until the next try, when another one is in there


async def note_beginning(conn: Connection, delivery: Delivery) -> bool:
    """For a message under suspicion, because a worker died while it had this one or others: commits that it begins now,
    alone, so that its next death is put on its account and on nobody else's.

    True: the caller holds the `quarantine` and lets go of it at the end. False: it was busy, and the message is ready again
    for a little later; no thread waits, since healthy work needs it.
    """
    alone = quarantine.acquire(blocking=False)
    try:
        async with conn.transaction():
            record = await ledger.lock(conn, delivery.id)
            if record is not None and record.is_delivery(delivery.publication):
                if alone:
                    await ledger.mark_begun(conn, record.id)
                else:
                    await ledger.postpone(conn, record.id, seconds=QUARANTINE_SECONDS)
    except BaseException:
        if alone:
            quarantine.release()
        raise
    return alone


def _worker_died(worker: str) -> Failure:
    return Failure(
        error_class="WorkerDied",
        error="the worker that had begun this message ended before it did",
        traceback="",
        worker=worker,
        crash=True,
    )
