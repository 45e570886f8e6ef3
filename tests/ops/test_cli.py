"""The command line: valid and invalid arguments, and errors."""

import argparse
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ops import cli
from ops.command_line.parser import Parser
from ops.state import CHECKOUT

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "AMQP_URL", "SECRET_KEY", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The modules by which commands would have replaced themselves."""
    seen: list[tuple[str, ...]] = []

    def become(*module: str) -> int:
        seen.append(module)
        return 0

    monkeypatch.setattr(cli, "_become", become)
    return seen


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["up", "--port", "0"],
        ["up", "--port", "70000"],
        ["up", "--port", "x"],
        ["up", "--stat", "x"],
        ["up", "surplus"],
        ["token", "--role", "internal_admin"],
        ["user"],
        ["user", "add"],
        ["user", "add", "a@example.com", "--role", "customer_admin"],
        ["verify", "--all"],
        *(
            ["dead", "list", "--since", when]
            for when in ("yesterday", "", "h", "2w", "2026-13-01", "2026-11-25T09:30", "9" * 400 + "d")
        ),
        *(["dead", "replay", "--all", "--rate", rate] for rate in ("nan", "0", "-1", "inf", "10001", "fast")),
        ["dead", "list", "--q", "\udcff"],
    ],
)
def test_what_is_not_understood_exits_2_with_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ./stint")


def parsers() -> dict[str, Parser]:
    """The parser of each command."""
    [commands] = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(commands.choices)


def usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints when it does not understand its arguments."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["docter"], "did you mean doctor?"),
        (["nonsense"], "there is no command 'nonsense': ./stint --help lists the commands"),
        (["dead", "shwo", "1"], "did you mean show?"),
        (["token", "--roel", "internal_admin"], "the following arguments are required: --role, --email; did you mean --role?"),
        (["up", "--prot=1"], "unknown arguments: --prot=1; did you mean --port?"),
        (["dead", "replay", "--al"], "unknown arguments: --al; did you mean --all?"),
        (["user", "add", "a@b.c", "--role", "internal_amin"], "there is no 'internal_amin': did you mean internal_admin?"),
        (["work", "--treads", "2"], "did you mean --threads?"),
        (["user", "remove", "a@b.c", "--end-time", "5pm"], "--end-time: '5pm' is not a time: write 2026-11-23T17:30:00Z"),
    ],
)
def test_a_mistyped_word_has_the_one_that_is_meant(words: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = usage_error(words, capsys)
    assert error.startswith("usage: ./stint ") and error.endswith(f"{meant}\n")


def test_without_a_command_the_help_is_printed_and_is_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    bare = capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert (bare.out, bare.err) == ("", shown)
    lines = shown.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert [name for name in parsers() if not any(name in re.split(r"[ ,]+", line) for line in lines)] == []


def test_help_is_also_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help", "dead", "show"], ["dead", "show", "--help"]):
        with pytest.raises(SystemExit):
            cli.main(words)
    shown = capsys.readouterr().out
    assert shown.count("usage: ./stint dead show") == 2


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"stint {version}\n"


@pytest.mark.parametrize("command", ["api", "work", "stop", "logs"])
def test_each_option_of_a_part_says_its_default(command: str) -> None:
    without_default = {"-h", "--fd", "-f", "--raw"}
    options = [action for action in parsers()[command]._actions if action.option_strings]
    assert len(options) > 2
    for action in options:
        assert "(default: " in str(action.help) or action.option_strings[0] in without_default, action.option_strings


@pytest.mark.parametrize("words", [["--api-processes", "4", "--work-processes", "2"], ["--api", "4", "--work", "2"]])
def test_the_numbers_of_processes_of_up_have_two_names(words: list[str]) -> None:
    args = parsers()["up"].parse_args(words)
    assert (args.api_processes, args.work_processes) == (4, 2)
    shown = parsers()["up"].format_help()
    assert "--api-processes N, --api N" in shown and "--work-processes N, --work N" in shown


def test_help_of_what_the_tests_run_is_theirs(became: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(".")
    for words in (["faults", "--help"], ["faults", "--minutes", "2"], ["mutants", "-h"]):
        cli.main(words)
    assert became == [("tests.faults", "--help"), ("tests.faults", "--minutes", "2"), ("tests.mutants", "-h")]


def test_an_error_is_printed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["user", "list", "--json", "--state", str(tmp_path)]
    assert cli.main(words) == 1
    piped = capsys.readouterr()
    assert "No Stint runs" in piped.out and piped.err.startswith("stint: No Stint runs")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(words) == 1
    on_a_terminal = capsys.readouterr()
    assert (on_a_terminal.out, on_a_terminal.err) == (piped.out, "")


@pytest.mark.parametrize("command", ["up", "test", "api", "work", "relay", "migrate", "verify", "token", "user"])
def test_every_command_has_help_and_takes_a_state(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    assert "--state DIR" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["migrate"], ["verify"], ["api"], ["work"], ["relay"], ["token", "--role", "none", "--email", "a@b.c"], ["user", "list"]],
)
def test_without_a_database_a_command_says_what_to_do(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--state", str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "./stint up --state" in output.err


def test_an_unreachable_database_is_reported_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://stint@127.0.0.1:1/stint")
    assert cli.main(["migrate", "--state", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("stint: ") and "Connection refused" in error and "Traceback" not in error


def test_pytests_arguments_pass_in_their_order(became: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.chdir(".")
    assert cli.main(["test", "--all", "-k", "a or b", "tests/ops", "-x", "--maxfail", "2"]) == 0
    passed_on = ("--all", "-k", "a or b", "tests/ops", "-x", "--maxfail", "2")
    assert became == [("pytest", "-n", "6", *passed_on)]


@pytest.mark.parametrize("chosen", [["-n", "1"], ["-n0"], ["--numprocesses=2"], ["--pdb"]])
def test_a_chosen_number_of_test_processes_is_used(
    became: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, chosen: list[str]
) -> None:
    monkeypatch.chdir(".")
    cli.main(["test", *chosen])
    assert became == [("pytest", *chosen)]


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["api", "--port", "1", "--host", "::"], ("api", "--host", "::", "--port", "1")),
        (["api", "--fd", "5"], ("api", "--fd", "5")),
        (["work"], ("actors", "work", "--threads", "4")),
        (["work", "--queues", "timers", "--threads", "2"], ("actors", "work", "--queues", "timers", "--threads", "2")),
        (["relay"], ("actors", "relay")),
    ],
)
def test_parts_run_with_the_environment_and_their_own_arguments(
    words: list[str],
    module: tuple[str, ...],
    became: list[tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://given")
    monkeypatch.setenv("AMQP_URL", "amqp://given")
    assert cli.main([*words, "--state", str(tmp_path)]) == 0
    assert became == [module]


@pytest.mark.parametrize("words", [["user", "--state", "{}", "list"], ["user", "list", "--state", "{}"]])
def test_the_state_may_stand_before_or_after_the_action(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word.format(tmp_path) for word in words]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_a_defect_has_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "State", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["migrate", "--state", str(tmp_path)])
