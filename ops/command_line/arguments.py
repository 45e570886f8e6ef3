"""The options of each command of `./stint`, and the types that argparse converts them with."""

import argparse
from datetime import UTC, date, datetime, timedelta
from pathlib import Path


def add_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="the API's port on 127.0.0.1 (default: 8000)")
    sandbox = "with stand-ins for Xero and Slack, on the next two ports; nothing is sent to Xero or Slack"
    parser.add_argument("--sandbox", action="store_true", help=sandbox)
    processes = "API processes that share the port; while one is killed or restarted, the others answer (default: 2)"
    parser.add_argument("--api-processes", "--api", type=positive, default=2, metavar="N", help=processes)
    workers = "workers of each of the three kinds: of timers, of bills, and of calls to other servers (default: 1)"
    parser.add_argument("--work-processes", "--work", type=positive, default=1, metavar="N", help=workers)
    parser.add_argument("--verbose", action="store_true", help="show everything that the processes log, not only warnings")


def add_api(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="the port to listen on (default: 8000)")
    inherited = "a descriptor of a listening socket that this process has inherited, instead of --host and --port"
    parser.add_argument("--fd", type=descriptor, metavar="N", help=inherited)
    processes = "the number of processes on one socket, which this command holds; SIGUSR2 replaces them in turn (default: 1)"
    parser.add_argument("--processes", type=positive, default=1, metavar="N", help=processes)


def add_work(parser: argparse.ArgumentParser) -> None:
    queues = "the queues to serve, separated by commas or -: timers, bills, xero, slack, mail (default: all)"
    parser.add_argument("--queues", metavar="A,B", help=queues)
    threads = "messages that are handled at the same time, each with a connection to Postgres (default: 4)"
    parser.add_argument("--threads", type=positive, default=4, metavar="N", help=threads)


def add_stop(parser: argparse.ArgumentParser) -> None:
    longest = "seconds to wait at most for its end (default: 60)"
    parser.add_argument("--timeout", type=positive, default=60, metavar="SECONDS", help=longest)


def add_logs(parser: argparse.ArgumentParser) -> None:
    parts = "only these: api, work, relay, postgres, rabbitmq, or one process, such as work-bills (default: all)"
    parser.add_argument("parts", nargs="*", metavar="PART", help=parts)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is logged from now on, until Ctrl-C")
    parser.add_argument(
        "-n", "--lines", type=positive, default=50, metavar="N", help="begin with the last N lines (default: 50)"
    )
    parser.add_argument("--raw", action="store_true", help="the lines as they are in the files, such as JSON")


def add_recompute(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start-date", type=day, metavar="DAY", help="first day, inclusive (YYYY-MM-DD)")
    parser.add_argument("--end-date", type=day, metavar="DAY", help="last day, inclusive")
    parser.add_argument("--customer", metavar="ID", help="only the hours of this customer")
    parser.add_argument("--user", metavar="ID", help="only the hours of this user")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; show what would change")
    parser.add_argument("--json", action="store_true", help="the finished job as JSON")


def add_backup(parser: argparse.ArgumentParser) -> None:
    place = "a directory, or s3://BUCKET/PREFIX with AWS's usual credentials; each archive is a directory there"
    parser.add_argument("place", metavar="DIR|s3://…", help=place)
    keep = "afterwards delete the archives there beyond the latest N (default: delete none)"
    parser.add_argument("--keep", type=positive, metavar="N", help=keep)
    without = "leave out signing keys, sessions and Xero's tokens: after a restore an admin connects Xero again"
    secrets = parser.add_mutually_exclusive_group()
    secrets.add_argument("--without-keys", action="store_true", help=without)
    own_key = "also put SECRET_KEY into the archive, encrypted under the text of FILE (16 characters or more)"
    secrets.add_argument("--passphrase-file", type=Path, metavar="FILE", help=own_key)


def add_restore(parser: argparse.ArgumentParser) -> None:
    source = "where ./stint backup wrote to, for the latest archive there, or one archive"
    parser.add_argument("source", metavar="DIR|s3://…", help=source)
    how = parser.add_mutually_exclusive_group()
    check = "restore into a new database, compare the rows, check the invariants, and delete it; exit 1 if rows break one"
    how.add_argument("--check", action="store_true", help=check)
    replace = "replace a database that is not empty; it is kept under another name"
    how.add_argument("--replace", action="store_true", help=replace)
    without = "leave out signing keys and Xero's tokens, for example because their SECRET_KEY is lost"
    secrets = parser.add_mutually_exclusive_group()
    secrets.add_argument("--without-keys", action="store_true", help=without)
    its_key = "the passphrase of the archive, if its SECRET_KEY was another one"
    secrets.add_argument("--passphrase-file", type=Path, metavar="FILE", help=its_key)
    sessions = "keep sessions and tokens: only if nothing was changed since the backup, as for a move to another server"
    parser.add_argument("--keep-sessions", action="store_true", help=sessions)


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


def add_diagnosis(parser: argparse.ArgumentParser) -> None:
    asked = "ask the API at this URL (default: the ./stint up that runs, else STINT_URL, else PUBLIC_URL)"
    parser.add_argument("--url", metavar="URL", help=asked)
    parser.add_argument("--json", action="store_true", help="as JSON")


def add_xero_actions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    check = "bills against time entries in Xero: what agrees, differs, is missing or is too many; exit 3 unless all agree"
    checking = with_state(actions.add_parser("check", help=check, description=check))
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
    add = with_state(actions.add_parser("add", help="add a user"))
    add.add_argument("email")
    add.add_argument("--name", help="the name to show")
    add.add_argument(
        "--role", choices=["internal_user", "internal_admin"],
        help="default: internal_user for a new or removed user; others keep their role",
    )  # fmt: skip
    listing = with_state(actions.add_parser("list", help="list the users"))
    listing.add_argument("--json", action="store_true", help="as JSON")
    remove = with_state(actions.add_parser("remove", help="remove a user"))
    remove.add_argument("email")
    remove.add_argument("--stop-timer", action="store_true", help="also stop the user's running timer")
    remove.add_argument(
        "--end-time", type=moment, metavar="T", help="when the timer ended: 2026-11-23T17:30:00Z (default: now)"
    )
    sign_out = with_state(actions.add_parser("sign-out", help="end all sessions of a user"))
    sign_out.add_argument("email")


def moment(text: str) -> datetime:
    """A time with its offset."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!a} is not a time: write 2026-11-23T17:30:00Z") from None
    if value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!a} has no offset from UTC; write 2026-11-23T17:30:00Z")
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
    """Accepts `--state` after the action as well. Without it there, the value given before the action is kept. Errors in the
    action's arguments are reported with the action's usage."""
    parser.add_argument("--state", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)
    parser.set_defaults(parser=parser)
    return parser


def port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: use a number from 1 to 65535")
    return int(text)


def descriptor(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not the number of a file descriptor")
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
