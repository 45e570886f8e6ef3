"""The first run in a checkout: each module of tests is rewritten by one worker of pytest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.first_imports import modules_below, part

MODULES = 6
CONFTEST = """
import os
from tests.support.first_imports import FirstImports

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        number = int(config.workerinput["workerid"].removeprefix("gw"))
        config.pluginmanager.register(FirstImports(number, config.workerinput["workercount"]))
"""
TEST = """
import os
from pathlib import Path

with (Path(__file__).parent / "imported").open("a") as file:
    file.write(f"{os.environ['PYTEST_XDIST_WORKER']} {Path(__file__).stem}\\n")

def test_it(): pass
"""


def test_each_module_belongs_to_one_worker(tmp_path: Path) -> None:
    (tmp_path / "tests/api").mkdir(parents=True)
    for name in ("tests/test_a.py", "tests/api/test_b.py", "tests/api/test_c.py", "tests/api/table.py"):
        (tmp_path / name).touch()
    modules = modules_below(["tests"], tmp_path)
    assert modules == [Path("tests/api/test_b.py"), Path("tests/api/test_c.py"), Path("tests/test_a.py")]
    assert sorted(path for worker in range(2) for path in part(modules, worker, 2)) == modules
    assert modules_below(["tests/test_a.py", "tests/api/test_b.py::test_it"], tmp_path) == [], "a few are named"


@pytest.mark.processes
def test_workers_begin_with_different_modules_and_report_one_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number in range(MODULES):
        (tmp_path / f"test_{number}.py").write_text(TEST)
    (tmp_path / f"test_{MODULES}.py").write_text("raise ValueError('broken')")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, "--import-mode=importlib", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{os.getcwd()}"},
        capture_output=True,
        text=True,
    )
    assert "ValueError: broken" in done.stdout and re.search(r"1 error|errors", done.stdout), done.stdout + done.stderr
    imported = [line.split() for line in (tmp_path / "imported").read_text().splitlines()]
    first = {worker: [module for who, module in imported if who == worker][: MODULES // 2] for worker in ("gw0", "gw1")}
    assert first == {"gw0": ["test_0", "test_2", "test_4"], "gw1": ["test_1", "test_3", "test_5"]}
    assert len(imported) == 2 * MODULES, "each worker imports each module once"
