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
Model = TypeVar("Model", bound=BaseModel)


async def message_id(conn: Connection, text: str) -> UUID:
    """The id of a dead letter that begins with `text`. Without one, the id of any message, for example one that was replayed.
    Raises CommandError if none or several begin with it."""
    return await _full_id(conn, text, "dead letter", ("dead_letters", "messages"))


async def replay_id(conn: Connection, text: str) -> UUID:
    """The id of the replay that begins with `text`. Raises CommandError if none or several begin with it."""
    return await _full_id(conn, text, "replay", ("replays",))


async def select(conn: Connection, args: argparse.Namespace) -> dict[str, Any]:
    """The selection in the API's form: ids, a filter, or all. Raises CommandError unless it is exactly one of these."""
    filters = _filter_values(args)
    if sum([bool(args.ids), bool(filters), bool(args.all)]) != 1:
        raise CommandError("Select dead letters: by ids, or by --group and other filters, or by --all.")
    if args.ids:
        return {"ids": [str(await message_id(conn, text)) for text in args.ids]}
    if args.all:
        return {"all": True}
    return {"filter": filters}


def parse_filter(args: argparse.Namespace) -> DeadLetterFilter:
    """The filter of a list. Raises CommandError."""
    return parse(DeadLetterFilter, _filter_values(args))


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
    if not 4 <= len(digits) <= 32 or not set(digits) <= set("0123456789abcdef"):
        raise CommandError(f"{text} is not an id, nor the beginning of one (at least 4 characters).")
    between = (UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))
    for table in tables:
        found: list[UUID] = await conn.values(f"SELECT id FROM {table} WHERE id BETWEEN %s AND %s LIMIT 2", between)
        if len(found) == 1:
            return found[0]
        if found:
            raise CommandError(f"Several ids begin with {text}; use more characters.")
    hint = f"./stint dead {'replays' if noun == 'replay' else 'list'} shows all of them"
    raise CommandError(f"There is no {noun} {text}: {hint}.", code=NOTHING_MATCHED)


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
