"""How a call of Slack's Web API fails."""

from schemas.errors import ServerFailed
from schemas.slack.access.words import words


class SlackRefused(Exception):
    """Slack refused the call, and a repeated call would be refused too; `code` is Slack's error code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Slack refused the call: {code}")
        self.code = code


class SlackAccessLost(SlackRefused):
    """Slack refuses the method to the bot token: it is not valid, or lacks a scope. A repeated call succeeds once an admin has
    fixed that. `needed`: the scopes of which the call needs one, separated by commas; empty: Slack names none."""

    def __init__(self, code: str, *, method: str, needed: str) -> None:
        super().__init__(code)
        self.method, self.needed = method, needed

    @property
    def for_user(self) -> str:
        """What a person reads who has caused the call."""
        return words(self.code, self.needed).for_user


class SlackUnavailable(ServerFailed):
    """Slack did not answer, or answered with a server error. `not_sent` if the request certainly did not reach Slack;
    `answered` if Slack has answered that it did not do what the request asked for."""

    server = "Slack"

    def __init__(self, why: str, *, not_sent: bool = False, answered: bool = False) -> None:
        super().__init__(f"Slack is unavailable: {why}")
        self.not_sent, self.answered = not_sent, answered
