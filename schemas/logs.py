"""Structured logs: one JSON object per line on stderr, for Stint's own loggers and those of libraries."""

import json
import logging
import math
import sys
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

# Fields that are added to each line: the request's id in the API, the message's id and actor in a worker.
log_context: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)

# the attributes that every record has; others are the fields that its caller added by `extra`
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime"}


def _as_text(value: object) -> str:
    return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)


_encoder = msgspec.json.Encoder(enc_hook=_as_text)


def encode_fields(fields: dict[str, Any]) -> bytes:
    """The fields as one line of JSON in ASCII. A value that has no form in JSON is written as its text, and a number that is
    not finite as null. A field is left out only if that fails, too."""
    try:
        line = _encoder.encode(fields)
        if line.isascii():
            return line
    except Exception:  # noqa: S110 - half a surrogate pair, for example
        pass
    encoded = []
    for name, value in fields.items():
        with suppress(Exception):  # a value that contains itself, or whose text cannot be made
            encoded.append(f"{_in_ascii(name)}:{_in_ascii(value)}")
    return f"{{{','.join(encoded)}}}".encode()


def _in_ascii(value: object) -> str:
    return json.dumps(_finite(msgspec.to_builtins(value, enc_hook=_as_text, str_keys=True)), separators=(",", ":"))


def _finite(value: Any) -> Any:
    """The value of JSON, with null for each number that JSON does not have."""
    match value:
        case dict():
            return {name: _finite(item) for name, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case float() if not math.isfinite(value):
            return None
    return value


class JsonHandler(logging.Handler):
    """Writes each record as one line, in one call, before the logging call returns: a process that is killed after that has
    lost nothing."""

    def __init__(self, stream: BinaryIO, process: str) -> None:
        super().__init__()
        self._stream, self._process = stream, process
        self._formatter = logging.Formatter()  # for tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(encode_fields(self._fields(record)) + b"\n")
            self._stream.flush()
        except Exception:
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
        }
        if record.exc_info:
            fields["exc_info"] = self._formatter.formatException(record.exc_info)
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                fields[name] = value
        fields["at"] = datetime.fromtimestamp(record.created, UTC).isoformat()
        fields.update(log_context.get() or {})
        return fields


def configure_logging(process: str) -> None:
    """Writes the lines of all loggers to stderr as JSON, with the name of this process in each."""
    logging.basicConfig(handlers=[JsonHandler(sys.stderr.buffer, process)], level=logging.INFO, force=True)
    # no line has these, and each record would have to find them out
    logging._srcfile = None  # documented under "Optimization" in Python's logging HOWTO
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # pika and dramatiq log each reconnect several times; Stint logs the outage itself
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    # a line for each outgoing request adds nothing to what `messages` records
    logging.getLogger("httpx2").setLevel(logging.WARNING)
