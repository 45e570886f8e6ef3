"""The commands of `./stint`: each parsed here, done elsewhere, and imported only when it is asked for."""

import argparse
import asyncio
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from datetime import date
from importlib import import_module
from pathlib import Path

from ops.dead_command import add_actions
from ops.errors import CommandError
from ops.state import CHECKOUT, DEFAULT, State

_EXAMPLES = """\
examples:
  ./stint up                                  everything, at http://127.0.0.1:8000
  ./stint up --port 8100 --state /tmp/second  a second one beside it
  ./stint up --sandbox                        with stand-ins for Xero and Slack, to see bills arrive and type /task
  ./stint test                                the tests; `./stint test --all` with the slow ones
  ./stint token --role internal_admin --email a@example.com
  ./stint user add jo@example.com --name Jo
  ./stint demo                                a firm to look at: customers, consultants, a year of hours
  ./stint doctor                              what is wrong with the running one, why, and what to do
  ./stint dead                                what failed for good; ./stint dead replay sends it again
  ./stint verify                              check the invariants of the running one's database
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 not understood; `dead` has more."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.passes_on:
        arguments.parser.error(f"unknown arguments: {' '.join(rest)}")
    arguments.rest = rest
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        code = command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError as error:
        if not _nobody_reads():
            return _refused(arguments, error, 1)
        return 141
    except CommandError as error:
        return _refused(arguments, error, error.code)
    except KeyboardInterrupt:
        print("stint: interrupted", file=sys.stderr)
        # if Ctrl-C came in an exec (dataclasses are made by one), Python would end by SIGINT all the same; another clears that
        exec("")  # noqa: S102
        return 130
    except Exception as error:
        if not _is_foreseen(error):
            raise
        return _refused(arguments, error, 1)


def _nobody_reads() -> bool:
    """Whether our output is what broke, as when `| head` has seen enough; then nothing more is tried."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _refused(arguments: argparse.Namespace, error: Exception, code: int) -> int:
    """Says why; to a program that asked for JSON, in JSON, too."""
    if getattr(arguments, "json", None) is True:
        print(json.dumps({"error": str(error)}))
    print(f"stint: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./stint",
        description="Stint, the back end of a firm that sells its hours.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    up = _command(commands, "up", _up, "start Postgres, RabbitMQ, API, workers and relay", "./stint up --port 8100")
    up.add_argument("--port", type=_port, default=8000, metavar="N", help="the API's port on 127.0.0.1 (default: 8000)")
    play = "with stand-ins for Xero and Slack, on the next two ports; nothing goes there"
    up.add_argument("--sandbox", action="store_true", help=play)
    up.add_argument("--verbose", action="store_true", help="show all that the parts log, not only warnings and errors")

    test = "run the tests; further arguments go to pytest, --all adds the slow ones"
    _command(commands, "test", _test, test, "./stint test -k reopening", passes_on=True)

    storm = "let a firm work while everything fails around it, and compare what is there with what was promised"
    _command(commands, "faults", _faults, storm, "./stint faults --minutes 10 --seed 7", passes_on=True)

    api = "run the API alone; further arguments: --host HOST, --port N"
    _command(commands, "api", _module("api"), api, "./stint api --port 8001", passes_on=True)
    work = "run a worker alone; further arguments: --queues A,B, --threads N"
    _command(commands, "work", _module("actors", "work"), work, "./stint work --queues timers,bills", passes_on=True)
    _command(commands, "relay", _module("actors", "relay"), "run a relay alone", "./stint relay", passes_on=True)

    _command(commands, "migrate", _migrate, "bring the database up to date", "DATABASE_URL=… ./stint migrate")
    _command(commands, "verify", _in("ops.verify"), "check the invariants of a live database; exit 1 names what is broken")

    rotate = "encrypt what is secret in the database anew, under the first key of SECRET_KEY"
    _command(commands, "rotate-keys", _in("ops.keys"), rotate, "SECRET_KEY=new,old ./stint rotate-keys")

    recompute = "sum all time bills again, and give bills to entries that have none; in the running one, by its workers"
    again = _command(
        commands, "recompute", _in("ops.recompute"), recompute, "./stint recompute --dry-run --start-date 2026-01-01"
    )
    again.add_argument("--start-date", type=_day, metavar="DAY", help="first day, inclusive (YYYY-MM-DD)")
    again.add_argument("--end-date", type=_day, metavar="DAY", help="last day, inclusive")
    again.add_argument("--customer", metavar="ID", help="only this customer's")
    again.add_argument("--user", metavar="ID", help="only this user's")
    again.add_argument("--dry-run", action="store_true", help="change nothing; show what would change")
    again.add_argument("--json", action="store_true", help="the finished job as JSON")

    fill = "fill an empty installation with a believable firm: customers, consultants, a year of hours"
    demo = _command(commands, "demo", _in("ops.demo"), fill, "./stint demo --entries 100000")
    demo.add_argument("--entries", type=_positive, default=10_000, metavar="N", help="time entries (default: 10000)")

    measure = "measure Stint against floors in the same run: raw SQL, raw RabbitMQ, a bare ASGI app"
    bench = _command(
        commands, "bench", _in("ops.bench", enters=False), measure, "./stint bench --entries 100000 --json bench.json"
    )
    bench.add_argument("--entries", type=_positive, default=1_000_000, metavar="N", help="of demo data (default: 1000000)")
    bench.add_argument("--only", action="append", metavar="NAME", help="only this comparison; may be repeated")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too; - is standard output")
    bench.add_argument("--rounds", type=_positive, default=3, metavar="N", help="of each side, in turn (default: 3)")
    bench.add_argument("--seconds", type=_positive, default=4, metavar="N", help="of load in each round (default: 4)")

    token = _command(
        commands,
        "token",
        _in("ops.users", "run_token"),
        "print a token, and nothing else",
        "./stint token --role none --email a@b.c",
    )
    roles = "internal_admin, internal_user, customer_admin, customer_user, or none"
    token.add_argument("--role", required=True, help=roles)
    token.add_argument("--email", required=True, help="whose token it is")
    token.add_argument("--customer", metavar="ID", help="the customer's id, for a customer's user")

    _add_user_commands(commands)
    rotate = "make a new key to sign tokens with; those signed before stay good until they expire"
    key = _command(commands, "rotate-signing-key", _in("ops.users", "run_rotate"), rotate, "./stint rotate-signing-key")
    distrust = "somebody else may have the old keys: believe nothing that they signed, so that everybody signs in again"
    key.add_argument("--distrust", action="store_true", help=distrust)

    stands = _command(commands, "status", _in("ops.status"), "how it stands: queues, workers, servers, dead letters")
    stands.add_argument("--json", action="store_true", help="as JSON")
    wrong = _command(
        commands, "doctor", _in("ops.status", "run_doctor"), "what is wrong, why, and what to do; exit 1 if anything is"
    )
    wrong.add_argument("--json", action="store_true", help="as JSON")
    letters = "dead letters: what failed for good; find, understand and replay it"
    dead = _command(
        commands, "dead", _in("ops.dead_letters"), letters, "./stint dead replay --group G --canary 1 --reason mended --watch"
    )
    add_actions(dead, _with_state, _positive)
    return parser


def _add_user_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    people = "add, list or remove the firm's own people"
    user = _command(commands, "user", _in("ops.users", "run_user"), people, "./stint user add jo@example.com")
    actions = user.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    add = _with_state(actions.add_parser("add", help="add a person", allow_abbrev=False))
    add.add_argument("email")
    add.add_argument("--name", help="the name to show")
    add.add_argument("--role", choices=["internal_user", "internal_admin"], default="internal_user")
    listing = _with_state(actions.add_parser("list", help="list the people", allow_abbrev=False))
    listing.add_argument("--json", action="store_true", help="as JSON")
    remove = _with_state(actions.add_parser("remove", help="remove a person", allow_abbrev=False))
    remove.add_argument("email")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    summary: str,
    example: str = "",
    *,
    passes_on: bool = False,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}" if example else None,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command, passes_on=passes_on, parser=parser)
    where = "the installation's directory (default: .stint in the checkout)"
    parser.add_argument("--state", type=Path, default=DEFAULT, metavar="DIR", help=where)
    return parser


def _with_state(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`--state` may stand after the action too; when it does not, the one before it counts."""
    parser.add_argument("--state", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: name a number from 1 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a day: write YYYY-MM-DD") from None


def _up(arguments: argparse.Namespace) -> int:
    from ops.up import run

    return run(State(arguments.state), port=arguments.port, verbose=arguments.verbose, sandbox=arguments.sandbox)


def _test(arguments: argparse.Namespace) -> int:
    chosen = any(argument.startswith(("-n", "--numprocesses", "--pdb")) for argument in arguments.rest)
    # one more than there are processors: much of it waits for what it has killed to come back. Each takes a run of neighbours,
    # which share what their module starts, and who is done takes half of what another has left
    parallel = [] if chosen else ["-n", str(min(4, (os.cpu_count() or 1) + 1)), "--dist", "worksteal"]
    os.chdir(CHECKOUT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start hundreds of processes, which need not compile everything anew
    return _become("pytest", *parallel, *arguments.rest)


def _faults(arguments: argparse.Namespace) -> int:
    os.chdir(CHECKOUT)
    return _become("tests.faults", *arguments.rest)


def _module(*start: str) -> Callable[[argparse.Namespace], int]:
    def run_module(arguments: argparse.Namespace) -> int:
        _enter(arguments, "DATABASE_URL", "AMQP_URL")
        return _become(*start, *arguments.rest)

    return run_module


def _in(module: str, function: str = "run", *, enters: bool = True) -> Callable[[argparse.Namespace], int]:
    """A command that has a module of its own, imported only when it is asked for: starting stays quick."""

    def run_there(arguments: argparse.Namespace) -> int:
        if enters:
            _enter(arguments)
        command: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        return command(arguments)

    return run_there


def _migrate(arguments: argparse.Namespace) -> int:
    _enter(arguments)
    from schemas.migrate import migrate

    applied = asyncio.run(migrate(os.environ["DATABASE_URL"]))
    print("\n".join(f"applied {name}" for name in applied) or "nothing to do: the database is up to date")
    return 0


def _enter(arguments: argparse.Namespace, *need: str) -> None:
    """Puts what the state knows into os.environ, whose own values win."""
    os.environ.update(State(arguments.state).environment(need=need or ("DATABASE_URL",)))


def _become(*module: str) -> int:
    """Replaces this process by `python -m MODULE …`. -P: the current directory's modules are not ours."""
    os.environ["PYTHONPATH"] = str(CHECKOUT)
    sys.stdout.flush()
    os.execv(  # noqa: S606 - no shell is wanted
        sys.executable, [sys.executable, "-P", "-m", *module]
    )


def _is_foreseen(error: Exception) -> bool:
    """Whether its text says enough: wrong settings, a database that is away, a file that cannot be used."""
    import psycopg

    from schemas.settings import SettingsMissing

    return isinstance(error, SettingsMissing | psycopg.Error | OSError)


if __name__ == "__main__":
    sys.exit(main())
