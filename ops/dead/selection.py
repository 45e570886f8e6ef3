"""Converts the arguments of `./stint dead`: ids, filters, times and bodies."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from ops.errors import CommandError
from schemas import wording
from schemas.outbox.dead_letters.selecting import DeadLetterFilter
from schemas.postgres.connection import Connection

NOTHING_MATCHED = 4  # the exit code
SHORTEST, WHOLE_ID = 4, 32  # characters of the beginning of an id, and of an id without its hyphens
Model = TypeVar("Model", bound=BaseModel)


async def message_id(conn: Connection, text: str) -> UUID:
    """The id of a dead letter that begins with `text`. Without one, the id of any message, for example one that was replayed.
    Raises CommandError if none or several begin with it."""
    return await _full_id(conn, text, "dead letter", ("dead_letters", "messages"))


async def triggered_id(conn: Connection, kind: str, text: str) -> str:
    """The id of the time bill or task that begins with `text`, for that kind of work. Raises CommandError if none or several
    begin with it."""
    noun, table = ("task", "tasks") if kind == "move_entries" else ("time bill", "time_bills")
    if len(text.replace("-", "")) >= WHOLE_ID:
        return text
    return str(await _full_id(conn, text, noun, (table,)))


async def replay_id(conn: Connection, text: str) -> UUID:
    """The id of the replay that begins with `text`. Raises CommandError if none or several begin with it."""
    return await _full_id(conn, text, "replay", ("replays",))


async def select(conn: Connection, args: argparse.Namespace) -> dict[str, Any]:
    """The selection in the API's form: ids, a filter, or all. Raises CommandError unless it is exactly one of these."""
    if sum([bool(args.ids), bool(_filter_values(args)), bool(args.all)]) != 1:
        raise CommandError("Select dead letters: by ids, or by --group and other filters, or by --all.")
    if args.ids:
        return {"ids": [str(await message_id(conn, text)) for text in args.ids]}
    if args.all:
        return {"all": True}
    return {"filter": await _resolved(conn, args)}


async def parse_filter(conn: Connection, args: argparse.Namespace) -> DeadLetterFilter:
    """The filter of a list. Raises CommandError."""
    return parse(DeadLetterFilter, await _resolved(conn, args))


def new_body(body: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The body with the changes of `--set`, or the content of `--body`. Raises CommandError."""
    if (args.body is None) == (not args.set):
        raise CommandError("Name the change: --set FIELD=VALUE, or --body FILE with the whole body (- reads standard input).")
    if args.body is not None:
        return _read_body(args.body)
    changed = dict(body)
    for assignment in args.set:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise CommandError(f"--set {assignment}: write FIELD=VALUE.")
        try:
            changed[name] = json.loads(value)
        except (ValueError, RecursionError):
            changed[name] = value  # a text needs no quotes
    return changed


def parse(model: type[Model], values: dict[str, Any]) -> Model:
    """The values as a model of the API. Raises CommandError for the first invalid one."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = wording.problems(model, error)[0]
        if first.path == "reason":
            raise CommandError(
                "A reason is required: --reason 'Xero is back'. It is recorded with your name and host."
            ) from None
        raise CommandError(first.message) from None


async def _full_id(conn: Connection, text: str, noun: str, tables: tuple[str, ...]) -> UUID:
    digits = text.replace("-", "").lower()
    if not SHORTEST <= len(digits) <= WHOLE_ID or not set(digits) <= set("0123456789abcdef"):
        raise CommandError(f"{text} is not an id, nor the beginning of one (at least {SHORTEST} characters).")
    between = (UUID(digits.ljust(WHOLE_ID, "0")), UUID(digits.ljust(WHOLE_ID, "f")))
    for table in tables:
        found: list[UUID] = await conn.values(f"SELECT id FROM {table} WHERE id BETWEEN %s AND %s LIMIT 2", between)
        if len(found) == 1:
            return found[0]
        if found:
            raise CommandError(f"Several ids begin with {text}; use more characters.")
    hints = {"replay": ": ./stint dead replays shows all of them", "dead letter": ": ./stint dead list shows all of them"}
    raise CommandError(f"There is no {noun} {text}{hints.get(noun, '')}.", code=NOTHING_MATCHED)


async def _resolved(conn: Connection, args: argparse.Namespace) -> dict[str, Any]:
    """The filter's values, with the whole name of the group. Raises CommandError if several groups begin with `--group`."""
    values = _filter_values(args)
    text = (args.group or "").lower()
    if len(text) < SHORTEST:
        return values
    found: list[str] = await conn.values(
        """
        SELECT fingerprint FROM failure_groups WHERE starts_with(fingerprint, %(text)s)
        UNION
        SELECT fingerprint FROM (SELECT left(md5(queue || ' ' || reason), 16) AS fingerprint FROM unrecognized_groups) g
        WHERE starts_with(fingerprint, %(text)s)
        LIMIT 2
        """,
        {"text": text},
    )
    if len(found) > 1 and text not in found:
        raise CommandError(f"Several groups begin with {args.group}; use more characters.")
    return values | ({"fingerprint": found[0]} if len(found) == 1 else {})


def _read_body(file: str) -> dict[str, Any]:
    try:
        body = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise CommandError(f"{file} is not JSON: {error}.") from None
    except RecursionError:
        raise CommandError(f"{file} is nested too deeply for a message.") from None
    if not isinstance(body, dict):
        raise CommandError("The body must be a JSON object.")
    return body


def _filter_values(args: argparse.Namespace) -> dict[str, Any]:
    values = {
        "actor": args.actor,
        "queue": args.queue,
        "fingerprint": args.group,
        "since": args.since,
        "until": args.until,
        "q": args.q,
    }
    return {name: value for name, value in values.items() if value is not None}
