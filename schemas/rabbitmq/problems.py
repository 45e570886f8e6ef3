"""Why a connection to RabbitMQ is lost, cannot be opened, or accepts no messages."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pika.exceptions


@dataclass(frozen=True)
class Problem:
    """Why RabbitMQ cannot be used. `code`: `unreachable`, `refused` (the login, or the virtual host), `tls`, `blocked` (by an
    alarm: it accepts no messages), or `unconfirmed`. `details`: what RabbitMQ or the system says."""

    code: str
    details: str

    def __str__(self) -> str:
        return f"{self.code}: {self.details}"


class ConnectionLost(Exception):
    """The connection is lost, or could not be opened. Messages without a confirm may or may not have arrived."""

    def __init__(self, text: str, code: str = "unreachable") -> None:
        super().__init__(text)
        self.problem = Problem(code, text)


def lost(reason: BaseException) -> ConnectionLost:
    """What pika says of a connection that is lost, or could not be opened: the innermost cause has the words."""
    causes = list(_causes(reason))
    for cause in causes:
        if isinstance(cause, pika.exceptions.ProbableAuthenticationError | pika.exceptions.ProbableAccessDeniedError):
            # its text contains RabbitMQ's words in quotes: (403) 'ACCESS_REFUSED - Login was refused …'
            refusal = str(cause).partition("'")[2].rpartition("'")[0] or str(cause)
            return ConnectionLost(refusal, "refused")
        if isinstance(cause, ssl.SSLError):
            return ConnectionLost(getattr(cause, "verify_message", "") or str(cause), "tls")
        if isinstance(cause, pika.exceptions.ConnectionBlockedTimeout):
            return ConnectionLost(str(cause), "blocked")
    last = causes[-1]
    return ConnectionLost(f"{type(last).__name__}: {last}" if str(last) else type(last).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it contains."""
    yield error
    inner = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    for each in dict.fromkeys(one for one in inner if isinstance(one, BaseException)):
        yield from _causes(each)
