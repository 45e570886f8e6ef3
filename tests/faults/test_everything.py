"""`./stint faults` with less than a minute of faults."""

import random
from pathlib import Path

import pytest

from tests.faults.driver import ACTIONS_PER_MINUTE, FAULTS_PER_MINUTE, run
from tests.support.sizes import FULL

MINUTES = 10 if FULL else 0.4


@pytest.mark.slow
@pytest.mark.timeout(400 + 60 * MINUTES)
def test_a_firm_at_work_in_bad_weather_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    seed = str(random.randrange(10**6))
    print(f"seed {seed}: ./stint faults --minutes {MINUTES} --seed {seed}")

    report = run(seed, tmp_path, minutes=MINUTES, consultants=8 if FULL else 4)

    print(report)
    assert report.differences == []
    assert report.leaks == []
    # it was a day's work, and there was weather
    assert sum(report.done.values()) > ACTIONS_PER_MINUTE * MINUTES
    assert sum(report.struck.values()) > FAULTS_PER_MINUTE * MINUTES
