"""What `up` shows of its processes' logs, and that a slow terminal never blocks it."""

import json
import os
from pathlib import Path

import pytest

from ops.up import log_view
from ops.up.log_view import LogView, Terminal, shown_part


@pytest.mark.parametrize(
    ("name", "line", "shown"),
    [
        ("api", json.dumps({"level": "INFO", "message": "served"}), None),
        ("api", json.dumps({"level": "WARNING", "message": "slow"}), "WARNING slow"),
        ("relay", json.dumps({"level": "ERROR", "message": "lost", "exc_info": "Trace\nOSError: gone"}),
         "ERROR lost (OSError: gone)"),
        ("api", "Traceback (most recent call last):", "Traceback (most recent call last):"),
        ("api", "", None),
        ("postgres", "2026-01-01 UTC [1] ERROR:  duplicate key value", None),
        ("postgres", "2026-01-01 UTC [1] FATAL:  the database system is starting up", None),
        ("postgres", "2026-01-01 UTC [1] FATAL:  could not write: No space left on device",
         "2026-01-01 UTC [1] FATAL:  could not write: No space left on device"),
        ("rabbitmq", "2026-01-01 [info] <0.1.0> started", None),
        ("rabbitmq", "2026-01-01 [critical] <0.1.0> broken", "2026-01-01 [critical] <0.1.0> broken"),
    ],
)  # fmt: skip
def test_only_what_a_person_should_see_is_shown(name: str, line: str, shown: str | None) -> None:
    assert shown_part(name, line) == shown


def test_while_everything_starts_only_errors_are_shown() -> None:
    waiting, broken = ({"level": level, "message": "x"} for level in ("WARNING", "ERROR"))
    assert shown_part("relay", json.dumps(waiting), warnings=False) is None
    assert shown_part("relay", json.dumps(broken), warnings=False) == "ERROR x"


def test_new_lines_carry_the_childs_name_and_old_ones_are_not_shown_again(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text("of the last run\n")
    view = LogView("api", log, verbose=True)
    with open(log, "a") as file:
        file.write("first\nsecond, not yet wh")
    assert view.new_lines() == ["api          | first"]
    with open(log, "a") as file:
        file.write("ole\n")
    assert view.new_lines() == ["api          | second, not yet whole"]
    assert view.new_lines() == []


def test_a_flood_is_cut_and_says_where_the_rest_is(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    view = LogView("api", log, verbose=False)
    shown = []
    for _ in range(5):
        with open(log, "a") as file:
            file.write("plain line\n" * 15)
        shown += view.new_lines()
    assert len(shown) == 21
    assert str(log) in shown[-1]


def test_a_log_stays_within_its_bound_while_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_view, "_LARGEST_LOG_BYTES", 1000)
    log = tmp_path / "api.log"
    view = LogView("api", log, verbose=True)
    with open(log, "ab", buffering=0) as writer:
        seen = 0
        for number in range(300):
            writer.write(b"%05d\n" % number)
            seen += len(view.new_lines())
            assert log.stat().st_size <= 1000 + 6
    assert seen == 300
    assert (tmp_path / "api.log.1").stat().st_size <= 1000 + 6


def test_a_terminal_that_nobody_reads_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stdout, open(reading, "rb") as reader:
        monkeypatch.setattr("sys.stdout", stdout)
        terminal = Terminal()
        for _ in range(10_000):  # far more than a pipe holds
            terminal.say("a line that nobody reads " * 4)
        terminal.say("the last one")
        os.set_blocking(reading, False)
        seen = b""
        while chunk := reader.read():
            seen += chunk
            terminal.flush()
        assert seen.endswith(b"the last one\n")


def test_a_terminal_that_went_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        terminal = Terminal()
        terminal.say("to nobody")
        terminal.say("to nobody")
