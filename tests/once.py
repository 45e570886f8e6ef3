"""What takes long to make and is only read: made once a run, by whichever of pytest's workers asks first."""

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

Made = TypeVar("Made")


def once(name: str, make: Callable[[], Made]) -> Made:
    """What `make` gives. Others wait until it is made; should making it fail, the next one tries."""
    made = Path(os.environ["STINT_TEST_HOME"]) / f"once-{name}"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_bytes(pickle.dumps(make()))
        return cast(Made, pickle.loads(made.read_bytes()))  # noqa: S301 (our own)
