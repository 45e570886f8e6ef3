"""Processes of Stint that begin as forks of one that has imported everything: what takes `python -m api` a second and a half
of a processor is there at once. From `__main__` on they run what the others run. Whoever looks at the beginning itself, or at
memory, of which forks share some, starts them afresh."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ops.processes import follow

PRELOADED = "tests.preloaded"
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([PRELOADED])


class Process:
    """The words of subprocess.Popen for one of them."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self._process: ForkServerProcess = _context.Process(
            target=_run, args=(list(arguments), cwd, dict(env), log), daemon=True
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


def _run(arguments: list[str], cwd: Path, env: dict[str, str], log: Path) -> None:
    """`python -m ARGUMENTS`, in the fork."""
    follow(os.getppid())  # which ends with the tests
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    nowhere, errors = os.open(os.devnull, os.O_WRONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(nowhere, 1)
    os.dup2(errors, 2)
    os.close(nowhere)
    os.close(errors)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
