"""What can come of asking Xero. The texts are for people; nothing of a request, an answer's headers or a token is in them."""


class XeroError(Exception):
    """A call to Xero that did not do what it was to do."""


class NotSent(XeroError):
    """Xero could not be reached: nothing was done there."""


class Unanswered(XeroError):
    """The answer was lost, or said that something went wrong there: it may have been done, now or a little later."""


class Throttled(XeroError):
    """A limit of Xero's is used up, for so many seconds; nothing was done."""

    def __init__(self, text: str, *, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class Refused(XeroError):
    """Xero answered no, and means it; nothing was done."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


class Unauthorized(Refused):
    """The access token is not good, or no longer."""


class Gone(Refused):
    """There is no such project, task or time entry."""
