"""The common run leaves out what `--all` adds, and nothing when somebody says what to run."""

import subprocess
import sys
from functools import cache

import pytest

from tests.support.installation import CHECKOUT

pytestmark = pytest.mark.processes
FILES = "tests/identity/test_email_keys.py tests/outbox/test_replays.py tests/console/browser/test_guard.py"


@cache  # a start of pytest takes seconds
def collected(*arguments: str) -> list[str]:
    command = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "-n", "0", *arguments]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if "::" in line]


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
    logs = "testpaths=tests/ops/test_logs.py"
    assert set(collected("-o", logs)) < set(collected("-o", logs, "-m", "unit"))


def test_tests_in_a_browser_run_with_browser_and_with_all() -> None:
    in_browser = [test for test in collected("--all", *FILES.split()) if "test_guard.py" in test]
    assert in_browser and collected("--browser", *FILES.split()) == in_browser
    assert not any(test in collected(*FILES.split()) for test in in_browser)


def test_a_worker_of_pytest_has_the_same_selection() -> None:
    logs = "testpaths=tests/ops/test_logs.py"
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-n", "1", "-o", logs]
    said = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    assert f"{len(collected('-o', logs))} passed" in said
