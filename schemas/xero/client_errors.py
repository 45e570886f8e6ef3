"""Errors of calls to Xero. Their texts are shown to people, and never contain a request, a response header or a token."""

from typing import ClassVar

from schemas.errors import ServerFailed
from schemas.xero.access.problems import AccessProblem


class XeroError(Exception):
    """A call to Xero failed."""


class NotSent(XeroError, ServerFailed):
    """Xero could not be reached: the call had no effect."""

    server = "Xero"


class OutcomeUnknown(XeroError, ServerFailed):
    """No complete answer arrived, or it was a server error: the call may have had its effect, or may have it a little later."""

    server: ClassVar[str | None] = "Xero"


class Offline(OutcomeUnknown):
    """Xero says that the organisation is offline."""

    server = None


class RateLimited(XeroError):
    """A rate limit of Xero's is reached, for `seconds`; the call had no effect. `limit`: which, if Xero says so: minute, day,
    concurrent, or appminute."""

    def __init__(self, text: str, *, seconds: float, limit: str | None = None) -> None:
        super().__init__(text)
        self.seconds, self.limit = seconds, limit


class Refused(XeroError):
    """Xero refused the call (4xx): it had no effect, and would have none if it were repeated. `fields`: those that Xero names
    as the reason."""

    def __init__(self, text: str, fields: tuple[str, ...] = (), *, status: int) -> None:
        super().__init__(text)
        self.fields, self.status = fields, status

    @property
    def may_be_for_user(self) -> bool:
        """Whether the user whom an entry names may be the reason: Xero names them, or no other field."""
        return self.status == 400 and (not self.fields or any("user" in text.lower() for text in (*self.fields, str(self))))


class Unauthorized(Refused):
    """Xero refuses access (401, 403): to this call, or to all. `problem`: why, if its answer says so."""

    def __init__(self, text: str, *, status: int, problem: AccessProblem | None = None) -> None:
        super().__init__(text, status=status)
        self.problem = problem

    @property
    def is_token_invalid(self) -> bool:
        """Whether a new access token may help."""
        return self.status == 401 and self.problem is None


class DoesNotExist(Refused):
    """Xero has no such project, task or time entry."""
