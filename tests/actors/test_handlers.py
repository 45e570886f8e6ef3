"""The registry of handlers: a worker's handlers do not depend on what it imported, and a handler's parameters say what it
needs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from actors.runtime.external_calls import ExternalCall
from actors.runtime.handlers import HANDLERS, handles
from schemas.messages import MODELS, Message
from schemas.postgres.connection import Connection
from tests.support.installation import CHECKOUT

CODE = """
from actors.runtime.worker import work
from schemas.settings import Settings
work(Settings(), queues={'timers'}, threads=1)
"""


@pytest.mark.processes
def test_a_worker_that_imported_no_handlers_does_not_start() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=CHECKOUT,
        env=os.environ
        | {"DATABASE_URL": "postgresql://nowhere.invalid/", "AMQP_URL": "amqp://nowhere.invalid", "SECRET_KEY": "s" * 32},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "no handler for answer_slack," in result.stderr and "stop_timer" in result.stderr


@pytest.fixture
def model() -> Iterator[type[Message]]:
    class TryHandler(Message, queue="timers"):
        pass

    yield TryHandler
    MODELS.pop("try_handler")
    HANDLERS.pop("try_handler", None)


def test_a_handler_has_the_name_of_its_message(model: type[Message]) -> None:
    async def another_name(conn: Connection, message: Any) -> None: ...

    with pytest.raises(TypeError, match="the actor of TryHandler is called try_handler, not another_name"):
        handles(model)(another_name)


def test_a_handler_that_calls_out_gets_the_parameters_that_it_names(model: type[Message]) -> None:
    async def try_handler(message: Any) -> None: ...

    with pytest.raises(TypeError, match=r"the parameters of try_handler must be \(conn, message\), not \(message\)"):
        handles(model)(try_handler)
    handles(model, calls_out=True)(try_handler)
    assert HANDLERS["try_handler"].function is not try_handler  # its transactions are added

    async def whole_call(call: ExternalCall) -> None: ...

    whole_call.__name__ = "try_handler"
    handles(model, calls_out=True)(whole_call)
    assert HANDLERS["try_handler"].function is whole_call

    async def in_transaction(conn: Connection, message: Any) -> None: ...

    in_transaction.__name__ = "try_handler"
    with pytest.raises(TypeError, match=r"must be \(message\), \(message, call\) or \(call\), not \(conn, message\)"):
        handles(model, calls_out=True)(in_transaction)
