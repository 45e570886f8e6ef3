"""How a call of Slack's Web API fails."""

import re
from typing import Any

from schemas.errors import RetryAfter, ServerFailed
from schemas.slack.access.words import CODES, scope_names, words

MAX_RETRY_AFTER_SECONDS = 3600.0
RATE_LIMITED = "Slack limits the rate of calls"
# the error codes of a fault inside Slack, not of a wrong request
SERVER_ERRORS = {
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
    "unknown_error",
}


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


def from_response(response: Any, method: str) -> Exception:
    """The exception for an answer of the Web API that is an error, or that the SDK takes for one."""
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    if status == 429:
        return RetryAfter(retry_after_seconds(response.headers), RATE_LIMITED)
    data = getattr(response, "data", None)
    code = str(data.get("error")) if isinstance(data, dict) and data.get("error") else ""
    if status >= 500 or not code or code in SERVER_ERRORS:
        return SlackUnavailable(code or f"status {status}", answered=bool(code) or status >= 500)
    if code in CODES:
        needed = data.get("needed") if isinstance(data, dict) else None
        return SlackAccessLost(code, method=method, needed=scope_names(needed))
    return RetryAfter(30, RATE_LIMITED) if code == "ratelimited" else SlackRefused(code)


def retry_after_seconds(headers: Any) -> float:
    """How long Slack asks to wait: 30 seconds if its answer does not name a number, and never longer than an hour."""
    text = str(headers.get("Retry-After", ""))
    return min(max(float(text), 1.0), MAX_RETRY_AFTER_SECONDS) if re.fullmatch(r"[0-9]{1,9}", text) else 30.0
