"""Programs end with the process that started them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.errors import CommandError
from ops.up.processes import PLAIN_ENVIRONMENT, Program, describe_end, end, run, spawn, until

pytestmark = pytest.mark.processes

PARENT = """
import sys, time
from pathlib import Path
from ops.up.processes import PLAIN_ENVIRONMENT, spawn
child = spawn(["/bin/sleep", "60"], log=Path(sys.argv[1]), environment=PLAIN_ENVIRONMENT)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()


def test_ending_a_program_ends_its_whole_session(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = spawn(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], log=log, environment=PLAIN_ENVIRONMENT)
    while not log.read_text().strip():
        time.sleep(0.01)
    grandchild = int(log.read_text())
    end(process)
    assert describe_end(process.returncode) == "killed by SIGKILL"
    deadline = time.monotonic() + 5
    while _runs(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(grandchild)


def test_a_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    end(spawn(["/bin/true"], log=tmp_path / "log", environment=PLAIN_ENVIRONMENT))
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


INITDB = """\
creating configuration files ... ok
running bootstrap script ... 2026-12-01 09:00:00 UTC [9] FATAL:  could not write to file "base/1/2691": No space left on device
2026-12-01 09:00:00 UTC [9] HINT:  Check free disk space.
Aborted
child process exited with exit code 134
initdb: removing contents of data directory "/proc/self/fd/8"
"""


def test_why_a_program_failed_is_said_whole_although_other_lines_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"cat <<'END'\n{INITDB}END\nexit 1"
    with pytest.raises(CommandError) as failed:
        asyncio.run(run(["/bin/sh", "-c", script]))
    why = [line.strip() for line in INITDB.splitlines()[1:3]]
    said = [line.strip() for line in str(failed.value).splitlines()]
    assert said == ["sh failed: it ended with 1.", *why]

    child = Program("server", [], tmp_path)
    child.log.write_text(INITDB)
    assert child.last_lines().split("\n    ")[1:] == [why[0], f"{why[1]}\nThe whole log: {child.log}"]
    full = os.statvfs_result((4096, 4096, 1000, 9, 0, 1000, 0, 0, 0, 255))  # what is left is reserved for root
    monkeypatch.setattr("os.statvfs", lambda _: full)
    assert f"There is no space left on the file system of {tmp_path}" in child.last_lines()


def test_run_returns_the_output_and_raises_with_the_last_lines() -> None:
    assert asyncio.run(run(["/bin/echo", "hello"])) == "hello\n"
    with pytest.raises(CommandError, match=r"sh failed: it ended with 3\.\n    went wrong"):
        asyncio.run(run(["/bin/sh", "-c", "echo went wrong; exit 3"]))


def test_cancelling_run_kills_the_program(tmp_path: Path) -> None:
    async def cancelled() -> int:
        task = asyncio.create_task(run(["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"]))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int((tmp_path / "pid").read_text())

    assert not _runs(asyncio.run(cancelled()))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
def test_roots_children_can_run_as_another_account() -> None:
    from ops.up.processes import unprivileged_account

    account = unprivileged_account()
    assert account is not None
    assert asyncio.run(run(["/usr/bin/id", "-u"], account=account)).strip() == str(account.pw_uid)
