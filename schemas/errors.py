"""What the domain refuses, in its own words: it knows no HTTP (api/problems.py maps these) and no queue."""

from dataclasses import dataclass, field
from typing import Any

from schemas.base import Row


class StintError(Exception):
    """The base of every refusal; its text is written for the person who made the request."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(StintError):
    """The row does not exist, or is not this user's to know about; the two are never told apart."""


class Forbidden(StintError):
    """The user may know of the row but may not do this to it."""


class Conflict(StintError):
    """The row's present state does not allow this; `facts` travels to the client beside the sentence."""

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.facts = facts


class Unavailable(StintError):
    """Somebody whom we depend on does not answer, and may again in so many seconds; nothing was changed."""

    def __init__(self, detail: str, *, seconds: int = 1) -> None:
        super().__init__(detail)
        self.seconds = seconds


class TooMany(StintError):
    """A limit is used up; there is room again in so many seconds."""

    def __init__(self, detail: str, *, seconds: int) -> None:
        super().__init__(detail)
        self.seconds = seconds


@dataclass(frozen=True)
class FieldError:
    """One bad input: where it stands (dotted path) and what to do about it."""

    path: str
    message: str


class FieldProblem(Row):
    """One bad input: where it stands and what to do about it."""

    path: str
    message: str


class Invalid(StintError):
    """The request is well-formed and makes no sense; one FieldError per reason."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.errors = [FieldError(path, message)]


def in_our_words(message: str) -> str:
    """What a validator says of a value, as it is said to people."""
    return {
        "Extra inputs are not permitted": "There is no such field.",
        "Field required": "This field is needed.",
    }.get(message, message.removeprefix("Value error, "))


@dataclass
class RetryLater(Exception):
    """Raised by a handler that was told when to come back (Retry-After): costs no attempt."""

    seconds: float
    reason: str = field(default="asked to come back later")

    def __str__(self) -> str:
        return self.reason


class Permanent(Exception):
    """Raised by a handler for which no retry can help: the message is dead at once."""


class Misfit(Permanent):
    """The body of a message does not fit its model; `path` is the first field that is wrong."""

    def __init__(self, detail: str, *, path: str) -> None:
        super().__init__(detail)
        self.path = path
