"""What the words after `./stint dead` mean: which letters, since when, which replay, what body."""

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from ops.errors import CommandError
from schemas.database import Connection
from schemas.dead_letters import LetterFilter

NOTHING_MATCHED = 4  # the exit code
Shape = TypeVar("Shape", bound=BaseModel)


async def letter_id(conn: Connection, text: str) -> UUID:
    """The letter's whole id; its first characters will do if no other's begins so. A message that is no letter any more, since
    it was replayed, is found when no letter is. Raises CommandError."""
    return await _whole_id(conn, text, "letter", ("dead_letters", "messages"))


async def replay_id(conn: Connection, text: str) -> UUID:
    """The replay's whole id, likewise."""
    return await _whole_id(conn, text, "replay", ("replays",))


async def select(conn: Connection, args: argparse.Namespace) -> dict[str, Any]:
    """Which letters, as the API has it: by ids, by a filter, or all. Raises CommandError unless it is exactly one of these."""
    narrowed = _filter_values(args)
    given = [bool(args.ids), bool(narrowed), bool(args.all)]
    if sum(given) != 1:
        raise CommandError("Say which letters: ids, or --group and other filters, or --all.")
    if args.ids:
        return {"ids": [str(await letter_id(conn, text)) for text in args.ids]}
    if args.all:
        return {"all": True}
    return {"filter": narrowed}


def letter_filter(args: argparse.Namespace) -> LetterFilter:
    """What narrows a list. Raises CommandError."""
    return shaped(LetterFilter, _filter_values(args))


def new_body(body: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The body with what `--set` changes, or the one that `--body` brings. Raises CommandError."""
    if (args.body is None) == (not args.set):
        raise CommandError(
            "Say what to change: --set FIELD=VALUE, or --body FILE with the whole body (- reads standard input)."
        )
    if args.body is not None:
        return _whole_body(args.body)
    changed = dict(body)
    for assignment in args.set:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise CommandError(f"--set {assignment}: write FIELD=VALUE.")
        try:
            changed[name] = json.loads(value)
        except ValueError:
            changed[name] = value  # text needs no quotes
    return changed


def shaped(shape: type[Shape], values: dict[str, Any]) -> Shape:
    """The values as the API would take them. Raises CommandError with what is wrong."""
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        if where == "reason":
            raise CommandError("Say why: --reason 'Xero is back'. It is written down beside your name.") from None
        raise CommandError(f"{where}: {fault['msg']}.") from None


async def _whole_id(conn: Connection, text: str, noun: str, tables: tuple[str, ...]) -> UUID:
    digits = text.replace("-", "").lower()
    if not 4 <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        raise CommandError(f"{text} is no id, nor the beginning of one (4 characters at least).")
    between = (UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))
    for table in tables:
        cursor = await conn.execute(f"SELECT id FROM {table} WHERE id BETWEEN %s AND %s LIMIT 2".encode(), between)
        found: list[tuple[UUID]] = await cursor.fetchall()
        if len(found) == 1:
            return found[0][0]
        if found:
            raise CommandError(f"Several ids begin with {text}; write more of it.")
    known = "./stint dead list shows what there is" if noun == "letter" else "its id was printed when it was made"
    raise CommandError(f"There is no {noun} {text}: {known}.", code=NOTHING_MATCHED)


def _whole_body(file: str) -> dict[str, Any]:
    try:
        body = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise CommandError(f"{file} is not JSON: {error}.") from None
    if not isinstance(body, dict):
        raise CommandError("The body has to be a JSON object.")
    return body


def _filter_values(args: argparse.Namespace) -> dict[str, Any]:
    values = {
        "actor": args.actor,
        "queue": args.queue,
        "fingerprint": args.group,
        "since": _moment(args.since),
        "until": _moment(args.until),
        "q": args.q,
    }
    return {name: value for name, value in values.items() if value is not None}


def _moment(text: str | None) -> str | None:
    """A time, or how long ago: 90m, 2h, 3d."""
    if text is None:
        return None
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdecimal() and text[-1:] in units:
        try:
            return (datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})).isoformat()
        except (OverflowError, ValueError):
            raise CommandError(f"{text} ago is longer than time goes back.") from None
    return text if "T" in text else f"{text}T00:00:00Z"
