"""Exclusive tests begin before all others, the two lanes at once and each alone in its lane; others run when both are over."""

from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Event
from typing import Any, cast

import pytest

from tests.support.exclusive import LANES, ExclusiveTests, arranged, lane_of

LOADS, WAITS = pytest.mark.exclusive().mark, pytest.mark.exclusive(waits=True).mark


@dataclass(frozen=True)
class Item:
    """Of a test, what the plugin reads."""

    name: str
    marker: pytest.Mark | None = None

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self.marker if name == "exclusive" else None


def order(items: list[Item], workers: int) -> list[list[str]]:
    """The names of the tests that each worker gets, as xdist divides them."""
    names = [cast(Any, item).name for item in arranged(cast(list[pytest.Item], items), workers)]
    parts = []
    for left in range(workers, 0, -1):
        parts.append(names[: len(names) // left])
        names = names[len(names) // left :]
    return parts


def test_each_lane_comes_first_in_a_worker_of_its_own() -> None:
    others = [Item(f"t{number}") for number in range(9)]
    loads, waits = [Item("load", LOADS), Item("crowd", LOADS)], [Item("wait", WAITS)]
    assert [lane_of(cast(pytest.Item, item)) for item in (*loads, *waits, others[0])] == [*LANES[:1] * 2, LANES[1], None]

    mixed = [others[0], *waits, *others[1:5], *loads, *others[5:]]
    for workers in (2, 3, 4):
        first, second, *_ = order(mixed, workers)
        assert first[:2] == ["load", "crowd"][: len(first)] and second[0] == "wait", workers
    assert order(mixed, 1) == [["load", "crowd", "wait", *(item.name for item in others)]]
    assert order([*others, *waits], 2)[0][0] == "wait"
    assert order(others, 4)[0][0] == "t0"


def test_the_lanes_run_beside_each_other_and_nothing_beside_them(tmp_path: Path) -> None:
    loads, waits, other, second_load = (ExclusiveTests(tmp_path, 4) for _ in range(4))
    both, may_end, ended = Barrier(2, timeout=10), Event(), Event()

    def lane(plugin: ExclusiveTests, number: int) -> None:
        with plugin.exclusive(number, keep=True):
            both.wait()
        with plugin.exclusive(number, keep=False):
            assert may_end.wait(10)

    def shared() -> bool:
        with other.shared():
            return ended.is_set()

    def next_of_the_lane() -> bool:
        with second_load.exclusive(LANES[0], keep=False):
            return ended.is_set()

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(lane, plugin, number) for plugin, number in ((loads, LANES[0]), (waits, LANES[1]))]
        while not all((tmp_path / f"began-{number}").exists() for number in LANES):
            assert not any(future.done() for future in running)
        behind = [pool.submit(shared), pool.submit(next_of_the_lane)]
        assert not wait(behind, timeout=0.3).done
        ended.set()
        may_end.set()
        assert [future.result(10) for future in behind] == [True, True]
        for future in running:
            future.result(10)


def test_several_other_tests_run_at_once(tmp_path: Path) -> None:
    one, two = ExclusiveTests(tmp_path, 2), ExclusiveTests(tmp_path, 2)
    with one.shared(), two.shared():
        pass
