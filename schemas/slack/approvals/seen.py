"""What an admin has seen: the ids of time bills with the versions that were shown, as the value of a button or an option.

A value is at most 2,000 characters long, so an id takes 22 of them: its 16 bytes in base64, without the padding.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from uuid import UUID

from schemas.hours.batch_approval import SeenBill
from schemas.slack.approvals.pending import ShownBill

MAX_VALUE_LENGTH = 2_000
_ONE = re.compile(r"([A-Za-z0-9_-]{22})\.([1-9][0-9]{0,14})")


def to_value(bills: Iterable[ShownBill]) -> str:
    """The bills as the value of a button."""
    return " ".join(f"{base64.urlsafe_b64encode(bill.id.bytes).decode().rstrip('=')}.{bill.version}" for bill in bills)


def parse(value: str | None) -> list[SeenBill]:
    """The bills of a value, each once, in the order of their ids. What is no bill is left out."""
    found: dict[UUID, SeenBill] = {}
    for part in (value or "")[:MAX_VALUE_LENGTH].split():
        if (match := _ONE.fullmatch(part)) is None:
            continue
        try:
            bill_id = UUID(bytes=base64.urlsafe_b64decode(f"{match[1]}=="))
        except (binascii.Error, ValueError):
            continue
        found[bill_id] = SeenBill(id=bill_id, version=int(match[2]))
    return [found[bill_id] for bill_id in sorted(found)]
