"""The supervisor of `up`: restarts, the pauses between them, and an end that leaves no process."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.up import supervisor as supervisor_module
from ops.up.processes import PLAIN_ENVIRONMENT, Child, spawn, until
from ops.up.supervisor import Supervisor

pytestmark = pytest.mark.processes


class Script(Child):
    """A child that runs a shell command."""

    stop_seconds = 0.5

    def __init__(self, directory: Path, script: str) -> None:
        super().__init__("script", directory / "log")
        self.script = script
        self.launches = 0

    def launch(self) -> None:
        self.launches += 1
        self.process = spawn(["/bin/sh", "-c", self.script], log=self.log, environment=PLAIN_ENVIRONMENT)


def watch(*children: Child, settled: bool, seconds: float = 30, lines: int = 1_000) -> list[str]:
    """Runs the children for a while, or until the supervisor gives up or has said `lines` lines. Returns its lines."""

    async def all_of_it() -> list[str]:
        said: list[str] = []
        enough = asyncio.Event()

        def say(text: str) -> None:
            said.append(text)
            if len(said) >= lines:
                enough.set()

        supervisor = Supervisor(verbose=False, on_change=lambda: None)
        supervisor.started = settled
        supervisor.say = say  # type: ignore[method-assign]
        for child in children:
            supervisor.spawn(supervisor.keep_running(child))
        waiting = [asyncio.create_task(supervisor.wait_for_end()), asyncio.create_task(enough.wait())]
        try:
            over, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for one in over:
                one.result()
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await supervisor.end(children)
        return said

    return asyncio.run(all_of_it())


def test_a_dead_child_is_started_again_with_growing_pauses_and_said_so(tmp_path: Path) -> None:
    child = Script(tmp_path, "exit 3")
    said = watch(child, settled=True, lines=3)
    assert said == [f"script ended with 3; starting it again in {pause} s" for pause in ("0.1", "0.2", "0.4")]
    assert child.launches in (3, 4)


def test_a_child_that_ran_for_a_while_starts_again_with_the_first_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_STEADY_SECONDS", 0.2)
    said = watch(Script(tmp_path, "sleep 0.3"), settled=True, lines=3)
    assert all("in 0.1 s" in line for line in said)


def test_a_child_that_is_ended_is_not_taken_for_one_that_died(tmp_path: Path) -> None:
    quick, slow = (
        Script(tmp_path, "exec sleep 60"),
        Script(tmp_path, "trap 'sleep 0.3; exit' TERM; while :; do sleep 0.05; done"),
    )
    assert watch(quick, slow, settled=True, seconds=0.5) == []
    assert (quick.launches, slow.launches) == (1, 1)


def test_a_child_that_never_stays_at_the_start_ends_it_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"script does not start: it ended with 1\.\n    no such setting"):
        watch(Script(tmp_path, "echo no such setting; exit 1"), settled=False)


def test_a_child_that_runs_for_a_while_but_is_never_ready_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_STEADY_SECONDS", 0.2)

    class NeverReady(Script):
        def is_ready(self) -> bool:
            return False

    with pytest.raises(CommandError, match=r"script does not start: it ended with 1\.\n    port in use"):
        watch(NeverReady(tmp_path, "sleep 0.3; echo port in use; exit 1"), settled=False, seconds=15)


def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    class Missing(Script):
        def launch(self) -> None:
            self.process = spawn(["/no/such/program"], log=self.log, environment=PLAIN_ENVIRONMENT)

    said = watch(Missing(tmp_path, ""), settled=True, lines=1)
    assert "could not be started" in said[0] and "No such file" in said[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    async def all_of_it() -> None:
        supervisor = Supervisor(verbose=False, on_change=lambda: None)
        child = Script(tmp_path, "exec sleep 60")
        supervisor.spawn(supervisor.keep_running(child))

        async def send() -> None:
            await until(child.is_running)
            os.kill(os.getpid(), number)

        supervisor.spawn(send())
        await supervisor.wait_for_end()
        await supervisor.end([child])
        assert not child.is_running()
        assert child.launches == 1

    asyncio.run(all_of_it())


def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    child = Script(tmp_path, "trap '' TERM; echo deaf; while :; do sleep 0.1; done")

    async def all_of_it() -> None:
        child.launch()
        await until(lambda: "deaf" in child.log.read_text())
        await Supervisor(verbose=False, on_change=lambda: None).end([child])

    started = time.monotonic()
    asyncio.run(all_of_it())
    assert not child.is_running()
    assert time.monotonic() - started < 5
