"""The text of a message in Slack as a person sees it: its blocks, or else its text; then its attachments and files.

Slack has more kinds of blocks than are named here, and adds others. Of those the texts are taken.
"""

from collections.abc import Iterator
from typing import Any

from schemas.slack.reading.mrkdwn import Names, date, link, to_text

MAX_TITLE_LENGTH = 200
_LINE_MARKS = " \t>•◦▪"  # of quotes and lists, before a line's text
_NO_TEXT = {"divider", "actions", "context_actions", "input", "rich_text_input"}
# the fields of an unknown block that people read, in this order
_READ = ("title", "subtitle", "label", "text", "body", "description", "value", "fields", "elements", "blocks", "rows", "tasks",
         "details", "output")  # fmt: skip

Json = dict[str, Any]


def describe(message: Any, names: Names) -> str:
    """All text of the message, with lines; empty if it has none."""
    text = to_text(_text(message, "text"), names)  # first, because it may have the names of what the blocks mention
    blocks = _lines(_list(message, "blocks"), names)
    parts = [blocks or text]
    for attachment in _list(message, "attachments"):
        parts.append(_attachment(attachment, names))
    for file in _list(message, "files"):
        parts.append(_file(file))
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())


def title(text: str) -> str:
    """The first line that has a word, at most MAX_TITLE_LENGTH long. Without one, the first line that is not blank, or an
    empty text."""
    lines = [line.lstrip(_LINE_MARKS).rstrip() or line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if any(character.isalpha() for character in line):
            return shorten(line, MAX_TITLE_LENGTH)
    return shorten(lines[0], MAX_TITLE_LENGTH) if lines else ""


def shorten(text: str, length: int) -> str:
    """The text, cut to at most that many characters, the last of which is then "…"."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _lines(blocks: list[Any], names: Names) -> str:
    return "\n".join(text for block in blocks if (text := _block(block, names)).strip())


def _block(block: Any, names: Names) -> str:
    kind = _text(block, "type")
    if kind == "rich_text":
        return "\n".join(text for part in _list(block, "elements") if (text := _rich_part(part, names)).strip())
    if kind == "actions":
        return "\n".join(
            link(url, _plain(button, "text")) for button in _list(block, "elements") if (url := _text(button, "url"))
        )
    if kind == "image":
        return _plain(block, "title") or _text(block, "alt_text")
    if kind == "video":
        heading = link(_text(block, "title_url"), _plain(block, "title"))
        return "\n".join(filter(None, (heading, _plain(block, "description"))))
    if kind == "context":
        shown = (_text(element, "alt_text") or _object_text(element, names) for element in _list(block, "elements"))
        return " ".join(filter(None, shown))
    if kind == "table":
        return "\n".join(_row(row, names) for row in _list(block, "rows"))
    return "" if kind in _NO_TEXT else "\n".join(_texts(block, names))


def _row(row: Any, names: Names) -> str:
    return " | ".join(_block(cell, names) for cell in row) if isinstance(row, list) else ""


def _texts(value: Any, names: Names) -> Iterator[str]:
    """The texts in a block of another kind, or in a part of it."""
    if isinstance(value, list):
        for item in value:
            yield from _texts(item, names)
    elif isinstance(value, dict):
        kind = _text(value, "type")
        if kind in ("mrkdwn", "plain_text", "raw_text", "markdown") and isinstance(value.get("text"), str):
            yield _object_text(value, names)
        elif kind == "rich_text":
            yield _block(value, names)
        elif kind not in _NO_TEXT:
            for name in _READ:
                if isinstance(found := value.get(name), str):
                    yield found
                else:
                    yield from _texts(found, names)


def _object_text(value: Any, names: Names) -> str:
    """A text object. Only mrkdwn has mentions and is escaped."""
    text = _text(value, "text")
    return to_text(text, names) if isinstance(value, dict) and value.get("type") == "mrkdwn" else text


def _rich_part(part: Any, names: Names) -> str:
    """A section, list, quote or block of code of rich text."""
    kind, elements = _text(part, "type"), _list(part, "elements")
    if kind == "rich_text_list":
        return "\n".join(_list_items(part, elements, names))
    text = "".join(_rich(element, names) for element in elements)
    if kind == "rich_text_quote":
        return "\n".join(f"> {line}" for line in text.split("\n"))
    return text


def _list_items(part: Json, items: list[Any], names: Names) -> Iterator[str]:
    indent, first = _number(part, "indent"), _number(part, "offset") + 1
    for number, item in enumerate(items, first):
        mark = f"{number}." if part.get("style") == "ordered" else "•"
        yield f"{'    ' * min(indent, 8)}{mark} {_rich_part(item, names)}"


def _rich(element: Any, names: Names) -> str:
    """One element of rich text. Its texts are not escaped."""
    match _text(element, "type"):
        case "text" | "raw_text":
            return _text(element, "text")
        case "link":
            return link(_text(element, "url"), _text(element, "text"))
        case "user":
            return names.user(_text(element, "user_id"))
        case "channel":
            return names.channel(_text(element, "channel_id"))
        case "usergroup":
            return names.group(_text(element, "usergroup_id"))
        case "team":
            return names.group(_text(element, "team_id"))
        case "broadcast":
            return f"@{_text(element, 'range') or 'channel'}"
        case "emoji":
            return f":{_text(element, 'name')}:"
        case "color":
            return _text(element, "value")
        case "date":
            shown = date(element.get("timestamp"), _text(element, "fallback"))
            return link(url, shown) if (url := _text(element, "url")) else shown
        case _:
            return _text(element, "text")


def _attachment(attachment: Any, names: Names) -> str:
    """What Slack shows below a message: a preview of a page or a message, or what an app has added."""
    if not isinstance(attachment, dict):
        return ""
    blocks = [*_list(attachment, "blocks")]
    for quoted in _list(attachment, "message_blocks"):
        inner = quoted.get("message") if isinstance(quoted, dict) else None
        blocks += _list(inner, "blocks")
    parts = [
        to_text(_text(attachment, "pretext"), names),
        _text(attachment, "author_name"),
        link(_text(attachment, "title_link"), to_text(_text(attachment, "title"), names)),
        _lines(blocks, names) or to_text(_text(attachment, "text"), names),
    ]
    for field in _list(attachment, "fields"):
        shown = [to_text(_text(field, name), names) for name in ("title", "value")]
        parts.append(": ".join(filter(None, shown)))
    parts += [_file(file) for file in _list(attachment, "files")]
    if not any(parts):
        parts.append(to_text(_text(attachment, "fallback"), names))
    parts.append(to_text(_text(attachment, "footer"), names))
    return "\n".join(part for part in parts if part.strip())


def _file(file: Any) -> str:
    if not isinstance(file, dict):
        return ""
    if file.get("mode") in ("tombstone", "hidden_by_limit"):
        return "A file that is deleted or hidden"
    name = _text(file, "title") or _text(file, "name") or "A file"
    return link(_text(file, "permalink") or _text(file, "url_private") or _text(file, "external_url"), name)


def _plain(value: Any, name: str) -> str:
    """The text of a text object in that field."""
    found = value.get(name) if isinstance(value, dict) else None
    return _text(found, "text")


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def _number(value: Any, name: str) -> int:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, int) and found > 0 else 0
