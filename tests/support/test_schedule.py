"""Which worker of pytest gets which tests."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from xdist.workermanage import WorkerController

from tests.support.durations import COMPUTING, WAITING, beginning_of
from tests.support.exclusive import ExclusiveTests
from tests.support.installation import CHECKOUT
from tests.support.schedule import Schedule

LOADS, WAITS = pytest.mark.exclusive().mark, pytest.mark.exclusive(uses="little").mark


@dataclass(frozen=True)
class Item:
    """Of a test, what the plugin reads."""

    nodeid: str
    marker: pytest.Mark | None = None

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self.marker if self.marker is not None and self.marker.name == name else None


@dataclass(eq=False)
class Worker:
    """Of a worker, what the scheduler calls."""

    tests: list[int] = field(default_factory=list)
    shutting_down: bool = False
    gateway: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(id="gw"))

    def send_runtest_some(self, tests: list[int]) -> None:
        self.tests += tests

    def shutdown(self) -> None:
        self.shutting_down = True


def run(directory: Path, items: list[Item], workers: int) -> list[list[str]]:
    """The ids of the tests that each worker runs; all of them take the same time."""
    ExclusiveTests(directory).pytest_collection_modifyitems(cast(list[pytest.Item], items))
    ids = [item.nodeid for item in items]
    config: Any = SimpleNamespace(option=SimpleNamespace(), getvalue=lambda _: [f"{workers}*popen"])
    schedule = Schedule(config, cast(Any, None), directory)
    nodes = [Worker() for _ in range(workers)]
    for node in nodes:
        schedule.add_node(cast(WorkerController, node))
    for node in nodes:
        schedule.add_node_collection(cast(WorkerController, node), ids)
    schedule.schedule()
    for turn in range(len(items)):
        for node in nodes:
            if turn < len(node.tests):
                schedule.mark_test_complete(cast(WorkerController, node), node.tests[turn])
    assert schedule.tests_finished and all(node.shutting_down for node in nodes)
    return [[ids[index] for index in node.tests] for node in nodes]


def module(name: str, *tests: pytest.Mark | None) -> list[Item]:
    return [Item(f"tests/test_{name}.py::test_{number}", mark) for number, mark in enumerate(tests)]


def test_each_lane_comes_first_in_a_worker_of_its_own_and_modules_stay_together(tmp_path: Path) -> None:
    items = [
        *module("a", *[None] * 5, WAITS, WAITS),
        *module("b", LOADS, None, None, LOADS),
        *module("c", *[None] * 3),
    ]
    for workers in (2, 3, 4):
        ran = run(tmp_path, list(items), workers)
        assert sorted(test for tests in ran for test in tests) == sorted(item.nodeid for item in items)
        first, second, *_ = ran
        assert first[:2] == ["tests/test_b.py::test_0", "tests/test_b.py::test_3"]
        assert second[:2] == ["tests/test_a.py::test_5", "tests/test_a.py::test_6"]
        for name, count in (("a", 5), ("b", 2), ("c", 3)):
            others = [item.nodeid for item in items if item.marker is None and item.nodeid.startswith(f"tests/test_{name}.py")]
            assert len(others) == count and any(" ".join(others) in " ".join(tests) for tests in ran), (workers, name)


def test_quiet_modules_begin_with_the_lanes(tmp_path: Path) -> None:
    quiet = pytest.mark.quiet.mark
    items = [*module("a", None), *module("b", None), *module("c", quiet), *module("d", LOADS)]
    assert [tests[0] for tests in run(tmp_path, items, 3)] == [f"tests/test_{name}.py::test_0" for name in "dca"]


def test_without_exclusive_tests_the_first_modules_come_first(tmp_path: Path) -> None:
    items = [*module("long", None), *module("short", None), *module("shorter", None)]
    assert [tests[0] for tests in run(tmp_path, items, 2)] == ["tests/test_long.py::test_0", "tests/test_short.py::test_0"]


def test_all_tests_in_a_browser_run_in_one_worker(tmp_path: Path) -> None:
    items = [Item(f"tests/console/browser/test_{name}.py::test_{number}") for name in "abc" for number in range(4)]
    ran = run(tmp_path, [*items[:8], *module("a", *[None] * 4), *items[8:]], 3)
    assert [item.nodeid for item in items] in ran


def test_the_modules_that_take_long_exist() -> None:
    assert [path for path in (*COMPUTING, *WAITING) if not (CHECKOUT / path).exists()] == []


def test_the_longest_modules_that_compute_and_the_longest_that_wait_begin_in_turn() -> None:
    for modules in (COMPUTING, WAITING):
        assert list(modules.values()) == sorted(modules.values(), reverse=True)
    ordered = sorted((*COMPUTING, *WAITING), key=beginning_of)
    assert {path in COMPUTING for path in ordered[:2]} == {True, False}
