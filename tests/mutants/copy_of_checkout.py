"""A copy of the checkout in which one file at a time is changed, and tests that run there, over servers of its own."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ops.up.processes import end_with_parent
from tests.mutants.catalogue import CHECKOUT, Mutant

IGNORED = shutil.ignore_patterns(".git", ".venv", ".venv.lock", ".stint*", ".*_cache", ".hypothesis", "node_modules")
UNUSED_PLUGINS = ("schemathesis", "anyio", "faker")  # importing them takes as long as most of these tests
TEST_SECONDS = 120  # a test that lasts longer has noticed the change: something waits that should not
Outcome = Literal["passed", "failed", "broken"]


@dataclass(frozen=True)
class Result:
    """How a run ended: `passed`; `failed` if a test failed; `broken` if none was run, or if its fixtures failed. `output` is
    pytest's, for people. `failed`: the names of the tests that failed."""

    outcome: Outcome
    output: str
    failed: tuple[str, ...] = ()


class CopyOfCheckout:
    """The copy. It shares .venv with the checkout; its Postgres and RabbitMQ stay up between the runs, and end with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STINT_", "PYTEST_", "COV_")) and name not in ("DATABASE_URL", "AMQP_URL", "SECRET_KEY")
        } | {"PYTHONPATH": str(directory)}

    def run(self, tests: Sequence[str], *, slow: bool) -> Result:
        """Runs these tests in the copy, until the first one fails."""
        report = self.directory / ".stint-report.xml"
        report.unlink(missing_ok=True)
        options = ["-n", "0", "-x", "-q", "--keep", "--no-header", "--tb=short", f"--timeout={TEST_SECONDS}"]
        options += [f"-pno:{plugin}" for plugin in UNUSED_PLUGINS]
        parent = os.getpid()
        process = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", *options, *(["--all"] if slow else []), f"--junitxml={report}", *tests],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: end_with_parent(parent),
        )
        output = process.stdout + process.stderr
        if process.returncode == 0:
            return Result("passed", output)
        failed = tuple(_failed(report)) if process.returncode == 1 else ()
        return Result("failed" if failed else "broken", output, failed)

    @contextlib.contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Applies the mutant while the block runs. Raises ValueError if it cannot be applied."""
        path = self.directory / mutant.file
        code, times = path.read_text(), path.stat()
        path.write_text(mutant.applied(code))
        try:
            yield
        finally:
            path.write_text(code)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # its compiled file is valid again

    def stop(self) -> None:
        subprocess.run(
            [sys.executable, "-P", "-m", "pytest", "--stop"], cwd=self.directory, env=self._environment, check=False,
            capture_output=True,
        )  # fmt: skip


@contextlib.contextmanager
def copy_of_checkout() -> Iterator[CopyOfCheckout]:
    """A copy for one run; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="stint-mutants-") as home:
        directory = Path(home) / "checkout"
        shutil.copytree(CHECKOUT, directory, ignore=IGNORED)
        (directory / ".venv").symlink_to((CHECKOUT / ".venv").resolve())
        servers = directory / ".stint-test"
        servers.mkdir(mode=0o700)
        # the servers end when nobody has this lock any more, so also if this process is killed
        with (servers / "keeper.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            copy = CopyOfCheckout(directory)
            try:
                yield copy
            finally:
                copy.stop()


def _failed(report: Path) -> Iterator[str]:
    """The tests that failed by themselves: not those whose fixtures failed before they began."""
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - written by pytest, just now
        errors = [error.get("message", "") for error in case.iter("error")]
        if list(case.iter("failure")) or any("teardown" in message for message in errors):
            yield str(case.get("name"))
