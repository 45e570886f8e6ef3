"""Which worker of pytest runs which tests: whole modules, because tests of a module share what it starts, and all tests
in a browser. The exclusive tests come first, each lane in a worker of its own, then what takes longest, so that none of it runs
alone at the end."""

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.durations import scope_of
from tests.support.exclusive import read_lanes


class Schedule(LoadScopeScheduling):
    """Gives each worker a lane of exclusive tests or a module, and another one when at most two of its tests are left."""

    def __init__(self, config: pytest.Config, log: Producer, directory: Path) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # the order is that of the collection
        self._directory = directory
        self._lanes: dict[str, int] = {}

    def schedule(self) -> None:
        if self.collection is None:  # the workers have collected their tests just now
            self._lanes = read_lanes(self._directory)
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        lane = self._lanes.get(nodeid)
        return scope_of(nodeid) if lane is None else f"lane {lane}"
