"""The domain's exceptions. They know nothing of HTTP: api/http/problems.py maps those under StintError to status codes."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from schemas.base import Row


class StintError(Exception):
    """The base class. `detail` is shown to the client that made the request."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ServerFailed(Exception):
    """Another server did not answer a call, or answered with an error of its own. `server`: its name in `./stint status`; None:
    the error says nothing about the server as a whole."""

    server: ClassVar[str | None] = None


class NotFound(StintError):
    """The row does not exist, or this user may not know of it; the client cannot tell which."""


class Forbidden(StintError):
    """The user may know of the row but may not do this to it."""


class Conflict(StintError):
    """The row's current state does not allow this. The client gets `facts` as further fields of the error."""

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.facts = facts


class Unavailable(StintError):
    """Another system does not answer; it may again in `seconds`. Nothing was changed. `reason`: for operators, such as the
    code of a refusal; no client gets it."""

    def __init__(self, detail: str, *, seconds: int = 1, reason: str = "") -> None:
        super().__init__(detail)
        self.seconds, self.reason = seconds, reason


class RateLimited(StintError):
    """A rate limit is exhausted. The same request may succeed in `seconds`."""

    def __init__(self, detail: str, *, seconds: int) -> None:
        super().__init__(detail)
        self.seconds = seconds


class FieldProblem(Row):
    """One invalid input: its path, with dots, and how to correct it."""

    path: str
    message: str


class Invalid(StintError):
    """The request is well-formed, but a value in it is not valid."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.errors = [FieldProblem(path=path, message=message)]

    @classmethod
    def because(cls, errors: list[FieldProblem]) -> "Invalid":
        """With several invalid values."""
        invalid = cls(errors[0].path, " ".join(error.message for error in errors[:5]))
        invalid.errors = errors
        return invalid


@dataclass
class RetryAfter(Exception):
    """Raised in a handler: another system asked to be called again in `seconds` (Retry-After). Not counted as an attempt."""

    seconds: float
    reason: str = field(default="asked to come back later")

    def __str__(self) -> str:
        return self.reason


class NonRetryable(Exception):
    """Raised in a handler: a retry cannot help, so the message is dead at once. Dead letters whose errors have other words are
    another group."""


class InvalidBody(NonRetryable):
    """A message's body does not fit its model. `path` is the first invalid field."""

    def __init__(self, detail: str, *, path: str) -> None:
        super().__init__(detail)
        self.path = path
