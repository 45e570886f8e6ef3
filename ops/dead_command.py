"""The command line of `./stint dead`."""

import argparse
from collections.abc import Callable
from typing import Any

WithState = Callable[[argparse.ArgumentParser], argparse.ArgumentParser]


def add_actions(dead: argparse.ArgumentParser, with_state: WithState, positive: Callable[[str], int]) -> None:
    """Adds what `./stint dead` can do; without an action it shows the groups."""
    dead.set_defaults(json=False)
    as_json: dict[str, Any] = {"action": "store_true", "help": "as JSON", "default": argparse.SUPPRESS}
    dead.add_argument("--json", **as_json)
    actions = dead.add_subparsers(title="actions", metavar="ACTION", dest="action")

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        parser = with_state(actions.add_parser(name, help=summary, description=summary, allow_abbrev=False))
        parser.add_argument("--json", **as_json)
        return parser

    action("groups", "what letters die of: by actor, error and place")

    listing = action("list", "the letters, the latest death first")
    _narrowing(listing)
    listing.add_argument("--in-state", choices=["dead", "discarded"], default="dead", help="default: dead")
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="default: 50")

    action("show", "one letter with every attempt, its history, its cause").add_argument("id", help="or its first characters")

    replay = action("replay", "send letters again")
    _choosing(replay)
    replay.add_argument("--dry-run", action="store_true", help="only say how many it would be")
    replay.add_argument("--rate", type=float, metavar="N", help="at most N a second")
    replay.add_argument("--canary", type=positive, metavar="N", help="N go ahead; should one die again, the rest stays")
    replay.add_argument("--watch", action="store_true", help="follow it to its end; 3 if letters failed again")

    action("watch", "follow a replay to its end").add_argument("id")
    action("cancel", "leave dead what a replay has not sent yet").add_argument("id")

    edit = action("edit", "correct a letter's body, and replay it")
    edit.add_argument("id")
    edit.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one field; may be repeated")
    edit.add_argument("--body", metavar="FILE", help="the whole body as JSON; - reads standard input")
    edit.add_argument("--reason", metavar="WHY", help="why; needed")
    edit.add_argument("--dry-run", action="store_true", help="only show what would change, and whether it fits")

    _choosing(action("discard", "put letters away that nobody needs done; they are kept"))
    _choosing(action("restore", "make discarded letters dead ones again"))

    export = action("export", "whole letters, one JSON object a line")
    _narrowing(export)
    export.add_argument("--in-state", choices=["dead", "discarded"], default="dead", help="default: dead")


def _choosing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="letters, by id or its first characters")
    _narrowing(parser)
    parser.add_argument("--all", action="store_true", help="every one there is")
    parser.add_argument("--reason", metavar="WHY", help="why; needed, and written down beside your name")


def _narrowing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", metavar="GROUP", help="only those that died of this")
    parser.add_argument("--actor", help="only this actor's")
    parser.add_argument("--queue", help="only this queue's")
    parser.add_argument("--since", metavar="WHEN", help="only those that died since: 2h, 3d, 2026-11-25, or a whole time")
    parser.add_argument("--until", metavar="WHEN", help="only those that died before")
    parser.add_argument("--q", metavar="TEXT", help="only those with this text in the error or the body")
