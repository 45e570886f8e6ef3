"""Exclusive tests of the lanes run at once and each alone in its lane; others run when all are over."""

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Barrier, Event

from tests.support.exclusive import LANES, ExclusiveTests


def test_the_lanes_run_beside_each_other_and_nothing_beside_them(tmp_path: Path) -> None:
    lanes = [ExclusiveTests(tmp_path) for _ in LANES]
    other, second_load = ExclusiveTests(tmp_path), ExclusiveTests(tmp_path)
    all_run, may_end, ended = Barrier(len(LANES), timeout=10), Event(), Event()

    def lane(plugin: ExclusiveTests, number: int) -> None:
        with plugin.exclusive(number, keep=True):
            all_run.wait()
        with plugin.exclusive(number, keep=False):
            assert may_end.wait(10)

    def shared() -> bool:
        with other.shared():
            return ended.is_set()

    def next_of_the_lane() -> bool:
        with second_load.exclusive(LANES[0], keep=False):
            return ended.is_set()

    with ThreadPoolExecutor(len(LANES) + 2) as pool:
        running = [pool.submit(lane, plugin, number) for plugin, number in zip(lanes, LANES, strict=True)]
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
    one, two = ExclusiveTests(tmp_path), ExclusiveTests(tmp_path)
    with one.shared(), two.shared():
        pass
