"""What Slack shows of the time bills to approve: a list with buttons, by consultant and customer.

Slack allows 50 blocks and 3,000 characters in a text, and refuses blocks that are longer than about 12,000 characters together.
What does not fit is counted, and shown after the bills before it are decided.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any
from uuid import UUID

from schemas.slack.approvals import seen
from schemas.slack.approvals.pending import PendingBill, ShownBill
from schemas.slack.views import escape

# Slack sends these ids back with each interaction
APPROVE_BILLS, REJECT_BILLS = "approve_bills", "reject_bills"
MAX_BLOCKS, MAX_TEXT_LENGTH = 50, 3_000
MAX_LENGTH = 10_000  # of all blocks as JSON
MAX_NAME_LENGTH = 40
NOTHING = "There is nothing to approve: no time bill of a day before today is pending."

Dicts = list[dict[str, Any]]


def bill_list(bills: list[PendingBill], *, note: str = "", app_url: str | None) -> tuple[str, Dicts]:
    """The list, as a text for notifications and as blocks. `note` is a text in mrkdwn before it. `bills` are the first ones of
    all; with `app_url` each has a link to its page in the web application."""
    blocks = [section(note)] if note else []
    if not bills:
        return NOTHING, [*blocks, section(NOTHING)]
    heading = _heading(bills)
    listed = _Listed([*blocks, section(f"*{heading}*")], app_url)
    for group in _groups(bills):
        if not listed.add(group):
            break
    if more := bills[0].total_count - listed.shown:
        where = f" <{bills_url(app_url)}|Open all in Stint>." if app_url else ""
        listed.blocks.append(section(f"… and {more:,} more, which are shown here once these are decided.{where}"))
    return heading, listed.blocks


def first_groups(bills: list[PendingBill], most: int, *, app_url: str | None) -> tuple[Dicts, int]:
    """The blocks of at most that many consultants and customers, and how many bills they leave out."""
    if not bills:
        return [section(NOTHING)], 0
    listed = _Listed([section(f"*{_heading(bills)}*")], app_url)
    for group in _groups(bills)[:most]:
        if not listed.add(group):
            break
    return listed.blocks, bills[0].total_count - listed.shown


def _heading(bills: list[PendingBill]) -> str:
    return f"{count(bills[0].total_count)} of days before today to approve: {format_minutes(bills[0].total_minutes)}."


def _groups(bills: list[PendingBill]) -> list[list[PendingBill]]:
    """The bills by consultant and customer."""
    return [list(group) for _, group in groupby(bills, key=lambda bill: (bill.user_id, bill.customer_id))]


@dataclass
class _Listed:
    """The blocks of the list, and how many bills they show."""

    blocks: Dicts
    app_url: str | None
    shown: int = 0

    def add(self, group: list[PendingBill]) -> bool:
        """Adds the bills of one consultant and customer, in as many parts as they need. False if not all of them fit."""
        while group:
            part = self._part(group)
            if part is None:
                return False
            blocks, size = part
            self.blocks += blocks
            self.shown += size
            group = group[size:]
        return True

    def _part(self, group: list[PendingBill]) -> tuple[Dicts, int] | None:
        """Text and buttons of the first bills of the group, as many as fit, and how many that are; None if none fits."""
        best = None
        for size in range(1, len(group) + 1):
            blocks = _group_blocks(group[:size], self.app_url)
            value = blocks[1]["elements"][0]["value"]
            if len(blocks[0]["text"]["text"]) > MAX_TEXT_LENGTH or len(value) > seen.MAX_VALUE_LENGTH:
                break
            together = [*self.blocks, *blocks]
            if len(together) >= MAX_BLOCKS or len(json.dumps(together)) > MAX_LENGTH:  # one block more says what is left out
                break
            best = blocks, size
        return best


def _group_blocks(bills: list[PendingBill], app_url: str | None) -> Dicts:
    first, value = bills[0], seen.to_value(bills)
    head = f"*{name(first.consultant)}* for *{name(first.customer)}*: {format_minutes(first.group_minutes)}"
    head += f" in {count(first.group_count)}" + (f", {len(bills)} of them here" if len(bills) < first.group_count else "")
    text = "\n".join([head, *(f"• {_line(bill, app_url)}" for bill in bills)])
    buttons = [
        {"type": "button", "text": plain("Approve"), "action_id": APPROVE_BILLS, "value": value, "style": "primary"},
        {"type": "button", "text": plain("Reject…"), "action_id": REJECT_BILLS, "value": value},
    ]
    return [
        {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}},
        {"type": "actions", "elements": buttons},
    ]


def _line(bill: ShownBill, app_url: str | None) -> str:
    line = f"{format_day(bill.date)}, {name(bill.pillar)}: {format_minutes(bill.minutes)}"
    if bill.stale:
        line += ", which are being recalculated"
    if bill.overlapping:
        line += ", an entry overlaps" if bill.overlapping == 1 else f", {bill.overlapping} entries overlap"
    return line + (f" · <{bill_url(app_url, bill.id)}|Open>" if app_url else "")


def describe(bill: ShownBill) -> str:
    """One bill in a sentence, in mrkdwn."""
    return f"{format_day(bill.date)}, {name(bill.pillar)}, {format_minutes(bill.minutes)}"


def lines(texts: Iterable[str]) -> str:
    """The texts on a line each, as many as fit, and how many there are more."""
    return _cut(list(texts), lambda more: f"… and {more} more.")


def _cut(texts: list[str], rest: Callable[[int], str]) -> str:
    for size in range(len(texts), 0, -1):
        shown = "\n".join([*texts[:size], *([rest(len(texts) - size)] if size < len(texts) else [])])
        if len(shown) <= MAX_TEXT_LENGTH // 2:  # the list has to fit, too
            return shown
    return "\n".join(texts)[: MAX_TEXT_LENGTH // 2]


def section(text: str) -> dict[str, Any]:
    """A block with a text in mrkdwn."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:MAX_TEXT_LENGTH], "verbatim": True}}


def plain(text: str) -> dict[str, Any]:
    """A text that is shown as it is."""
    return {"type": "plain_text", "text": text, "emoji": False}


def bill_url(app_url: str, bill_id: UUID) -> str:
    """The bill's page in the web application."""
    return f"{bills_url(app_url)}/{bill_id}"


def bills_url(app_url: str) -> str:
    """The page of all bills."""
    return f"{app_url.rstrip('/')}/time-bills"


def name(text: str) -> str:
    """A name, cut off if it is long, in mrkdwn."""
    return escape(shortened(text, MAX_NAME_LENGTH))


def shortened(text: str, length: int) -> str:
    """The text with at most that many characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def count(bills: int) -> str:
    return "1 time bill" if bills == 1 else f"{bills:,} time bills"


def format_minutes(minutes: int) -> str:
    """Billed time in hours and minutes: 90 is "1:30 h"."""
    return f"{minutes // 60:,}:{minutes % 60:02d} h"


def format_day(day: date) -> str:
    """A day with its weekday: "Mon 2026-03-02"."""
    return f"{'Mon Tue Wed Thu Fri Sat Sun'.split()[day.weekday()]} {day.isoformat()}"
