"""The registry of handlers: which function handles which message."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from actors.runtime.deliveries import Delivery
from actors.runtime.external_calls import ExternalCall
from schemas.messages import Message
from schemas.postgres.connection import Connection

Function = TypeVar("Function", bound=Callable[..., Awaitable[None]])
InOneCall = Callable[[Connection, Delivery], Awaitable[bool]]
Together = Callable[[Connection, Sequence[Delivery]], Awaitable[set[UUID]]]


@dataclass(frozen=True)
class Handler:
    """The model of a message, and the function that handles it: `function(conn, message)`, or `function(call)` if it
    `calls_out`.

    `in_one_call`, `together`: see `handles`.
    """

    model: type[Message]
    function: Callable[..., Awaitable[None]]
    calls_out: bool
    in_one_call: InOneCall | None = None
    together: Together | None = None


HANDLERS: dict[str, Handler] = {}  # by the actor's name; filled by the imports in actors/__main__.py


def handles(
    model: type[Message], *, calls_out: bool = False, in_one_call: InOneCall | None = None, together: Together | None = None
) -> Callable[[Function], Function]:
    """Registers the handler of a message. The function has the message's name in snake_case. Its parameters say what it needs:

    - `(conn, message)`: it runs in the transaction that also marks the message as done. So its effect in Postgres happens
    exactly   once.

    `in_one_call` does the same as the function and the rest of this transaction, in one statement. It is tried first. For an
    unusual delivery it has no effect and returns False: then the function is called.

    `together` does that for several deliveries, none of which RabbitMQ has delivered before, in one transaction. It returns the
    ids of the messages that it has handled. The others are handled alone.

    With `calls_out=True` the handler calls another server, without a transaction. A call may happen more than once.

    - `(message)`: one call that needs nothing from Postgres and stores nothing.
    - `(message, call)`: it also needs the id of the message, or has to know whether an earlier call may have succeeded.
    - `(call)`: it reads before the call, or writes after it (actors/runtime/external_calls.py).

    Raises TypeError for another name or other parameters.
    """

    def register(function: Function) -> Function:
        name = getattr(function, "__name__", "")
        if name != model.actor:
            raise TypeError(f"the actor of {model.__name__} is called {model.actor}, not {name}")
        parameters = tuple(inspect.signature(function).parameters)
        HANDLERS[model.actor] = Handler(
            model, _adapted(function, parameters, calls_out=calls_out), calls_out, in_one_call, together
        )
        return function

    return register


def _adapted(function: Function, parameters: tuple[str, ...], *, calls_out: bool) -> Callable[..., Awaitable[None]]:
    if parameters == (("call",) if calls_out else ("conn", "message")):
        return function
    if calls_out and parameters in (("message",), ("message", "call")):
        return _one_call(function, parameters)
    allowed = "(message), (message, call) or (call)" if calls_out else "(conn, message)"
    raise TypeError(f"the parameters of {function.__name__} must be {allowed}, not ({', '.join(parameters)})")


def _one_call(function: Function, parameters: tuple[str, ...]) -> Callable[[ExternalCall], Awaitable[None]]:
    async def handler(call: ExternalCall) -> None:
        async with call.start() as (_, message):
            arguments: dict[str, Any] = {"message": message, "call": call}
        async with call.timeout():
            await function(*(arguments[name] for name in parameters))
        async with call.complete():
            pass

    return handler
