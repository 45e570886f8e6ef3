"""Which tests a run contains. The common run, `./stint test` alone, is for every change: it tries each function and each route
in about seven minutes. `--all` adds further cases, and what takes long or starts processes for one test."""

from collections import defaultdict
from collections.abc import Sequence

import pytest

from tests.support.unit_tests import fixtures_of

CASES = 3  # of a parametrized test, in the common run
# fixtures that start processes or servers for one test or one module alone
STARTING = {"own", "own_probes", "up"}


def is_common(config: pytest.Config) -> bool:
    """Whether nothing says which tests to run: no file, name, marker or option. For the main process of pytest: its workers get
    files."""
    option = config.option
    chosen = option.all or option.browser or option.keyword or option.markexpr
    return not chosen and config.args_source == pytest.Config.ArgsSource.TESTPATHS


def selected(items: Sequence[pytest.Item], config: pytest.Config) -> list[pytest.Item]:
    """The tests of this run. Files, names and markers are pytest's own."""
    option = config.option
    if option.browser:
        return [item for item in items if _has(item, "browser")]
    if option.all:
        return list(items)
    quick = [item for item in items if not _has(item, "slow", "browser")]
    return _common(quick) if option.common else quick


def _common(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    cases: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not _has(item, "processes") and STARTING.isdisjoint(fixtures_of(item)):
            cases[item.nodeid.partition("[")[0]].append(item)
    return [item for found in cases.values() for item in _spread(found)]


def _spread(cases: list[pytest.Item]) -> list[pytest.Item]:
    """All of a few, else the first, the last and one between."""
    last = len(cases) - 1
    return cases if last < CASES else [cases[number * last // (CASES - 1)] for number in range(CASES)]


def _has(item: pytest.Item, *markers: str) -> bool:
    return any(map(item.get_closest_marker, markers))
