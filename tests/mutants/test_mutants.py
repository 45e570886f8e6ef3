"""The tests notice changes: a sample of them with --all, other ones each day; all of them with STINT_TEST_FULL=1."""

import subprocess
import sys

import pytest

from tests.mutants import __main__ as runner
from tests.mutants.catalogue import CHECKOUT, Mutant
from tests.support.sizes import FULL

pytestmark = [pytest.mark.processes, pytest.mark.timeout(3 * 3600 if FULL else 600)]


@pytest.mark.slow
def test_a_sample_of_the_mutants_is_killed() -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-m", "tests.mutants", *([] if FULL else ["--sample", "2"])],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


HARMLESS = Mutant(
    source="none",
    name="harmless",
    file="schemas/messages.py",
    text='raise InvalidBody(f"there is no actor {actor} in this version"',
    becomes='raise InvalidBody(f"there is no actor {actor} here"',
    test="tests/outbox/test_message_models.py::test_a_body_that_this_version_does_not_know_is_refused",
)


@pytest.mark.slow
def test_a_change_that_no_test_notices_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run([HARMLESS], quick=True) == 1
    said = capsys.readouterr().out
    assert "SURVIVED  harmless" in said and "write a test" in said
