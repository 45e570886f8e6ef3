"""`./stint dead`: dead letters in a terminal. It uses only Postgres, so it works while the API and RabbitMQ are down.

Exit codes for scripts: 0 success, 3 some messages failed again, 4 nothing matched, 5 a replay was cancelled or has skipped most
of its messages; 1 and 2 as with every command.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from pydantic import BaseModel

from ops.dead import output, selection
from ops.dead.selection import NOTHING_MATCHED
from ops.dead.terminal import command_errors, who
from ops.errors import CommandError
from ops.progress import progress
from schemas.hours.entry_rules import EntryRules, check_edited
from schemas.masking import Redactor
from schemas.outbox.dead_letters import actions, details, edits, groups, lists, replays
from schemas.outbox.dead_letters.actions import Action, check_reason
from schemas.outbox.dead_letters.edits import Edit
from schemas.outbox.dead_letters.replays import NewReplay, Replay
from schemas.postgres.connection import Connection, connect
from schemas.postgres.listing import Page
from schemas.settings import settings

SOME_FAILED = 3
NOT_ALL_SENT = 5
DONE = {"discard": "Discarded", "restore": "Restored"}
WOULD = {"discard": "would be discarded", "restore": "would be dead letters again"}
POLL_SECONDS = 0.3
NO_RELAY_SECONDS = 8  # after these it prints that no relay has taken the replay


def run(args: argparse.Namespace) -> int:
    """Runs one action and returns its exit code."""
    commands: dict[str, Callable[[Connection, argparse.Namespace], Awaitable[int]]] = {
        "groups": _groups,
        "list": _list,
        "show": _show,
        "replay": _replay,
        "replays": _replays,
        "watch": _watch,
        "cancel": _cancel,
        "edit": _edit,
        "discard": _discard_or_restore,
        "restore": _discard_or_restore,
        "export": _export,
    }

    async def act() -> int:
        async with await connect(settings()) as conn:
            return await commands[args.action or "groups"](conn, args)

    with command_errors():
        return asyncio.run(act())


async def _groups(conn: Connection, args: argparse.Namespace) -> int:
    found = await groups.list_groups(conn, Redactor(settings()))
    if args.json:
        _print_json(found)
    else:
        output.print_groups(found)
    return 0 if found.items or found.unrecognized else NOTHING_MATCHED


async def _list(conn: Connection, args: argparse.Namespace) -> int:
    filters = await selection.parse_filter(conn, args)
    page = json.loads(await lists.list_page(conn, Page(args.limit), filters, Redactor(settings()), state=args.in_state))
    if args.json:
        print(json.dumps(page["items"], indent=2))
    else:
        output.print_list(page["items"], more=page["nextCursor"] is not None)
    return 0 if page["items"] else NOTHING_MATCHED


async def _show(conn: Connection, args: argparse.Namespace) -> int:
    detail = await details.get_detail(
        conn, await selection.message_id(conn, args.id), Redactor(settings()), zone=settings().stint_timezone
    )
    if args.json:
        _print_json(detail)
    else:
        output.print_detail(detail)
    return 0


async def _replay(conn: Connection, args: argparse.Namespace) -> int:
    body = {
        "select": await selection.select(conn, args),
        "reason": args.reason or "",
        "canary": args.canary,
        "dryRun": args.dry_run,
    }
    if args.rate is not None:
        body["ratePerSecond"] = args.rate
    if args.dry_run:
        body["reason"] = args.reason or "dry run"
    new = selection.parse(NewReplay, body)
    async with conn.transaction():
        replay = await replays.start_replay(conn, new, who=who())
    if replay.selected == 0:
        return _print_replay(args, replay, NOTHING_MATCHED)
    if args.watch and not args.dry_run:
        return await _follow(conn, replay, args)
    return _print_replay(args, replay, 0)


async def _replays(conn: Connection, args: argparse.Namespace) -> int:
    found = await replays.list_replays(conn)
    if args.json:
        _print_json(found)
    else:
        output.print_replays(found)
    return 0 if found.items else NOTHING_MATCHED


async def _watch(conn: Connection, args: argparse.Namespace) -> int:
    return await _follow(conn, await replays.get_replay(conn, await selection.replay_id(conn, args.id)), args)


async def _cancel(conn: Connection, args: argparse.Namespace) -> int:
    replay_id = await selection.replay_id(conn, args.id)
    if args.reason is not None:
        check_reason(args.reason)
    async with conn.transaction():
        await replays.cancel(conn, replay_id, who=who(), reason=args.reason)
    return _print_replay(args, await replays.get_replay(conn, replay_id), 0)


async def _follow(conn: Connection, replay: Replay, args: argparse.Namespace) -> int:
    """Shows the progress of a replay until it ends. Ctrl-C ends this command, but not the replay."""
    assert replay.id is not None
    waited = 0.0
    try:
        with progress("replay", total=replay.selected) as update:
            while replay.state == "running":
                await asyncio.sleep(POLL_SECONDS)
                replay = await replays.get_replay(conn, replay.id)
                waited += POLL_SECONDS
                if waited > NO_RELAY_SECONDS and replay.sent + replay.skipped == 0:
                    print("No relay has taken the replay yet: ./stint status shows whether one runs.", file=sys.stderr)
                    waited = float("-inf")
                update(replay.succeeded + replay.failed_again + replay.skipped, what=output.counts_of(replay))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"The replay continues: ./stint dead watch {replay.id}, or ./stint dead cancel {replay.id}.", file=sys.stderr)
        raise
    return _print_replay(args, replay, _outcome(replay))


def _outcome(replay: Replay) -> int:
    """The exit code for a replay that has ended."""
    if replay.failed_again or replay.state == "stopped":
        return SOME_FAILED
    return NOT_ALL_SENT if replay.state == "cancelled" or replay.skipped * 2 > replay.selected else 0


def _print_replay(args: argparse.Namespace, replay: Replay, code: int) -> int:
    if args.json:
        _print_json(replay)
    else:
        output.print_replay(replay)
    return code


async def _edit(conn: Connection, args: argparse.Namespace) -> int:
    redactor = Redactor(settings())
    message_id = await selection.message_id(conn, args.id)
    before = await details.get_detail(conn, message_id, redactor, zone=settings().stint_timezone)
    if not isinstance(before.body, dict):
        raise CommandError("An unrecognized message can't be edited: no actor processes it.")
    body = selection.new_body(before.body, args)
    edit = selection.parse(Edit, {"body": body, "reason": args.reason or ("dry run" if args.dry_run else "")})
    shown, check = redactor.json(body), partial(check_edited, rules=EntryRules.of(settings()))
    if not args.json:
        output.print_difference(before.body, shown, changes=body != before.body)
    async with conn.transaction():
        if args.dry_run:
            await edits.validated_body(conn, message_id, body, redactor, check=check)
            return _print(json.dumps({"before": before.body, "after": shown}, indent=2) if args.json else "The body is valid.")
        await edits.edit(conn, message_id, edit, redactor, check=check, who=who())
    return await _show(conn, args) if args.json else _print("The body is valid, and the message is enqueued again.")


async def _discard_or_restore(conn: Connection, args: argparse.Namespace) -> int:
    reason = args.reason or ("dry run" if args.dry_run else "")
    action = selection.parse(Action, {"select": await selection.select(conn, args), "reason": reason, "dryRun": args.dry_run})
    act = actions.discard if args.action == "discard" else actions.restore
    async with conn.transaction():
        result = await act(conn, action, who=who())
    if args.json:
        _print_json(result)
    elif args.dry_run:
        print(f"{result.count:,} {WOULD[args.action]}; nothing was changed.")
    else:
        print(f"{DONE[args.action]}: {result.count:,}.")
    return 0 if result.count else NOTHING_MATCHED


async def _export(conn: Connection, args: argparse.Namespace) -> int:
    """Prints one JSON object a line: dead letters with all their attempts, redacted."""
    cursor, count, filters, redactor = None, 0, await selection.parse_filter(conn, args), Redactor(settings())
    with progress("export") as update:
        while True:
            page = json.loads(await lists.list_page(conn, Page(500, cursor), filters, redactor, state=args.in_state))
            for detail in await details.get_details(
                conn, [UUID(item["id"]) for item in page["items"]], redactor, zone=settings().stint_timezone
            ):
                print(detail.model_dump_json())
                count += 1
            update(count)
            if (cursor := page["nextCursor"]) is None:
                return 0 if count else NOTHING_MATCHED


def _print_json(model: BaseModel) -> None:
    print(model.model_dump_json(indent=2))


def _print(text: str) -> int:
    print(text)
    return 0
