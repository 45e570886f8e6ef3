"""pytest leaves nothing behind, however it ends: no server, no process of a test, no file; with --keep the servers alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support import servers
from tests.support.installation import CHECKOUT, eventually
from tests.support.sizes import FULL
from tests.support.up import runs, tree

pytestmark = pytest.mark.slow

NEEDS_POSTGRES = "tests/outbox/test_retry_waits.py::test_uncounted_attempts_do_not_lengthen_the_wait"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "STINT_TEST_"))} | {
    "PYTHONPATH": str(CHECKOUT)
}


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGKILL, 0), *([(signal.SIGINT, 0)] if FULL else [])]
)
def test_pytest_that_is_ended_in_the_middle_of_a_test_leaves_nothing_behind(
    number: signal.Signals, workers: int, tmp_path: Path
) -> None:
    run = subprocess.Popen(
        [sys.executable, "-P", "-m", "pytest", "-n", str(workers), "tests/test_walkthrough.py"],
        cwd=CHECKOUT,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    eventually(lambda: parts_of(tmp_path) >= 3, seconds=60, why="the test has an API, a worker and a relay")
    [host] = tmp_path.glob("stint-test-*/servers/host.pid")
    pids = {*tree(run.pid), *tree(int(host.read_text()))}

    run.send_signal(number)

    run.wait(30)
    eventually(lambda: not [pid for pid in pids if runs(pid)], seconds=30, why="every process has ended")
    eventually(lambda: not list(tmp_path.glob("stint-test-*")), why="the directory of the run is gone")


def parts_of(temporary: Path) -> int:
    """How many parts of a Stint have begun to log, in a run of pytest with that temporary directory."""
    logs = temporary.glob("pytest-of-*/pytest-*/**/*.log")
    return len({log.name for log in logs} & {"api.log", "relay.log", "work.log"})


def test_keep_leaves_the_servers_to_the_next_run_and_stop_ends_them(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path), "STINT_TEST_KEPT": str(kept)}

    def stint_test(*words: str) -> str:
        command = [sys.executable, "-P", "-m", "ops.cli", "test", *words]
        run = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    try:
        assert "Postgres and RabbitMQ keep running" in stint_test("--keep", "-n", "0", NEEDS_POSTGRES)
        host, made = int((kept / "host.pid").read_text()), json.loads((kept / "servers.json").read_text())
        pids = [pid for pid in tree(host) if runs(pid)]  # Postgres's backends come and go
        assert len(pids) >= 4, "the host, Postgres, RabbitMQ and its port mapper"
        assert not list(tmp_path.glob("stint-test-*")), "the directory of the run is gone"

        assert "1 passed" in stint_test("--keep", "-n", "0", NEEDS_POSTGRES)
        assert json.loads((kept / "servers.json").read_text()) == made
        assert runs(host), "the second run used the same servers"
        with psycopg.connect(made["database_url"]) as conn:
            databases = "SELECT array_agg(datname ORDER BY datname) FROM pg_database WHERE NOT datistemplate"
            eventually(
                lambda: conn.execute(databases).fetchone() == (["postgres", servers.TEMPLATE],), why="runs are tidied up"
            )

        assert stint_test("--stop") == "stopped\n"
        assert not any(map(runs, pids)) and not kept.exists()
        assert stint_test("--stop").startswith("nothing to stop")
    finally:
        servers.stop(kept)
