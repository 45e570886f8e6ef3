"""The common run leaves out what `--all` adds, and nothing when somebody says what to run."""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

from tests.support.installation import CHECKOUT

pytestmark = pytest.mark.processes
FILES = "tests/identity/test_email_keys.py tests/outbox/test_replays.py tests/console/browser/test_guard.py"


LOGS = "testpaths=tests/ops/test_logs.py"
RUNS = (
    ("--all", *FILES.split()),
    ("-o", f"testpaths={FILES}"),
    (*FILES.split(),),
    ("--browser", *FILES.split()),
    ("-o", LOGS),
    ("-o", LOGS, "-m", "unit"),
)
# Each in a fork of one process, because the imports of what the tests use take longer than all else.
COLLECT = """
import contextlib, io, json, multiprocessing, sys
import pytest
import tests.support.preload

def collect(arguments):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        ignored = "ignore::pytest.PytestAssertRewriteWarning"  # of libraries that are imported already
        assert pytest.main(["--collect-only", "-q", "-n", "0", "-W", ignored, *arguments]) == 0, said.getvalue()
    return [line for line in said.getvalue().splitlines() if "::" in line]

with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(pool.map(collect, json.load(sys.stdin), chunksize=1)))
"""


@cache
def _collected() -> dict[tuple[str, ...], list[str]]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", COLLECT], cwd=CHECKOUT, env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        input=json.dumps(RUNS), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(RUNS, json.loads(done.stdout.splitlines()[-1]), strict=True))


def collected(*arguments: str) -> list[str]:
    """The ids of the tests that pytest chooses with these arguments."""
    return _collected()[arguments]


def test_the_common_run_has_each_function_with_three_of_its_cases_and_starts_nothing_for_one_test() -> None:
    every, common = collected("--all", *FILES.split()), collected("-o", f"testpaths={FILES}")
    cases = [test for test in every if "::test_another_address_is_somebody_else_in_slack_and_xero[" in test]
    assert len(cases) > 3
    assert [test for test in common if test in cases] == [cases[0], cases[(len(cases) - 1) // 2], cases[-1]]
    assert "tests/outbox/test_replays.py::test_a_replay_keeps_its_rate" in common
    for left_out in ("test_a_replay_continues_after_relay_and_worker_were_killed", "test_guard.py"):
        assert any(left_out in test for test in every) and not any(left_out in test for test in common)


def test_what_somebody_names_runs_whole() -> None:
    named = collected(*FILES.split())
    assert named == [test for test in collected("--all", *FILES.split()) if "browser" not in test and test in named]
    assert any("relay_and_worker_were_killed" in test for test in named)
    assert set(collected("-o", LOGS)) < set(collected("-o", LOGS, "-m", "unit"))


def test_tests_in_a_browser_run_with_browser_and_with_all() -> None:
    in_browser = [test for test in collected("--all", *FILES.split()) if "test_guard.py" in test]
    assert in_browser and collected("--browser", *FILES.split()) == in_browser
    assert not any(test in collected(*FILES.split()) for test in in_browser)


def test_a_worker_of_pytest_has_the_same_selection() -> None:
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-n", "1", "-o", LOGS]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    assert f"{len(collected('-o', LOGS))} passed" in said
