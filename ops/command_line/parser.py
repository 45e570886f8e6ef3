"""The parser of `./stint`: argparse's, which also says what a mistyped word may mean."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

OVERVIEW = """\
Stint, the back end of a firm that sells its hours.

  up          start all of it: Postgres, RabbitMQ, API, workers, relay
  stop        stop the Stint that runs; restart replaces it part by part
  logs        show what its processes have logged; -f: also what follows
  status      show queues, workers, servers and dead letters
  doctor      say what is wrong, why, and what to do
  dead        find, understand and replay dead letters
  trigger     have work done again for one thing, such as a time bill
  console     print a link that signs a person in to the console, once
  token       print a token for the API
  user        add, list or remove the firm's own users, or sign one out
  xero        compare approved bills with Xero
  recompute   calculate time bills again
  backup      write an archive of the database; restore puts it back
  demo        fill an empty installation with a firm to look at
  migrate     apply the missing migrations; verify checks the invariants
  keys        rotate-signing-key, rotate-keys, reset-secrets
  one part    api, work, relay: for another supervisor than ./stint up
  developers  test, check, faults, mutants, bench, schema

./stint COMMAND --help has the options and an example of each command.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors have the nearest known option or command."""

    def __init__(self, **named: Any) -> None:
        super().__init__(allow_abbrev=False, **named)
        self._given: list[str] = []

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Prints the usage and the message, with what an unknown option among the arguments may mean, and exits with 2."""
        super().error(f"{message}{self._nearest_option()}")

    def _nearest_option(self) -> str:
        for word in self._given:
            name = word.partition("=")[0]
            if name == "--":
                break
            if name.startswith("--") and name not in self._option_string_actions:
                for near in difflib.get_close_matches(name, self._option_string_actions, 1):
                    return f"; did you mean {near}?"
        return ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        near = difflib.get_close_matches(str(value), choices, 1)
        if action.metavar == "COMMAND":
            hint = f"did you mean {near[0]}?" if near else "./stint --help lists the commands"
            raise argparse.ArgumentError(None, f"there is no command {value!a}: {hint}")
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(choices)}"
        raise argparse.ArgumentError(action, f"there is no {value!a}: {hint}")


class Overview(Parser):
    """The parser of the commands. Its help is one screen: a line for each command that many people need."""

    def format_help(self) -> str:
        return f"{self.format_usage()}\n{OVERVIEW}"


class PrintVersion(argparse.Action):
    """`--version`: prints it and exits. It is read only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import tomllib

        from ops.state import CHECKOUT

        version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
        print(f"stint {version}")
        parser.exit()


def undecodable(args: argparse.Namespace) -> str | None:
    """An argument that is not UTF-8, which Postgres would refuse. Paths need not be."""
    for value in vars(args).values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
                return text
    return None
