"""Structured logs: one JSON object per line on stderr, for Stint's own loggers and those of libraries."""

import logging
import sys
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

# Fields that are added to each line: the request's id in the API, the message's id and actor in a worker.
log_context: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)


class _Formatter(JsonFormatter):
    def add_fields(self, log_data: dict[str, object], record: logging.LogRecord, message_dict: dict[str, object]) -> None:
        super().add_fields(log_data, record, message_dict)
        log_data.update(log_context.get() or {})


def configure_logging(process: str) -> None:
    """Writes the lines of all loggers to stderr as JSON, with the name of this process in each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp="at",
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields={"process": process},
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # pika and dramatiq log each reconnect several times; Stint logs the outage itself
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    # a line for each outgoing request adds nothing to what `messages` records
    logging.getLogger("httpx2").setLevel(logging.WARNING)
