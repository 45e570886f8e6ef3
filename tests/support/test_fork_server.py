"""The processes that tests start behave like those that `python -m` starts."""

import json
import os
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


STARTS_A_CHILD = """
import os, signal, sys
from pathlib import Path
from ops.up.processes import spawn
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, lambda *_: None)
os.dup2(2, 60); os.dup2(2, 61)
python = [sys.executable, "-P", "-m", "timeit", "-n1", "-r1"]
child = [*python, os.environ["CODE"]]
child = spawn(child, log=Path("child.log"), environment={"MARK": "own"}, directory=Path.cwd(), pass_fds=(61,))
open("parent.json", "w").write(f"[{os.getpid()}, {child.pid}, {child.wait(60)}]")
"""
IS_A_CHILD = """
import json, os, signal, sys
unhandled = signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
open_files = [number for number in (60, 61) if os.path.exists(f"/proc/self/fd/{number}")]
print(json.dumps([os.getppid(), os.getpid(), os.getsid(0), dict(os.environ), unhandled, open_files]))
sys.exit("no such setting")
"""


def test_what_a_fork_starts_is_a_child_of_it_with_what_a_new_program_would_have(tmp_path: Path) -> None:
    forked = Process(["timeit", "-n1", "-r1", STARTS_A_CHILD], cwd=tmp_path, env={"CODE": IS_A_CHILD}, log=tmp_path / "log")
    assert forked.wait(60) == 0, (tmp_path / "log").read_text()
    parent, child, code = json.loads((tmp_path / "parent.json").read_text())
    assert (parent, code) == (forked.pid, 1) and child not in (parent, os.getpid())
    printed, *_, error = (tmp_path / "child.log").read_text().splitlines()
    assert json.loads(printed) == [parent, child, child, {"MARK": "own"}, True, [61]]
    assert error == "SystemExit: no such setting"
