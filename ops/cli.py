"""The commands of `./stint`. Each is parsed here and run by a module of its own, which is imported only when it is needed."""

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from ops.command_line import arguments
from ops.command_line.parser import Overview, Parser, PrintVersion, undecodable
from ops.dead.arguments import add_actions, add_trigger
from ops.errors import CommandError, close_stdout_if_unread, explains_itself
from ops.secret_files import read_secret_files
from ops.state import CHECKOUT, DEFAULT, State

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrong usage. `dead` has further codes."""
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        parser.print_help(sys.stderr)
        return 2
    if words[0] == "help":
        words = [*words[1:], "--help"]
    args, rest = parser.parse_known_args(words)
    if rest and not args.passes_on:
        args.parser.error(f"unknown arguments: {' '.join(rest)}")
    if not args.passes_on and (text := undecodable(args)) is not None:
        args.parser.error(f"{text!a} is not valid UTF-8")
    args.rest = rest
    try:
        read_secret_files()
        command: Callable[[argparse.Namespace], int] = args.command
        code = command(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError as error:
        if not close_stdout_if_unread():
            return _report(args, error, 1)
        return 141
    except CommandError as error:
        return _report(args, error, error.code)
    except KeyboardInterrupt:
        print("stint: interrupted", file=sys.stderr)
        # if Ctrl-C arrived within an exec (dataclasses are made by one), Python would still end by SIGINT; another clears that
        exec("")  # noqa: S102
        return 130
    except Exception as error:
        if not explains_itself(error):
            raise
        return _report(args, error, 1)


def _report(args: argparse.Namespace, error: Exception, code: int) -> int:
    """Prints the error to stderr, with `--json` also as JSON to stdout, and returns the exit code. On a terminal, where both
    are seen, it is printed once."""
    if as_json := getattr(args, "json", None) is True:
        print(json.dumps({"error": str(error)}))
    if not (as_json and sys.stdout.isatty()):
        print(f"stint: {error}", file=sys.stderr)
    return code


def _parser() -> Overview:
    parser = Overview(prog="./stint", usage="./stint COMMAND [options]")
    parser.add_argument("--version", action=PrintVersion)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser, prog="./stint")
    _add_processes(commands)
    _add_maintenance(commands)
    _add_data(commands)
    _add_accounts(commands)
    _add_diagnosis(commands)
    return parser


def _add_processes(commands: Commands) -> None:
    up = _command(commands, "up", _up, "start Postgres, RabbitMQ, API, workers and relay", "./stint up --port 8100")
    arguments.add_up(up)
    ends = "stop the ./stint up that runs, started in whichever shell, and wait until it has ended"
    arguments.add_stop(_command(commands, "stop", _in("ops.running.stop", loads_environment=False), ends, "./stint stop"))
    again = "replace workers, relay and API of the ./stint up that runs, one after another, while it serves"
    _command(commands, "restart", _in("ops.running.restart", loads_environment=False), again, "./stint restart")
    shown = "show what the processes of ./stint up have logged, together and in order; also after its end"
    logs = _command(commands, "logs", _in("ops.running.logs", loads_environment=False), shown, "./stint logs work relay -f")
    arguments.add_logs(logs)

    test = "run the tests; further arguments go to pytest; --all adds the slow ones, -m unit runs those without servers"
    _command(commands, "test", _test, test, "./stint test -k reopening", passes_on=True)
    check = "lint, format, types, import ladder, words and docs of the checkout; exit 1 says what to do"
    _command(commands, "check", _in("ops.check", loads_environment=False), check)
    for name in ("faults", "mutants"):  # each has a parser of its own, with its own help
        developers = commands.add_parser(name, add_help=False)
        developers.set_defaults(command=_of_tests(f"tests.{name}"), passes_on=True, parser=developers)

    api = "run only the API"
    arguments.add_api(_command(commands, "api", _api, api, "./stint api --port 8001 --processes 2"))
    work = "run only a worker, which handles messages"
    arguments.add_work(_command(commands, "work", _work, work, "./stint work --queues timers,bills"))
    relay = "run only a relay, which publishes messages, and rescues, replays and prunes them"
    _command(commands, "relay", _relay, relay, "./stint relay")


def _add_maintenance(commands: Commands) -> None:
    _command(commands, "migrate", _migrate, "apply the missing migrations to the database", "DATABASE_URL=… ./stint migrate")
    _command(commands, "verify", _in("ops.verify"), "check the invariants of a live database; exit 1 names the broken rows")
    page = "print docs/schema.md: the tables of the database as diagrams, with a line each"
    _command(commands, "schema", _in("ops.schema_page"), page, "./stint schema > docs/schema.md")
    rotate = "encrypt all secrets in the database again, with the first key of SECRET_KEY"
    _command(commands, "rotate-keys", _in("ops.encryption.rotate"), rotate, "SECRET_KEY=new,old ./stint rotate-keys")
    reset = "SECRET_KEY is lost: give up what it encrypted, so that Stint works with another one; says before what that is"
    resetting = _command(commands, "reset-secrets", _in("ops.encryption.reset"), reset, "./stint reset-secrets --yes")
    resetting.add_argument("--yes", action="store_true", help="do it without a question")
    recompute = "recalculate all time bills, and assign bills to entries without one; the workers of the running Stint do it"
    example = "./stint recompute --dry-run --start-date 2026-01-01"
    arguments.add_recompute(_command(commands, "recompute", _in("ops.recompute"), recompute, example))


def _add_data(commands: Commands) -> None:
    archive = "write an archive of the database into a directory or a bucket of S3, while everything runs"
    example = "./stint backup /var/backups/stint --keep 14"
    arguments.add_backup(_command(commands, "backup", _in("ops.backup.run"), archive, example))
    back = "put the database of an archive in the place of the present one, or only try whether that is possible"
    example = "./stint restore /var/backups/stint --check"
    arguments.add_restore(_command(commands, "restore", _in("ops.backup.restore"), back, example))
    fill = "fill an empty installation with a realistic firm: customers, consultants, a year of hours"
    arguments.add_demo(_command(commands, "demo", _in("ops.demo.run"), fill, "./stint demo --entries 100000"))
    measure = "measure Stint against baselines in the same run: raw SQL, raw RabbitMQ, a bare ASGI app"
    example = "./stint bench --entries 100000 --json bench.json"
    arguments.add_bench(_command(commands, "bench", _in("ops.bench", loads_environment=False), measure, example))


def _add_accounts(commands: Commands) -> None:
    example = "./stint token --role none --email a@b.c"
    token = _in("ops.running.token", loads_environment=False)
    arguments.add_token(_command(commands, "token", token, "print a token, and nothing else", example))
    link = "print a link that signs a person in to the console once, within ten minutes, in a browser on this machine"
    console = _command(commands, "console", _in("ops.users", "run_console"), link, "./stint console you@example.com")
    console.add_argument("email", help="the user's address")
    users = "add, list or remove the firm's own users, or sign a user out"
    user = _command(commands, "user", _in("ops.users", "run_user"), users, "./stint user add jo@example.com")
    arguments.add_user_actions(user)
    rotate = "create a new key that signs tokens; tokens signed before remain valid until they expire"
    key = _command(commands, "rotate-signing-key", _in("ops.users", "run_rotate"), rotate, "./stint rotate-signing-key")
    revoke = "the old keys may be known to somebody else: reject every token that they signed, so that all users sign in again"
    key.add_argument("--distrust", action="store_true", help=revoke)


def _add_diagnosis(commands: Commands) -> None:
    shown = "show the state of queues, workers, servers and dead letters"
    status = _command(commands, "status", _in("ops.running.diagnosis", "run_status", loads_environment=False), shown)
    wrong = "say what is wrong, why, and what to do; exit 1 if anything is"
    doctor = _command(commands, "doctor", _in("ops.running.diagnosis", "run_doctor", loads_environment=False), wrong)
    xero = _command(commands, "xero", _in("ops.xero.check"), "compare approved bills with Xero", "./stint xero check --fresh")
    arguments.add_xero_actions(xero)
    for parser in (status, doctor):
        arguments.add_diagnosis(parser)
    dead = "find, understand and replay dead letters: messages whose retries are exhausted or pointless"
    example = "./stint dead replay --group G --canary 1 --reason fixed --watch"
    add_actions(_command(commands, "dead", _in("ops.dead.run"), dead, example))
    again = "have work done again for one thing: the sums of a time bill, its sync to Xero, the bills of a task's entries"
    example = "./stint trigger sync_bill ID --reason 'its entry was deleted in Xero'"
    add_trigger(_command(commands, "trigger", _in("ops.dead.trigger"), again, example))


def _command(
    commands: Commands,
    name: str,
    command: Callable[[argparse.Namespace], int],
    summary: str,
    example: str = "",
    *,
    passes_on: bool = False,
) -> Parser:
    parser = commands.add_parser(
        name, description=f"{summary[0].upper()}{summary[1:]}.", epilog=f"example: {example}" if example else None
    )
    parser.set_defaults(command=command, passes_on=passes_on, parser=parser)
    directory = "the installation's directory (default: .stint in the checkout)"
    parser.add_argument("--state", type=Path, default=DEFAULT, metavar="DIR", help=directory)
    return parser


def _up(args: argparse.Namespace) -> int:
    from ops.up.up import run

    processes = {"api": args.api_processes, "work": args.work_processes}
    return run(State(args.state), port=args.port, verbose=args.verbose, sandbox=args.sandbox, **processes)


def _api(args: argparse.Namespace) -> int:
    """Becomes an API process, or the supervisor of several, with the environment of the running Stint. A socket that systemd
    passes is used like one that `--fd` names."""
    from ops.up.api_processes import passed_fd, run

    _load_and_check(args)
    if (inherited := passed_fd(os.environ)) is not None:
        args.fd = inherited
    if args.processes > 1:
        return run(host=args.host, port=args.port, fd=args.fd, count=args.processes, directory=State(args.state).directory)
    socket = ["--fd", str(args.fd)] if args.fd is not None else ["--host", args.host, "--port", str(args.port)]
    return _become("api", *socket)


def _work(args: argparse.Namespace) -> int:
    _load_and_check(args)
    return _become("actors", "work", *(["--queues", args.queues] if args.queues else []), "--threads", str(args.threads))


def _relay(args: argparse.Namespace) -> int:
    _load_and_check(args)
    return _become("actors", "relay")


def _test(args: argparse.Namespace) -> int:
    os.chdir(CHECKOUT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start hundreds of processes, which should compile nothing twice
    return _become("pytest", *_parallel(args.rest), *args.rest)


def _parallel(rest: Sequence[str]) -> list[str]:
    """How many processes run tests. Each starts a Stint of its own, so one file, and tests without servers, get none."""
    chosen = any(argument.startswith(("-n", "--numprocesses", "--pdb")) for argument in rest)
    one_file = sum(argument.partition("::")[0].endswith(".py") for argument in rest) == 1
    if chosen or one_file or "--stop" in rest or "unit" in rest:
        return []
    # Three for each processor: many tests wait, most of them for a killed process to start again.
    return ["-n", str(min(6, 3 * (os.cpu_count() or 1)))]


def _of_tests(module: str) -> Callable[[argparse.Namespace], int]:
    """A command that becomes `python -m MODULE …`, in the checkout."""

    def run_module(args: argparse.Namespace) -> int:
        os.chdir(CHECKOUT)
        return _become(module, *args.rest)

    return run_module


def _load_and_check(args: argparse.Namespace) -> None:
    """Loads the environment of the running Stint, and refuses a database that this version cannot run on, and a
    pooler."""
    import asyncio

    from schemas.postgres.migrate import check_version
    from schemas.postgres.server.pooler import refuse_pooler

    _load_environment(args, "DATABASE_URL", "AMQP_URL")
    asyncio.run(check_version(os.environ["DATABASE_URL"]))
    asyncio.run(refuse_pooler(os.environ["DATABASE_URL"]))


def _in(module: str, function: str = "run", *, loads_environment: bool = True) -> Callable[[argparse.Namespace], int]:
    """A command that a function of another module runs. The module is imported only then, so that `./stint` starts quickly."""

    def run_there(args: argparse.Namespace) -> int:
        if loads_environment:
            _load_environment(args)
        command: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        return command(args)

    return run_there


def _migrate(args: argparse.Namespace) -> int:
    _load_environment(args)
    import asyncio

    from schemas.postgres.migrate import migrate
    from schemas.postgres.server.pooler import refuse_pooler
    from schemas.settings import long_hours

    asyncio.run(refuse_pooler(os.environ["DATABASE_URL"]))
    applied = asyncio.run(migrate(os.environ["DATABASE_URL"], long_hours=long_hours()))
    print("\n".join(f"applied {name}" for name in applied) or "nothing to do: the database is up to date")
    return 0


def _load_environment(args: argparse.Namespace, *need: str) -> None:
    """Adds the settings of the state directory to os.environ; variables that are set already keep their values."""
    os.environ.update(State(args.state).environment(need=need or ("DATABASE_URL",)))


def _become(*module: str) -> int:
    """Replaces this process by `python -m MODULE …`. -P: never import modules of the current directory."""
    os.environ["PYTHONPATH"] = str(CHECKOUT)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", *module])  # noqa: S606 - without a shell


if __name__ == "__main__":
    gc.set_threshold(100_000)  # looking for garbage among what is imported takes a tenth of a command's time, and finds none
    sys.exit(main())
