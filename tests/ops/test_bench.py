"""`./stint bench` measures every comparison and leaves nothing behind. No test checks how fast anything is."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ops.bench import COMPARISONS
from ops.bench.comparisons import growth, live_events, slack, start_stop
from ops.bench.cpu import Processes, milliseconds
from ops.bench.page import BEGIN, END, names, write_page
from ops.bench.pgbench import script
from ops.bench.report import write_json
from ops.bench.rounds import Line, Side, Target
from ops.bench.traffic import Traffic, count_statements, least
from ops.errors import CommandError
from ops.state import CHECKOUT
from tests.support.sizes import FULL

pytestmark = pytest.mark.processes

# of Stint, or with databases of their own
WITH_MORE_STARTS = (growth.COMPARISON, live_events.COMPARISON, slack.COMPARISON, start_stop.WITH_SLACK)
TINY = ("--entries", "2000", "--rounds", "1", "--seconds", "1")


class Run:
    """One `./stint bench`, with a temporary directory of its own, watched while it runs."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self._said = directory / "err"
        self._pids: set[int] = set()
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(self.temporary)}
        with open(directory / "out", "wb") as output, open(self._said, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.cli", "bench", *words], env=environment, stdout=output, stderr=errors
            )
        self.output = directory / "out"

    def said(self) -> str:
        return self._said.read_text()

    def wait_for(self, words: str, *, seconds: float = 300) -> "Run":
        end = time.monotonic() + seconds
        while words not in self.said():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            self._look()
            time.sleep(0.25)
        return self

    def wait(self, *, seconds: float = 120) -> int:
        """Its exit code. It fails when nothing was reported for that many seconds: how long all of it takes depends on what the
        machine does besides."""
        reported, end = "", time.monotonic() + seconds
        while self.process.poll() is None:
            if (said := self.said()) != reported:
                reported, end = said, time.monotonic() + seconds
            assert time.monotonic() < end, said
            self._look()
            time.sleep(0.25)
        return self.process.returncode

    def left_behind(self) -> list[object]:
        """The processes that it started and that still run, and what is in its temporary directory."""
        end = time.monotonic() + 5  # what the kernel ends, it ends a moment later
        while (running := [pid for pid in self._pids if runs(pid)]) and time.monotonic() < end:
            time.sleep(0.05)
        return [*running, *self.temporary.iterdir()]

    def count(self) -> int:
        """How many processes it was seen with."""
        return len(self._pids)

    def _look(self) -> None:
        parents: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        tree = [self.process.pid]
        for pid in tree:
            tree += [child for child, parent in parents.items() if parent == pid]
        self._pids |= set(tree[1:])


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def check(comparison: dict[str, Any]) -> None:
    for figures in (comparison["ours"], comparison["baseline"]):
        assert figures["what"] and figures["unit"] and len(figures["rounds"]) >= 1
        assert 0 < figures["min"] <= figures["median"] <= figures["max"]
    assert comparison["ratio"] == pytest.approx(comparison["ours"]["median"] / comparison["baseline"]["median"], rel=0.01)
    assert (comparison["passed"] is None) == (comparison["target"] is None)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tiny_run_measures_every_comparison_and_leaves_nothing_behind(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Speed\n{BEGIN}\n{END}\n")
    measured = COMPARISONS if FULL else [each for each in COMPARISONS if each not in WITH_MORE_STARTS]
    chosen = [word for each in measured for word in ("--only", each.name)]
    words = ["--page", str(page)] if FULL else chosen
    run = Run(tmp_path, *TINY, "--json", str(tmp_path / "bench.json"), *words)
    assert run.wait() == 0, run.said()
    result = json.loads((tmp_path / "bench.json").read_text())
    assert [comparison["name"] for comparison in result["comparisons"]] == [line for each in measured for line in each.lines]
    kinds = {comparison["name"]: set(comparison["ours"]["cpu_milliseconds"]) for comparison in result["comparisons"]}
    assert kinds["start-stop"] == {"api", "relay", "workers", "postgres", "rabbitmq"}
    for comparison in result["comparisons"]:
        check(comparison)
    median = {comparison["name"]: comparison["ours"]["median"] for comparison in result["comparisons"]}
    # the start, the stop, and the worker's statement; the relay claims the messages of several pairs in one
    assert 3 < median["start-stop, round trips"] < 40 and 1_000 < median["start-stop, WAL"] < 40_000
    assert names(page.read_text()) == (list(median) if FULL else []) and page.read_text().startswith("# Speed\n")
    shown = run.output.read_text()
    assert all(comparison["name"] in shown for comparison in result["comparisons"]) and "ratio" in shown
    assert result["entries"] == 2000 and result["environment"]["durable"]["fsync"] == "on"
    assert result["passed"] == all(comparison["passed"] is not False for comparison in result["comparisons"])
    assert run.count() > 10 and run.left_behind() == []


def test_json_goes_to_standard_output_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_json(Path("-"), {"comparisons": []})
    printed = capsys.readouterr().out
    write_json(tmp_path / "bench.json", {"comparisons": []})
    assert json.loads(printed) == {"comparisons": []} and (tmp_path / "bench.json").read_text() == printed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM] if FULL else [signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    run = Run(tmp_path, *TINY, "--only", "me").wait_for("me: ")
    run.process.send_signal(number)
    assert run.wait(seconds=30) in (130, 128 + number)
    assert run.count() > 10 and run.left_behind() == []


def test_an_unknown_comparison_is_refused_before_anything_starts(tmp_path: Path) -> None:
    run = Run(tmp_path, "--only", "list", "--only", "speed")
    assert run.wait(seconds=20) == 1
    assert "There is no comparison called speed" in run.said() and "start-stop" in run.said()
    assert run.left_behind() == []


def test_the_page_has_the_lines_of_the_bench() -> None:
    page = (CHECKOUT / "docs" / "performance.md").read_text()
    assert names(page) == [line for comparison in COMPARISONS for line in comparison.lines]


def test_the_page_is_checked_before_anything_starts(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Speed\n")
    with pytest.raises(CommandError, match="lacks the lines"):
        write_page(page, {})
    run = Run(tmp_path, "--page", str(page))
    assert run.wait(seconds=20) == 1 and "lacks the lines" in run.said()
    assert page.read_text() == "# Speed\n" and run.left_behind() == []


def test_pgbench_reads_the_same_statement() -> None:
    ours = """SELECT to_char(t, 'HH24:MI') || 'it''s' FROM x WHERE id = %(id)s AND d >= %(from)s::date AND n %% 2 = 0 -- all"""
    theirs = r"""SELECT to_char(t, E'HH24\x3aMI') || 'it''s' FROM x WHERE id = :id AND d >= :from::date AND n % 2 = 0 -- all"""
    assert script([ours]) == f"{theirs};\n"


def test_a_target_is_met_at_its_bound() -> None:
    def line(ours: float, target: Target | None) -> Line:
        return Line("x", Side("", "s", [ours, ours, 99]), Side("", "s", [2.0, 1, 3]), target)

    assert line(1, Target(0.5, at_least=True)).passed is True
    assert line(0.9, Target(0.5, at_least=True)).passed is False
    assert line(4, Target(2, at_least=False)).passed is True
    assert line(4.1, Target(2, at_least=False)).passed is False
    assert line(1000, Target(1000, at_least=True, of_ours=True)).passed is True
    assert line(1, None).passed is None
    unmeasured = Line("x", Side("", "s", [1.0]), None, Target(0.5, at_least=True))
    assert unmeasured.ratio is None and unmeasured.passed is None


def test_the_cpu_time_of_a_tree_of_processes_is_counted_by_kind() -> None:
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'for _ in range(10**9): pass'])"
    with subprocess.Popen([sys.executable, "-c", busy], start_new_session=True) as parent:
        try:
            processes = Processes(lambda: {"api": [parent.pid], "idle": [os.getpid()]})
            before = processes.read()
            end = time.monotonic() + 60
            while (spent := milliseconds(before, processes.read(), count=2))["api"] < 100:
                assert time.monotonic() < end, spent
                time.sleep(0.05)
            total = sum(milliseconds(before, processes.read(), count=1).values())
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    assert total >= 2 * spent["api"]


def test_of_postgres_only_the_backends_of_the_database_count(database_url: str) -> None:
    name = str(conninfo_to_dict(database_url)["dbname"])
    with psycopg.connect(database_url) as ours, psycopg.connect(database_url) as without:
        pid, excluded = ours.info.backend_pid, without.info.backend_pid
        postmaster = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        counted, others = (
            Processes(dict, postgres=postmaster, database=database, without_backend=excluded).read()["postgres"]
            for database in (name, "another")
        )
    assert postmaster in counted and postmaster in others
    assert pid in counted and pid not in others and excluded not in {*counted, *others}


def test_statements_are_counted_of_one_database_without_the_connection_of_the_bench() -> None:
    log = """\
71 shop LOG:  statement: BEGIN
71 shop LOG:  execute <unnamed>: SELECT 1,
\t2
71 shop DETAIL:  Parameters: $1 = '72 shop LOG:  statement: x'
72 shop LOG:  execute s_1/p: COMMIT
73 shop LOG:  statement: SELECT 'the bench'
74 peer LOG:  statement: COMMIT
75  LOG:  checkpoint starting: time
"""
    assert count_statements(iter(log.splitlines(keepends=True)), "shop", without_backend=73) == 3


def test_what_happens_once_in_a_while_is_not_subtracted_from_the_traffic_of_requests() -> None:
    stretches = [
        Traffic(statements=8, wal_bytes=9_000),
        Traffic(statements=9, wal_bytes=0),
        Traffic(statements=30, wal_bytes=50),
    ]
    idle = least(stretches)
    assert idle == Traffic(statements=8, wal_bytes=0)
    assert Traffic(statements=40, wal_bytes=2_000).without(idle, seconds=2).per(4) == Traffic(statements=6, wal_bytes=500)
