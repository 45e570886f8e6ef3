"""The options of each command of `./stint`, and the types that argparse converts them with."""

import argparse
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

EXAMPLES = """\
examples:
  ./stint up                                  everything, at http://127.0.0.1:8000
  ./stint up --port 8100 --state /tmp/second  a second installation on the same machine
  ./stint up --sandbox                        with stand-ins for Xero and Slack, to see bills arrive and type /task
  ./stint check                               lint, types, words and unit tests, in seconds
  ./stint test                                the tests; `./stint test --all` with the slow ones
  ./stint console a@example.com               a link that signs them in to the console, once
  ./stint token --role internal_admin --email a@example.com
  ./stint user add jo@example.com --name Jo
  ./stint demo                                a firm to look at: customers, consultants, a year of hours
  ./stint doctor                              what is wrong, why, and what to do
  ./stint dead                                dead letters; ./stint dead replay sends them again
  ./stint verify                              check the invariants of the database
  ./stint xero check --fresh                  compare approved bills with the time entries in Xero
"""


def add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="the API's port on 127.0.0.1 (default: 8000)")
    sandbox = "with stand-ins for Xero and Slack, on the next two ports; nothing is sent to Xero or Slack"
    parser.add_argument("--sandbox", action="store_true", help=sandbox)
    processes = "API processes that share the port; while one is killed or restarted, the others answer (default: 2)"
    parser.add_argument("--api-processes", type=positive, default=2, metavar="N", help=processes)
    parser.add_argument("--verbose", action="store_true", help="show everything that the processes log, not only warnings")


def add_recompute(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start-date", type=day, metavar="DAY", help="first day, inclusive (YYYY-MM-DD)")
    parser.add_argument("--end-date", type=day, metavar="DAY", help="last day, inclusive")
    parser.add_argument("--customer", metavar="ID", help="only the hours of this customer")
    parser.add_argument("--user", metavar="ID", help="only the hours of this user")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; show what would change")
    parser.add_argument("--json", action="store_true", help="the finished job as JSON")


def add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entries", type=positive, default=10_000, metavar="N", help="time entries (default: 10000)")
    people = "consultants (default: as many as have that number of entries in a year); more of them have fewer weeks"
    parser.add_argument("--consultants", type=positive, metavar="N", help=people)


def add_bench(parser: argparse.ArgumentParser) -> None:
    entries = "time entries of demo data (default: 1000000)"
    parser.add_argument("--entries", type=positive, default=1_000_000, metavar="N", help=entries)
    parser.add_argument("--only", action="append", metavar="NAME", help="only this comparison; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE; - is standard output")
    page = "also write the table into FILE, such as docs/performance.md, between its two markers"
    parser.add_argument("--page", type=Path, metavar="FILE", help=page)
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="rounds of each side (default: 3)")
    parser.add_argument("--seconds", type=positive, default=4, metavar="N", help="seconds of load in each round (default: 4)")


def add_token(parser: argparse.ArgumentParser) -> None:
    roles = "internal_admin, internal_user, customer_admin, customer_user, or none"
    parser.add_argument("--role", required=True, help=roles)
    parser.add_argument("--email", required=True, help="the user's address")
    parser.add_argument("--customer", metavar="ID", help="the customer's id, for a customer's user")


def add_xero_actions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    check = "bills against time entries in Xero: what agrees, differs, is missing or is too many; exit 3 unless all agree"
    checking = with_state(actions.add_parser("check", help=check, description=check, allow_abbrev=False))
    checking.add_argument(
        "--start-date", type=day, metavar="DAY", help="first day, inclusive (default: a year before the last)"
    )
    checking.add_argument(
        "--end-date", type=day, metavar="DAY", help="last day, inclusive (default: a year after the first, or today)"
    )
    fresh = "first read every project in Xero again, within its rate limits: 5 seconds for 500 entries"
    checking.add_argument("--fresh", action="store_true", help=fresh)
    formats = checking.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="as JSON")
    formats.add_argument("--csv", action="store_true", help="all bills and entries as CSV")


def add_user_actions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    add = with_state(actions.add_parser("add", help="add a user", allow_abbrev=False))
    add.add_argument("email")
    add.add_argument("--name", help="the name to show")
    add.add_argument(
        "--role", choices=["internal_user", "internal_admin"],
        help="default: internal_user for a new or removed user; others keep their role",
    )  # fmt: skip
    listing = with_state(actions.add_parser("list", help="list the users", allow_abbrev=False))
    listing.add_argument("--json", action="store_true", help="as JSON")
    remove = with_state(actions.add_parser("remove", help="remove a user", allow_abbrev=False))
    remove.add_argument("email")
    remove.add_argument("--stop-timer", action="store_true", help="also stop the user's running timer")
    remove.add_argument(
        "--end-time", type=moment, metavar="T", help="when the timer ended: 2026-11-23T17:30:00Z (default: now)"
    )
    sign_out = with_state(actions.add_parser("sign-out", help="end all sessions of a user", allow_abbrev=False))
    sign_out.add_argument("email")


def moment(text: str) -> datetime:
    """A time with its offset, in whole seconds."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset from UTC; write 2026-11-23T17:30:00Z")
    return value


def when(text: str) -> str:
    """A time in ISO 8601, from that, from a day, or from a duration before now: 90m, 2h, 3d."""
    units = {"m": "minutes", "h": "hours", "d": "days"}
    try:
        if text[:-1].isdecimal() and text[-1:] in units:
            return (datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})).isoformat()
        value = datetime.fromisoformat(text if "T" in text else f"{text}T00:00:00Z")
    except (OverflowError, ValueError):
        value = None
    if value is None or value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} is not a time: write 90m, 2h, 3d, 2026-11-25 or 2026-11-25T09:30:00Z")
    return value.isoformat()


def rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 10_000:  # NaN is neither
        raise argparse.ArgumentTypeError(f"{text} is not a rate: use a number above 0, and 10000 at most")
    return value


def with_state(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Accepts `--state` after the action as well. Without it there, the value given before the action is kept."""
    parser.add_argument("--state", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)
    return parser


def port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: use a number from 1 to 65535")
    return int(text)


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a day: write YYYY-MM-DD") from None
