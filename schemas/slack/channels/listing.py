"""A channel as Slack lists it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from schemas.base import Name, Row
from schemas.customers.channel_mappings import ChannelId


class Channel(Row):
    """A channel with its name, without #."""

    id: ChannelId
    name: Name


def to_channels(listed: list[Any]) -> Iterator[Channel]:
    """The channels of an answer, without those whose id or name no mapping can have."""
    for each in listed:
        if isinstance(each, dict):
            with suppress(ValidationError):
                yield Channel(id=each.get("id"), name=each.get("name"))
