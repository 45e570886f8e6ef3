"""What Slack refuses of the blocks and views that an app sends, for errors that Stint could make."""

import json
from typing import Any

Json = dict[str, Any]

MAX_BLOCKS, MAX_ELEMENTS, MAX_VALUE = 50, 25, 2_000  # Slack's limits of a message
MAX_BLOCKS_LENGTH = 12_000  # Slack documents no limit of all blocks together, and refuses longer ones
MAX_HOME_LENGTH = 250_000
LONGEST = {"title": 24, "submit": 24, "close": 24}


class Refused(Exception):
    """An error answer of Slack: `{"ok": false, "error": …}`, with further fields."""

    def __init__(self, error: str, **more: str) -> None:
        super().__init__(error)
        self.more = more


def check_view(view: Json) -> None:
    """Refuses a modal that Slack would refuse, for errors that Stint could make."""
    for name, longest in LONGEST.items():
        if view.get(name) is not None and len(view[name]["text"]) > longest:
            raise Refused("invalid_arguments")
    inputs = any(block["type"] == "input" for block in view["blocks"])
    if view["type"] != "modal" or "title" not in view or (inputs and not view.get("submit")):
        raise Refused("invalid_arguments")
    if len(view.get("private_metadata", "")) > 3000 or not 1 <= len(view["blocks"]) <= 100:
        raise Refused("invalid_arguments")
    check_texts(view["blocks"])


def check_home(view: Json) -> None:
    """Refuses the view of an App Home that Slack would refuse."""
    if view["type"] != "home" or not 1 <= len(view["blocks"]) <= 100:
        raise Refused("invalid_arguments")
    if len(json.dumps(view)) > MAX_HOME_LENGTH:
        raise Refused("view_too_large")
    check_texts(view["blocks"])


def check_message(blocks: list[Json]) -> None:
    """Refuses the blocks of a message that Slack would refuse."""
    if len(blocks) > MAX_BLOCKS or any(len(block.get("elements", ())) > MAX_ELEMENTS for block in blocks):
        raise Refused("invalid_blocks")
    if len(json.dumps(blocks)) > MAX_BLOCKS_LENGTH:
        raise Refused("msg_blocks_too_long")
    check_texts(blocks)


def check_texts(value: Any) -> None:
    """Refuses texts and buttons that are too long, wherever they are in the blocks."""
    if isinstance(value, list):
        for item in value:
            check_texts(item)
    elif isinstance(value, dict):
        if value.get("type") in ("plain_text", "mrkdwn") and not 1 <= len(value["text"]) <= 3000:
            raise Refused("invalid_blocks")
        if "value" in value and "text" in value and (len(value["text"]["text"]) > 75 or len(value["value"]) > MAX_VALUE):
            raise Refused("invalid_blocks")
        for item in value.values():
            check_texts(item)
