"""Processes of Stint that start as forks of one that has imported everything: `python -m api` spends 1.5 s of a processor on
imports, a fork none. From `__main__` on a fork runs what `python -m` runs. Tests of the start itself, or of memory, which forks
share, start new processes instead."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ops.up.processes import end_with_parent

PRELOAD = "tests.support.preload"
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([PRELOAD])


class Process:
    """A fork, with the interface of subprocess.Popen. `log` gets its standard error, and `output` its standard output. Its
    standard input is open and empty, so a process that asks a question waits indefinitely."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, output: Path | None = None
    ) -> None:
        self._process: ForkServerProcess = _context.Process(
            target=_run, args=(list(arguments), cwd, dict(env), log, output or Path(os.devnull)), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.args, self.pid = list(arguments), self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ARGUMENTS` in a fork to its end, as subprocess.run does with captured output."""
    with tempfile.TemporaryDirectory() as directory:
        output, errors = Path(directory) / "stdout", Path(directory) / "stderr"
        process = Process(arguments, cwd=cwd, env=env, log=errors, output=output)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, code, output.read_text(), errors.read_text())


def _run(arguments: list[str], cwd: Path, env: dict[str, str], log: Path, output: Path) -> None:
    """`python -m ARGUMENTS`, in the fork."""
    end_with_parent(os.getppid())
    # The fork server ends when nobody has this pipe open: only pytest should have it, not the forks, which end with the server.
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for descriptor, path in ((1, output), (2, log)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    listens, _ = os.pipe()  # the other end stays open as long as this process
    os.dup2(listens, 0)
    os.close(listens)
    sys.stdin = open(0, closefd=False)
    sys.argv = arguments
    sys.modules.pop(arguments[0], None)  # a module that is imported already would make runpy write a warning
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
