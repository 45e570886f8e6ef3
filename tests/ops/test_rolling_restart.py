"""Processes that are replaced while they serve: the new one is ready before the old one ends."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.running import restart
from ops.running.answering import answer_on
from ops.running.asking import RESTART
from ops.state import CHECKOUT, State
from ops.up import rolling_restart
from ops.up.api_processes import bind
from ops.up.processes import Program, until
from ops.up.rolling_restart import RollingRestart
from ops.up.supervisor import Supervisor
from ops.up.up import _Up
from tests.support.up import command, runs

pytestmark = pytest.mark.processes

SERVES = "from schemas.starting import report_ready; import time; report_ready(); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVES}"
REFUSES = "raise SystemExit('no such setting')"
HANGS = "import time; time.sleep(600)"


class Running:
    """Two programs under a supervisor, and what it has said."""

    def __init__(self, directory: Path) -> None:
        self.said: list[str] = []
        self.supervisor = Supervisor(verbose=False, on_change=lambda: None)
        self.supervisor.say = self.said.append  # type: ignore[method-assign, assignment]
        self.supervisor.started = True
        self.programs = [Program(name, [], directory) for name in ("first", "second")]
        for program in self.programs:
            self.runs(program, SERVES)
            program.stop_seconds = 5

    @staticmethod
    def runs(program: Program, code: str) -> None:
        """The program's next process runs this code."""
        program.arguments = ["timeit", "-n1", "-r1", code]

    async def restart(self) -> list[str]:
        failures: list[str] = []
        await RollingRestart(self.supervisor, self.programs).run(failures)
        return failures

    @property
    def pids(self) -> list[int]:
        return [pid for program in self.programs for pid in program.pids]


def under_a_supervisor(directory: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Running], Awaitable[None]]) -> None:
    """Runs the act when both programs serve."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))

    async def all_of_it() -> None:
        running = Running(directory)
        kept = [running.supervisor.spawn(running.supervisor.keep_running(program)) for program in running.programs]
        try:
            await until(lambda: all(program.has_reported() for program in running.programs), timeout_seconds=60)
            await act(running)
        finally:
            for task in kept:
                task.cancel()
            await asyncio.gather(*kept, return_exceptions=True)
            await running.supervisor.end(running.programs)
        assert not running.pids

    asyncio.run(all_of_it())


def test_each_is_replaced_and_a_new_process_that_does_not_serve_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(running: Running) -> None:
        before = running.pids
        assert await running.restart() == []
        after = running.pids
        assert len(after) == 2 and not set(before) & set(after) and not any(map(runs, before))
        assert running.said == ["replaced first, second"], "the supervisor starts nothing again"

        running.runs(running.programs[0], REFUSES)
        (failure,) = await running.restart()
        assert failure.startswith("first was not replaced: its new process ended with 1.") and "no such setting" in failure
        assert failure in running.said[-1]
        assert running.pids == after

        monkeypatch.setattr(rolling_restart, "START_SECONDS", 0.5)
        running.runs(running.programs[0], HANGS)
        (failure,) = await running.restart()
        assert failure.startswith("first was not replaced: its new process is not ready after 0.5 s.")
        assert running.pids == after

    under_a_supervisor(tmp_path, monkeypatch, act)


def test_a_process_that_does_not_end_is_killed_and_the_new_one_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(running: Running) -> None:
        first = running.programs[0]
        running.runs(first, DEAF)
        assert await running.restart() == []
        deaf = first.pids
        first.stop_seconds = 0.2
        running.runs(first, SERVES)
        assert await running.restart() == []
        assert "the old process of first is still running; killing it" in running.said
        assert not any(map(runs, deaf))

        new = first.pids[0]
        os.kill(new, 9)
        await until(lambda: first.has_reported() and first.pids != [new], timeout_seconds=60)
        assert first.has_reported() and first.pids != [new]

    under_a_supervisor(tmp_path, monkeypatch, act)


def test_the_command_says_what_was_not_replaced_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("restart", "--state", str(tmp_path)).returncode == 1  # none runs
    failures: list[str] = []

    async def replaced() -> dict[str, list[str]]:
        return {"failures": failures}

    async def asked() -> str:
        async with await answer_on(tmp_path, {RESTART: replaced}):
            return await asyncio.to_thread(lambda: _outcome(tmp_path))

    with State(tmp_path).lock():
        assert asyncio.run(asked()) == "0"
        assert "All are replaced" in capsys.readouterr().out
        failures.append("relay was not replaced: its new process ended with 1.")
        assert asyncio.run(asked()) == failures[0]


def _outcome(directory: Path) -> str:
    try:
        return str(restart.run(argparse.Namespace(state=directory)))
    except CommandError as error:
        return str(error)


def test_workers_of_each_kind_have_names_and_logs_of_their_own_and_the_api_is_replaced_last(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as bound:
        up = _Up(State(tmp_path), bound, verbose=False, sandbox=False, api=1, work=2)
    kinds = [f"work {queue}{number}" for queue in ("timers", "bills", "calls") for number in ("", " 2")]
    assert [program.name for program in up.rolling_restart._programs] == [*kinds, "relay", "api 1"]
    assert len({program.log for program in up.programs}) == len(up.programs)
