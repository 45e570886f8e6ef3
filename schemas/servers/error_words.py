"""Errors of connections in words for people. The texts of libraries have their types, tuples of addresses, and hosts twice."""

import os
import socket
import ssl
from collections.abc import Iterator

IN_TIME, CLOSED = "no answer in time", "the connection was closed"


def in_words(error: BaseException) -> str:
    """Why a server cannot be used, without its address, such as `Connection refused`. Of an error of a library, its cause is
    told; of one without a cause in the system, only its class."""
    for each in _causes(error):
        if isinstance(each, TimeoutError):
            return IN_TIME
        if isinstance(each, ssl.SSLError):
            reason = str(getattr(each, "reason", None) or "no reason is given")
            return getattr(each, "verify_message", "") or f"TLS fails: {reason.replace('_', ' ').lower()}"
        if isinstance(each, socket.gaierror):
            return "no machine has this name" if each.errno == socket.EAI_NONAME else each.strerror or "its name is not known"
        if isinstance(each, OSError) and (number := _number(each)) is not None:
            return os.strerror(number)
    return CLOSED if isinstance(error, ConnectionError) else type(error).__name__


def address(host: str | None, port: int | None) -> str:
    """As a person writes it."""
    return f"[{host}]:{port}" if host and ":" in host else f"{host or 'localhost'}:{port}"


def _number(error: OSError) -> int | None:
    """The number of a system's error. Of several attempts that asyncio tells in one text, the first has it."""
    if error.errno is not None:
        return error.errno
    number = str(error).partition("[Errno ")[2].partition("]")[0]
    return int(number) if number.isascii() and number.isdecimal() else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(10):  # a chain may be a circle
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
