"""The processes that tests start behave like those that `python -m` starts."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installation import CHECKOUT, eventually, free_port
from tests.nursery import Process


def test_one_that_can_not_begin_says_why_and_ends_with_the_same_code(tmp_path: Path) -> None:
    afresh = subprocess.run(
        [sys.executable, "-m", "actors", "relay"], cwd=CHECKOUT, env={}, capture_output=True, text=True, timeout=60
    )
    forked = Process(["actors", "relay"], cwd=CHECKOUT, env={}, log=tmp_path / "log")
    assert forked.wait(60) == afresh.returncode == 1
    assert (tmp_path / "log").read_text() == afresh.stderr != ""


def test_one_that_is_killed_says_by_what(tmp_path: Path) -> None:
    port = str(free_port())
    process = Process(["http.server", port], cwd=tmp_path, env={}, log=tmp_path / "log")
    eventually(lambda: f":{int(port):04X} " in Path("/proc/net/tcp").read_text(), why="it listens")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == process.returncode == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # whoever has ended is not signalled, nor anybody who has its number now
