"""What can be wrong at RabbitMQ: a connection is lost, cannot be opened, or accepts no messages; a queue is of another kind."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException, AMQPConnectorStackTimeout

from schemas.servers.error_words import CLOSED, IN_TIME, in_words


@dataclass(frozen=True)
class Problem:
    """Why RabbitMQ cannot be used. The codes are:

    - `unreachable`: there is no connection;
    - `refused`: RabbitMQ refuses the login or the virtual host;
    - `tls`: the certificate is not valid, for example;
    - `blocked`: RabbitMQ accepts no messages because of an alarm;
    - `unconfirmed`: RabbitMQ does not confirm messages.
    """

    code: str
    details: str  # in the words of RabbitMQ or of the system

    def __str__(self) -> str:
        return f"{self.code}: {self.details}"


class ConnectionLost(Exception):
    """The connection is lost, or could not be opened. Messages without a confirm may or may not have arrived."""

    def __init__(self, text: str, code: str = "unreachable") -> None:
        super().__init__(text)
        self.problem = Problem(code, text)


# What pika raises, and what `Amqp` raises, if a connection is lost or cannot be opened. pika's error for a server that is
# silent during the handshake, for example, is no AMQPError.
LOST = (ConnectionLost, pika.exceptions.AMQPError, AMQPConnectorException, OSError)


def lost(reason: BaseException) -> ConnectionLost:
    """The ConnectionLost for an error that a connection was lost with, or could not be opened with: one of LOST."""
    if isinstance(reason, ConnectionLost):
        return reason
    causes = list(_causes(reason))  # the last is the innermost: its words are the clearest
    for cause in causes:
        if isinstance(cause, pika.exceptions.ProbableAuthenticationError | pika.exceptions.ProbableAccessDeniedError):
            # its text contains RabbitMQ's words in quotes: (403) 'ACCESS_REFUSED - Login was refused …'
            refusal = str(cause).partition("'")[2].rpartition("'")[0] or str(cause)
            return ConnectionLost(refusal, "refused")
        if isinstance(cause, ssl.SSLError):
            return ConnectionLost(in_words(cause), "tls")
        if isinstance(cause, pika.exceptions.ConnectionBlockedTimeout):
            return ConnectionLost(str(cause), "blocked")
    return ConnectionLost(_words(causes[-1]))


def _words(cause: BaseException) -> str:
    if isinstance(cause, OSError):
        return in_words(cause)
    if isinstance(cause, AMQPConnectorStackTimeout):
        return IN_TIME
    if isinstance(cause, pika.exceptions.IncompatibleProtocolError):
        return "each connection is closed immediately"
    if isinstance(cause, pika.exceptions.StreamLostError):
        return CLOSED
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then all errors that it contains."""
    yield error
    inner = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    for each in dict.fromkeys(one for one in inner if isinstance(one, BaseException)):
        yield from _causes(each)


def describe_difference(queue: str, refusal: str) -> str:
    """A sentence without full stop: how the queue is, and how Stint would declare it. `refusal`: RabbitMQ's words.

    For RabbitMQ's words in another form, the sentence contains them as they are.
    """
    # inequivalent arg 'x-queue-type' for queue 'timers' in vhost '/': received none but current is the value 'quorum' of …
    name = refusal.partition("inequivalent arg '")[2].partition("'")[0]
    declared, _, current = refusal.partition(": received ")[2].partition(" but current is ")
    if not (name and current):
        return f"The queue {queue} is not as Stint would declare it: {refusal}"
    if name == "x-queue-type":
        return f"The queue {queue} is of the type {_value(current, 'classic')}, and STINT_QUEUE_TYPE says {_value(declared)}"
    return f"The queue {queue} has {name}={_value(current)}, and Stint would declare {_value(declared)}"


def _value(words: str, none: str = "none") -> str:
    """The value in RabbitMQ's words, which are like `the value 'quorum' of type 'longstr'`, `'quorum'`, `none` or `true`.

    `none`: what to return for `none`.
    """
    if "'" in words:
        return words.split("'")[1]
    return none if words == "none" else words
