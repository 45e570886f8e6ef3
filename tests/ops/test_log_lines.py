"""The lines of the logs: one JSON object each, whatever is logged."""

import io
import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from schemas.logs import JsonHandler, log_context

ID = UUID(int=1)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("has no text")


@contextmanager
def logger() -> Iterator[tuple[logging.Logger, io.BytesIO]]:
    written = io.BytesIO()
    handler, log = JsonHandler(written, "api"), logging.getLogger("stint.test")
    log.propagate, log.handlers, log.level = False, [handler], logging.INFO
    try:
        yield log, written
    finally:
        log.propagate, log.handlers, log.level = True, [], logging.NOTSET


def line_of(message: object, *arguments: object, **extra: object) -> dict[str, Any]:
    with logger() as (log, written):
        log.info(message, *arguments, extra=extra)
    line = written.getvalue()
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_a_line_has_its_fields_in_this_order() -> None:
    token = log_context.set({"request": "r1"})
    try:
        line = line_of("%s %d", "GET", 200, path="/api/me", milliseconds=1.5)
    finally:
        log_context.reset(token)

    assert list(line) == ["level", "logger", "message", "process", "path", "milliseconds", "at", "request"]
    assert line["at"].endswith("+00:00")
    assert [line[name] for name in ("level", "logger", "message", "process", "path", "milliseconds", "request")] == [
        "INFO", "stint.test", "GET 200", "api", "/api/me", 1.5, "r1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("\ud800", "\ud800"),  # half a surrogate pair has no UTF-8
        ("line\nbreak \x9b \u202e é", "line\nbreak \x9b \u202e é"),
        (b"\xff", "/w=="),
        (ID, str(ID)),
        (2**70, 2**70),
        (ValueError("wrong"), "ValueError: wrong"),
        (int, "<class 'int'>"),
        ({ID: {"\udfff": [b"a", None]}}, {str(ID): {"\udfff": ["YQ==", None]}}),
    ],
)
def test_any_value_is_written(value: object, written: object) -> None:
    line = line_of("it is %s", "\udc00", value=value)
    assert line["message"] == "it is \udc00"
    assert line["value"] == written
    assert line_of("plain", value=value)["value"] == written


def test_a_value_that_cannot_be_written_costs_only_itself() -> None:
    endless: list[object] = []
    endless.append(endless)
    for value in (endless, Unprintable(), [Unprintable()]):
        line = line_of("kept", value=value, path="/é", status=500)
        assert (line["level"], line["message"], line["path"], line["status"]) == ("INFO", "kept", "/é", 500)
        assert "value" not in line


@pytest.mark.parametrize("message", ["plain", "ä", "half \ud800"])
def test_a_number_that_json_does_not_have_is_null(message: str) -> None:
    line = line_of(message, value=math.nan, several={"a": [math.inf, 1.5]})
    assert (line["message"], line["value"], line["several"]) == (message, None, {"a": [None, 1.5]})


def test_a_line_has_the_traceback_of_its_exception() -> None:
    with logger() as (log, written):
        try:
            raise ValueError("half \ud800")
        except ValueError:
            log.exception("failed", stack_info=True)
    line = json.loads(written.getvalue())
    assert line["exc_info"].startswith("Traceback") and line["exc_info"].endswith("ValueError: half \ud800")
    assert "test_a_line_has_the_traceback" in line["stack_info"]


def test_a_process_that_is_killed_loses_no_line() -> None:
    program = """
import logging, os, signal
from schemas.logs import configure_logging
configure_logging("api")
for number in range(100):
    logging.getLogger("stint").info("number=%d", number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()}, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert [json.loads(line)["message"] for line in ended.stderr.splitlines()] == [f"number={n}" for n in range(100)]
