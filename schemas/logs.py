"""Structured logs: one JSON object a line on stderr, from our code and from the libraries alike."""

import logging
import sys
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

# What the line is about: the API puts the request's id here, a worker the message's.
about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


class _Formatter(JsonFormatter):
    def add_fields(self, log_data: dict[str, object], record: logging.LogRecord, message_dict: dict[str, object]) -> None:
        super().add_fields(log_data, record, message_dict)
        log_data.update(about.get() or {})


def start_logging(process: str) -> None:
    """Sends every logger's lines to stderr as JSON, each carrying the name of this process."""
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
    # pika and dramatiq tell of every reconnect several times over; what matters of it our own lines say
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    # one line for each request that goes out says nothing that the ledger does not
    logging.getLogger("httpx").setLevel(logging.WARNING)
