"""`./stint dead`: dead letters in a terminal. It talks to Postgres alone, so it works while API and RabbitMQ are down.

Exit codes for scripts: 0 all is well, 3 some letters died again, 4 nothing matched; 1 and 2 as with every command.
"""

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from uuid import UUID

from pydantic import BaseModel

from ops import dead_screens as screens
from ops import dead_words as words
from ops.dead_words import NOTHING_MATCHED
from ops.errors import CommandError
from ops.progress import progress
from schemas import dead_letters, letter_moves, replays
from schemas.database import Connection, connect
from schemas.errors import Invalid, NotFound, StintError
from schemas.letter_moves import Edit, Move
from schemas.listing import Page
from schemas.masking import masked
from schemas.replays import NewReplay, Replay
from schemas.settings import settings

SOME_FAILED = 3
DONE = {"discard": "discarded", "restore": "restored"}
POLL_SECONDS = 0.3
PATIENCE_SECONDS = 8  # until it says that no relay carries the replay


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
    except NotFound as error:
        raise CommandError(error.detail, code=NOTHING_MATCHED) from error
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
    chosen = words.letter_filter(args)
    page = json.loads(await dead_letters.list_page(conn, Page(args.limit), chosen, state=args.in_state))
    if args.json:
        print(json.dumps(page["items"], indent=2))
    else:
        screens.letters(page["items"], more=page["nextCursor"] is not None)
    return 0 if page["items"] else NOTHING_MATCHED


async def _show(conn: Connection, args: argparse.Namespace) -> int:
    letter = await dead_letters.show(conn, await words.letter_id(conn, args.id))
    if args.json:
        _print_json(letter)
    else:
        screens.letter(letter)
    return 0


async def _replay(conn: Connection, args: argparse.Namespace) -> int:
    wanted = {
        "select": await words.select(conn, args),
        "reason": args.reason or "",
        "ratePerSecond": args.rate,
        "canary": args.canary,
        "dryRun": args.dry_run,
    }
    if args.dry_run:
        wanted["reason"] = args.reason or "dry run"
    new = words.shaped(NewReplay, wanted)
    async with conn.transaction():
        replay = await replays.begin(conn, new, who=_who())
    if replay.selected == 0:
        return _said(args, replay, NOTHING_MATCHED)
    if args.watch and not args.dry_run:
        return await _follow(conn, replay, args)
    return _said(args, replay, 0)


async def _watch(conn: Connection, args: argparse.Namespace) -> int:
    return await _follow(conn, await replays.read(conn, await words.replay_id(conn, args.id)), args)


async def _cancel(conn: Connection, args: argparse.Namespace) -> int:
    replay_id = await words.replay_id(conn, args.id)
    async with conn.transaction():
        await replays.cancel(conn, replay_id)
    return _said(args, await replays.read(conn, replay_id), 0)


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
    letter_id = await words.letter_id(conn, args.id)
    before = await dead_letters.show(conn, letter_id)
    if not isinstance(before.body, dict):
        raise CommandError("A foreign letter can't be edited: no actor of ours would take it.")
    body = words.new_body(before.body, args)
    shown = masked(body)
    edit = words.shaped(Edit, {"body": body, "reason": args.reason or ("dry run" if args.dry_run else "")})
    if not args.json:
        screens.difference(before.body, shown, changes=body != before.body)
    async with conn.transaction():
        if args.dry_run:
            await letter_moves.fitting(conn, letter_id, body)
            return _print(json.dumps({"before": before.body, "after": shown}, indent=2) if args.json else "It fits.")
        await letter_moves.edit(conn, letter_id, edit, who=_who())
    return await _show(conn, args) if args.json else _print("It fits, and is on its way again.")


async def _move(conn: Connection, args: argparse.Namespace) -> int:
    move = words.shaped(Move, {"select": await words.select(conn, args), "reason": args.reason or ""})
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
    cursor, count, chosen = None, 0, words.letter_filter(args)
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


def _who() -> str:
    return f"{getpass.getuser()} (terminal)"


def _print_json(model: BaseModel) -> None:
    print(model.model_dump_json(indent=2))


def _print(text: str) -> int:
    print(text)
    return 0
