"""Slack's mrkdwn as plain text: what a person sees in Slack, with the addresses of links.

Slack writes mentions and links between angle brackets, such as <@U1|ben> and <https://example.com|the page>, and escapes these
brackets and & elsewhere.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from schemas.slack.escaping import unescape

_REFERENCE = re.compile(r"<([^<>\n]++)>")
_PLACE = re.compile(r"\x00([0-9]{1,6})\x00")  # of a reference, while the marks around it are removed; Slack's JSON has no NUL
_FENCE = "```"
_CODE = re.compile(r"`([^`\n]++)`")
# the marks of bold, italic and struck text touch the text inside, and no word outside
_BOLD = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]++)(?<!\s)\*(?![\w*])")
_ITALIC = re.compile(r"(?<!\w)_(?=[^\s_])([^_\n]++)(?<!\s)_(?!\w)")
_STRUCK = re.compile(r"(?<![\w~])~(?=[^\s~])([^~\n]++)(?<!\s)~(?![\w~])")
_SPECIAL = {"here": "@here", "channel": "@channel", "everyone": "@everyone", "group": "@group"}


class Names:
    """The names of users and channels by their ids in Slack. A label in the text is a name, too, also for later mentions that
    have none. `unknown` collects the ids that were looked for and not found."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known = dict(known or {})
        self.unknown: set[str] = set()

    def user(self, slack_id: str, label: str = "") -> str:
        """The mention of a user, such as "@ben"."""
        return f"@{self._find(slack_id, label) or 'someone'}"

    def channel(self, slack_id: str, label: str = "") -> str:
        """The mention of a channel, such as "#general"."""
        return f"#{self._find(slack_id, label) or 'some-channel'}"

    def group(self, slack_id: str, label: str = "") -> str:
        """The mention of a user group, such as "@developers"."""
        return f"@{self._find(slack_id, label) or 'some-group'}"

    def _find(self, slack_id: str, label: str) -> str:
        label = label.strip().lstrip("@#")
        if label:
            self._known.setdefault(slack_id, label)
        elif slack_id not in self._known:
            self.unknown.add(slack_id)
        return label or self._known.get(slack_id, "")


def to_text(mrkdwn: str, names: Names) -> str:
    """The text as a person sees it: without the marks of bold text and code, with names instead of ids."""
    references: list[str] = []

    def keep(found: re.Match[str]) -> str:
        if found[1][0] not in "@#!" and ":" not in found[1]:
            return found[0]
        references.append(_reference(unescape(found[1]), names))
        return f"\0{len(references) - 1}\0"

    text = unescape(_without_fences(_REFERENCE.sub(keep, mrkdwn)))
    return _PLACE.sub(lambda found: references[int(found[1])] if int(found[1]) < len(references) else "", text)


def link(url: str, label: str) -> str:
    """A link as text: its label and its address, or one of them if both are the same or one is missing."""
    address = url.removeprefix("mailto:").removeprefix("tel:")
    if not url or label.rstrip("/") in (address.rstrip("/"), url.partition("://")[2].rstrip("/")):
        return address or label
    return _labelled(address, label)


def date(timestamp: object, fallback: str) -> str:
    """A date that Slack shows in each person's time zone: its fallback, or the time in UTC."""
    try:
        return fallback or f"{datetime.fromtimestamp(int(str(timestamp)), UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "a date"


def _labelled(address: str, label: str) -> str:
    return f"{label} ({address})" if label.strip() else address


def _without_fences(text: str) -> str:
    """The text without the marks of blocks of code, each of which gets lines of its own, and without the marks outside."""
    parts = text.split(_FENCE)
    if len(parts) % 2 == 0:  # the last one is not closed, and so a part of the text
        parts[-2:] = [_FENCE.join(parts[-2:])]
    text = ""
    for number, part in enumerate(parts):
        part = part.strip("\n") if number % 2 else _without_marks(part)
        if text and part and not text.endswith("\n") and not part.startswith("\n"):
            text += "\n"
        text += part
    return text


def _without_marks(text: str) -> str:
    """The text without the marks of bold, italic and struck text, outside of `code`, and without the marks of code."""
    parts = _CODE.split(text)
    for number in range(0, len(parts), 2):
        for style in (_BOLD, _ITALIC, _STRUCK, _BOLD):  # *_both_* and _*both*_
            parts[number] = style.sub(r"\1", parts[number])
    return "".join(parts)


def _reference(content: str, names: Names) -> str:
    """The text of what is between angle brackets."""
    target, _, label = content.partition("|")
    kind, rest = target[:1], target[1:]
    if kind == "@":
        return names.user(rest, label)
    if kind == "#":
        return names.channel(rest, label)
    if kind == "!":
        return _special(rest, label, names)
    return link(target, label)


def _special(command: str, label: str, names: Names) -> str:
    name, *arguments = command.split("^")
    if name == "subteam" and arguments:
        return names.group(arguments[0], label)
    if name == "date" and arguments:
        shown = date(arguments[0], label)
        return _labelled(arguments[2], shown) if len(arguments) > 2 else shown
    return _SPECIAL.get(name) or label or f"@{name}"
