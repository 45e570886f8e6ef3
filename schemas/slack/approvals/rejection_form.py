"""The form with which an admin rejects time bills: which of them, and why."""

from typing import Any

from slack_sdk.models.blocks import InputBlock, Option, PlainTextInputElement, SectionBlock, StaticMultiSelectElement
from slack_sdk.models.blocks.basic_components import MarkdownTextObject, PlainTextObject
from slack_sdk.models.views import View

from schemas.slack.approvals import seen
from schemas.slack.approvals.blocks import (
    MAX_TEXT_LENGTH,
    count,
    format_day,
    format_minutes,
    lines,
    name,
    shortened,
)
from schemas.slack.approvals.pending import ShownBill
from schemas.slack.payloads import Origin, Short, SlackId
from schemas.slack.views import MAX_OPTION_LENGTH, Modal

REJECT_FORM = "reject_bills"
BILLS, REASON = "bills", "reason"
MAX_REASON_LENGTH = 2_000  # as rejectionNote of the API
MAX_OPTIONS = 100


class ListOrigin(Origin):
    """The message whose button opened the form."""

    response_url: Short
    channel_id: SlackId | None = None


def form(bills: list[ShownBill], *, left_out: list[str], origin: ListOrigin) -> Modal:
    """The form for these bills of one consultant and customer, all of which are selected. `left_out` says which bills of the
    message are not in it, and why."""
    options = [
        Option(text=_plain(shortened(_label(bill), MAX_OPTION_LENGTH)), value=seen.to_value([bill]))
        for bill in bills[:MAX_OPTIONS]
    ]
    first, minutes = bills[0], sum(bill.minutes for bill in bills)
    text = f"*{name(first.consultant)}* for *{name(first.customer)}*: {count(len(bills))}, {format_minutes(minutes)}."
    blocks: list[Any] = [SectionBlock(text=_markdown(lines([text, *left_out])))]
    select = StaticMultiSelectElement(
        action_id=BILLS, placeholder=_plain("Which time bills?"), options=options, initial_options=options
    )
    typed = PlainTextInputElement(action_id=REASON, multiline=True, max_length=MAX_REASON_LENGTH, focus_on_load=True)
    blocks += [
        InputBlock(block_id=BILLS, label=_plain("Time bills to reject"), element=select),
        InputBlock(block_id=REASON, label=_plain("Why?"), element=typed, hint=_plain("The consultant reads this.")),
    ]
    return View(
        type="modal",
        callback_id=REJECT_FORM,
        title=_plain("Reject time bills"),
        submit=_plain("Reject"),
        close=_plain("Cancel"),
        private_metadata=origin.model_dump_json(),
        blocks=blocks,
    )


def result(text: str) -> Modal:
    """What the form shows if not all of its bills were rejected."""
    blocks = [SectionBlock(text=_markdown(text))]
    return View(type="modal", title=_plain("Reject time bills"), close=_plain("Close"), blocks=blocks)


def _label(bill: ShownBill) -> str:
    return f"{format_day(bill.date)}, {format_minutes(bill.minutes)}, {bill.pillar}"


def _markdown(text: str) -> MarkdownTextObject:
    return MarkdownTextObject(text=text[:MAX_TEXT_LENGTH], verbatim=True)


def _plain(text: str) -> PlainTextObject:
    return PlainTextObject(text=text, emoji=False)
