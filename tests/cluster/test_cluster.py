"""`./stint faults --cluster`, with a few of its faults."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.cluster.load import Stop, Waits, waits
from tests.support.installation import CHECKOUT


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(400)
def test_three_hosts_under_faults_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    seed = str(random.randrange(10**6))
    print(f"seed {seed}: ./stint faults --cluster --short --seed {seed}")
    command = [sys.executable, "-m", "tests.cluster", "--short", "--seed", seed, "--json", str(tmp_path / "report.json")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    print(done.stderr)
    print(done.stdout)
    assert done.returncode == 0
    assert "Nothing was lost or doubled, and no interruption was too long." in done.stdout


def test_a_gap_is_the_longest_time_without_a_stop_until_the_fault_is_over() -> None:
    stops = [Stop("a", 1.0, 1.5), Stop("b", 9.0, 12.0), Stop("c", 20.0, 20.25), Stop("d", 30.0, None)]
    assert waits(stops, 10.0, 19.0) == Waits(gap=10.0, bill_p50=3.0, bill_worst=3.0)
    assert waits(stops, 20.0, 25.0) == Waits(gap=5.0, bill_p50=0.25, bill_worst=0.25)
    assert waits(stops, 29.0, 50.0).bill_worst == 20.0  # on no bill yet
    assert waits([], 10.0, 19.0) == Waits(9.0, 0.0, 0.0)


def test_faults_are_chosen_by_parts_of_their_names_and_only_root_has_all() -> None:
    everything = faults.chosen([], short=False, root=True)
    assert everything == faults.FAULTS and len(faults.BY_NAME) == len(faults.FAULTS)
    assert faults.chosen(["queue is frozen"], short=False, root=True) == [faults.BY_NAME["the leader of each queue is frozen"]]
    assert not any(each.by_root for each in faults.chosen([], short=False, root=False))
    assert faults.chosen(["meteor"], short=False, root=True) == []
