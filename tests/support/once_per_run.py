"""Shared fixtures that are slow to make and that tests only read: the first worker of pytest that asks makes them."""

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

Made = TypeVar("Made")


def once(name: str, make: Callable[[], Made]) -> Made:
    """The result of `make`, pickled. Other workers wait until it exists; if `make` fails, the next caller tries again."""
    made = Path(os.environ["STINT_TEST_HOME"]) / f"once-{name}"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(make()))
        return cast(Made, pickle.loads(made.read_bytes()))  # noqa: S301 (our own)
