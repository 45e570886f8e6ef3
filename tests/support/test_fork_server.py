"""The processes that tests start behave like those that `python -m` starts."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fork_server import Process
from tests.support.installation import CHECKOUT, eventually, free_port

pytestmark = pytest.mark.processes


def test_a_process_that_cannot_start_prints_the_same_error_and_exits_with_the_same_code(tmp_path: Path) -> None:
    new = subprocess.run(
        [sys.executable, "-m", "actors", "relay"], cwd=CHECKOUT, env={}, capture_output=True, text=True, timeout=60
    )
    forked = Process(["actors", "relay"], cwd=CHECKOUT, env={}, log=tmp_path / "log")
    assert forked.wait(60) == new.returncode == 1
    assert (tmp_path / "log").read_text() == new.stderr != ""


def test_the_exit_code_of_a_killed_process_is_the_signal(tmp_path: Path) -> None:
    port = str(free_port())
    process = Process(["http.server", port], cwd=tmp_path, env={}, log=tmp_path / "log")
    eventually(lambda: f":{int(port):04X} " in Path("/proc/net/tcp").read_text(), why="it listens")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == process.returncode == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # a process that has ended is not signalled, nor one that has its pid now
