"""A direct message to one user, before their account in Slack is known."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DirectMessage:
    """The e-mail address of the user, the text for notifications, and the blocks."""

    email: str
    text: str
    blocks: list[dict[str, Any]]


@dataclass(frozen=True)
class Wait:
    """Instead of a message: it is too early for it, by that many seconds."""

    seconds: float
