"""`./stint dead`: dead letters in a terminal. It talks to Postgres alone, so it works while API and RabbitMQ are down.

Exit codes for scripts: 0 all is well, 3 some letters died again, 4 nothing matched; 1 and 2 as with every command.
"""

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from ops import dead_screens as screens
from ops.errors import CommandError
from ops.progress import progress
from schemas import dead_letters, letter_moves, replays
from schemas.database import Connection, connect
from schemas.dead_letters import LetterFilter, WholeLetter
from schemas.errors import Invalid, StintError
from schemas.letter_moves import Edit, Move
from schemas.listing import Page
from schemas.replays import NewReplay, Replay
from schemas.settings import settings

SOME_FAILED, NOTHING_MATCHED = 3, 4
DONE = {"discard": "discarded", "restore": "restored"}
POLL_SECONDS = 0.3
PATIENCE_SECONDS = 8  # until it says that no relay carries the replay
Shape = TypeVar("Shape", bound=BaseModel)


def run(args: argparse.Namespace) -> int:
    """Runs one action and returns its exit code."""
    actions: dict[str, Callable[[Connection, argparse.Namespace], Awaitable[int]]] = {
        "groups": _groups,
        "list": _list,
        "show": _show,
        "replay": _replay,
        "watch": _watch,
        "cancel": _cancel,
        "edit": _edit,
        "discard": _move,
        "restore": _move,
        "export": _export,
    }

    async def act() -> int:
        async with await connect(settings()) as conn:
            return await actions[args.action or "groups"](conn, args)

    try:
        return asyncio.run(act())
    except Invalid as error:
        raise CommandError("; ".join(f"{fault.path}: {fault.message}" for fault in error.errors)) from error
    except StintError as error:
        raise CommandError(error.detail) from error


async def _groups(conn: Connection, args: argparse.Namespace) -> int:
    found = await dead_letters.groups(conn)
    if args.json:
        _print_json(found)
    else:
        screens.groups(found)
    return 0 if found.items or found.foreign else NOTHING_MATCHED


async def _list(conn: Connection, args: argparse.Namespace) -> int:
    chosen = _filter(args)
    page = json.loads(await dead_letters.list_page(conn, Page(args.limit), chosen, state=args.in_state))
    if args.json:
        print(json.dumps(page["items"], indent=2))
    else:
        screens.letters(page["items"], more=page["nextCursor"] is not None)
    return 0 if page["items"] else NOTHING_MATCHED


async def _show(conn: Connection, args: argparse.Namespace) -> int:
    letter = await dead_letters.show(conn, await _letter_id(conn, args.id))
    if args.json:
        _print_json(letter)
    else:
        screens.letter(letter)
    return 0


async def _replay(conn: Connection, args: argparse.Namespace) -> int:
    wanted = {
        "select": await _select(conn, args),
        "reason": args.reason or "",
        "ratePerSecond": args.rate,
        "canary": args.canary,
        "dryRun": args.dry_run,
    }
    if args.dry_run:
        wanted["reason"] = args.reason or "dry run"
    new = _shaped(NewReplay, wanted)
    async with conn.transaction():
        replay = await replays.begin(conn, new, who=_who())
    if replay.selected == 0:
        return _said(args, replay, NOTHING_MATCHED)
    if args.watch and not args.dry_run:
        return await _follow(conn, replay, args)
    return _said(args, replay, 0)


async def _watch(conn: Connection, args: argparse.Namespace) -> int:
    return await _follow(conn, await replays.read(conn, _uuid(args.id)), args)


async def _cancel(conn: Connection, args: argparse.Namespace) -> int:
    async with conn.transaction():
        await replays.cancel(conn, _uuid(args.id))
    return _said(args, await replays.read(conn, _uuid(args.id)), 0)


async def _follow(conn: Connection, replay: Replay, args: argparse.Namespace) -> int:
    """Shows how far it is until it ends. Who interrupts this does not interrupt the replay."""
    assert replay.id is not None
    waited = 0.0
    try:
        with progress("replay", total=replay.selected) as at:
            while replay.state == "running":
                await asyncio.sleep(POLL_SECONDS)
                replay = await replays.read(conn, replay.id)
                waited += POLL_SECONDS
                if waited > PATIENCE_SECONDS and replay.sent + replay.skipped == 0:
                    print("No relay has taken it up yet: is one running? ./stint status says.", file=sys.stderr)
                    waited = float("-inf")
                at(replay.succeeded + replay.failed_again + replay.skipped, what=screens.in_short(replay))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"It goes on without you: ./stint dead watch {replay.id}, or cancel {replay.id}.", file=sys.stderr)
        raise
    return _said(args, replay, SOME_FAILED if replay.failed_again or replay.state == "stopped" else 0)


def _said(args: argparse.Namespace, replay: Replay, code: int) -> int:
    if args.json:
        _print_json(replay)
    else:
        screens.replay(replay)
    return code


async def _edit(conn: Connection, args: argparse.Namespace) -> int:
    letter_id = await _letter_id(conn, args.id)
    before = await dead_letters.show(conn, letter_id)
    if not isinstance(before.body, dict):
        raise CommandError("A foreign letter can't be edited: no actor of ours would take it.")
    body = _new_body(before, args)
    edit = _shaped(Edit, {"body": body, "reason": args.reason or ("dry run" if args.dry_run else "")})
    if not args.json:
        screens.difference(before.body, body)
    async with conn.transaction():
        if args.dry_run:
            await letter_moves.fitting(conn, letter_id, body)
            return _print(json.dumps({"before": before.body, "after": body}, indent=2) if args.json else "It fits.")
        await letter_moves.edit(conn, letter_id, edit, who=_who())
    return await _show(conn, args) if args.json else _print("It fits, and is on its way again.")


def _new_body(letter: WholeLetter, args: argparse.Namespace) -> dict[str, Any]:
    if (args.body is None) == (not args.set):
        raise CommandError(
            "Say what to change: --set FIELD=VALUE, or --body FILE with the whole body (- reads standard input)."
        )
    if args.body is not None:
        try:
            body = json.loads(sys.stdin.read() if args.body == "-" else Path(args.body).read_text())
        except OSError as error:
            raise CommandError(f"{args.body} can't be read: {error.strerror}.") from None
        except ValueError as error:
            raise CommandError(f"{args.body} is not JSON: {error}.") from None
        if not isinstance(body, dict):
            raise CommandError("The body has to be a JSON object.")
        return body
    body = dict(letter.body)
    for assignment in args.set:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise CommandError(f"--set {assignment}: write FIELD=VALUE.")
        try:
            body[name] = json.loads(value)
        except ValueError:
            body[name] = value  # text needs no quotes
    return body


async def _move(conn: Connection, args: argparse.Namespace) -> int:
    move = _shaped(Move, {"select": await _select(conn, args), "reason": args.reason or ""})
    act = letter_moves.discard if args.action == "discard" else letter_moves.restore
    async with conn.transaction():
        moved = await act(conn, move, who=_who())
    if args.json:
        _print_json(moved)
    else:
        print(f"{moved.count:,} {'letter' if moved.count == 1 else 'letters'} {DONE[args.action]}.")
    return 0 if moved.count else NOTHING_MATCHED


async def _export(conn: Connection, args: argparse.Namespace) -> int:
    """One JSON object a line: whole letters, with every attempt, masked."""
    cursor, count, chosen = None, 0, _filter(args)
    with progress("export") as at:
        while True:
            page = json.loads(await dead_letters.list_page(conn, Page(500, cursor), chosen, state=args.in_state))
            for item in page["items"]:
                letter = await dead_letters.show(conn, UUID(item["id"]))
                print(letter.model_dump_json())
                count += 1
            at(count)
            if (cursor := page["nextCursor"]) is None:
                return 0 if count else NOTHING_MATCHED


async def _select(conn: Connection, args: argparse.Namespace) -> dict[str, Any]:
    """What the command line selects, as the API has it."""
    narrowed = _filter_values(args)
    given = [bool(args.ids), bool(narrowed), bool(args.all)]
    if sum(given) != 1:
        raise CommandError("Say which letters: ids, or --group and other filters, or --all.")
    if args.ids:
        return {"ids": [str(await _letter_id(conn, text)) for text in args.ids]}
    if args.all:
        return {"all": True}
    return {"filter": narrowed}


def _filter(args: argparse.Namespace) -> LetterFilter:
    return _shaped(LetterFilter, _filter_values(args))


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


async def _letter_id(conn: Connection, text: str) -> UUID:
    """The id that begins like this: the first characters will do if no other letter's begins so. A message that is no letter
    any more, since it was replayed, is found when no letter is."""
    if len(text) >= 32:
        return _uuid(text)
    if len(text) < 4 or not set(text.lower()) <= set("0123456789abcdef-"):
        raise CommandError(f"{text} is no id, nor the beginning of one (4 characters at least).")
    digits = text.replace("-", "")
    between = (UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))
    for table in ("dead_letters", "messages"):
        cursor = await conn.execute(f"SELECT id FROM {table} WHERE id BETWEEN %s AND %s LIMIT 2".encode(), between)
        found: list[tuple[UUID]] = await cursor.fetchall()
        if len(found) == 1:
            return found[0][0]
        if found:
            raise CommandError(f"Several ids begin with {text}; write more of it.")
    raise CommandError(f"No letter begins with {text}.")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(f"{text} is no id.") from None


def _shaped(shape: type[Shape], values: dict[str, Any]) -> Shape:
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        if where == "reason":
            raise CommandError("Say why: --reason 'Xero is back'. It is written down beside your name.") from None
        raise CommandError(f"{where}: {fault['msg']}.") from None


def _who() -> str:
    return f"{getpass.getuser()} (terminal)"


def _print_json(model: BaseModel) -> None:
    print(model.model_dump_json(indent=2))


def _print(text: str) -> int:
    print(text)
    return 0
