"""The command lines of `./stint dead` and `./stint trigger`."""

import argparse
from typing import Any

from ops.command_line.arguments import positive, rate, when, with_state

EXITS = "exit 3 if any failed again, 5 if it was cancelled or most were skipped"
ITS_ID = "its id, or the first characters of it"


def add_actions(dead: argparse.ArgumentParser) -> None:
    """Adds the actions of `./stint dead`; without an action it lists the groups."""
    dead.set_defaults(json=False)
    as_json: dict[str, Any] = {"action": "store_true", "help": "as JSON", "default": argparse.SUPPRESS}
    dead.add_argument("--json", **as_json)
    actions = dead.add_subparsers(title="actions", metavar="ACTION", dest="action")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        parser = with_state(actions.add_parser(name, help=summary, description=summary))
        parser.add_argument("--json", **as_json)
        return parser

    action("groups", "dead letters grouped by actor, error and place")

    listing = action("list", "the dead letters, the latest first")
    _add_filter(listing)
    listing.add_argument("--in-state", choices=["dead", "discarded"], default="dead", help="default: dead")
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="default: 50")

    show = action("show", "one dead letter with all its attempts, its history and its cause")
    show.add_argument("id", help=ITS_ID)

    replay = action("replay", "send dead letters again")
    _add_selection(replay)
    replay.add_argument("--dry-run", action="store_true", help="only count the dead letters that would be sent")
    replay.add_argument("--rate", type=rate, metavar="N", help="at most N a second (default: 100)")
    replay.add_argument("--canary", type=positive, metavar="N", help="send N first; if one of them fails, send no more")
    replay.add_argument("--watch", action="store_true", help=f"show its progress to the end; {EXITS}")

    action("replays", "the replays, running ones first")
    action("watch", f"show the progress of a replay to its end; {EXITS}").add_argument("id", help=ITS_ID)
    cancel = action("cancel", "stop a replay; what it has not sent yet stays a dead letter")
    cancel.add_argument("id", help=ITS_ID)
    cancel.add_argument("--reason", metavar="WHY", help="why; recorded with your name and host")

    edit = action("edit", "correct the body of a dead letter, and replay it")
    edit.add_argument("id", help=ITS_ID)
    edit.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one field; may be repeated")
    edit.add_argument("--body", metavar="FILE", help="the whole body as JSON; - reads standard input")
    edit.add_argument("--reason", metavar="WHY", help="why; required")
    edit.add_argument("--dry-run", action="store_true", help="only show what would change, and whether the body is valid")

    for name, summary in (
        ("discard", "hide dead letters that are not needed any more; they are kept"),
        ("restore", "make discarded messages dead letters again"),
    ):
        changing = action(name, summary)
        _add_selection(changing)
        changing.add_argument("--dry-run", action="store_true", help="change nothing, only count what would be changed")

    export = action("export", "complete dead letters, one JSON object a line")
    _add_filter(export)
    export.add_argument("--in-state", choices=["dead", "discarded"], default="dead", help="default: dead")


def add_trigger(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `./stint trigger`."""
    parser.add_argument("kind", choices=["recompute_bill", "sync_bill", "move_entries"], help="which work")
    parser.add_argument("id", help="the id of the time bill, of the task for move_entries, or its first characters")
    parser.add_argument("--reason", metavar="WHY", help="why; required, and recorded with your name and host")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of dead letters, or their first characters")
    _add_filter(parser)
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--reason", metavar="WHY", help="why; required, and recorded with your name and host")


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", metavar="GROUP", help="only those of this group; its first characters are enough")
    parser.add_argument("--actor", help="only those of this actor")
    parser.add_argument("--queue", help="only those of this queue")
    parser.add_argument(
        "--since", type=when, metavar="WHEN", help="only those dead since then: 2h, 3d, 2026-11-25, or date and time"
    )
    parser.add_argument("--until", type=when, metavar="WHEN", help="only those dead before then")
    parser.add_argument("--q", metavar="TEXT", help="only those with this text in the error or the body")
