"""Workers of pytest share what the first run in a checkout does: pytest rewrites each module of tests, for its messages
about asserts, and keeps the result beside it. All workers collect in the same order, so each of them would rewrite every
module at the same time: seven seconds of a processor each. Here each first imports another part of the modules."""

import contextlib
import importlib
from collections.abc import Sequence
from pathlib import Path

import pytest


class FirstImports:
    """A plugin of one worker of pytest."""

    def __init__(self, worker: int, workers: int) -> None:
        self._worker, self._workers = worker, workers

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        for path in part(modules_below(session.config.args, session.config.rootpath), self._worker, self._workers):
            # the collection imports it again, and reports what is wrong
            with contextlib.suppress(Exception, pytest.skip.Exception):
                importlib.import_module(".".join(path.with_suffix("").parts))


def modules_below(arguments: Sequence[str], root: Path) -> list[Path]:
    """The modules of tests in those arguments that are directories, as paths below `root`."""
    directories = [path for argument in arguments if (path := root / argument).is_dir()]
    return sorted({module.relative_to(root) for directory in directories for module in directory.rglob("test_*.py")})


def part(modules: Sequence[Path], worker: int, workers: int) -> Sequence[Path]:
    """Those that this worker imports first, begun with 0."""
    return modules[worker::workers]
