"""A process starts without collections of garbage, which would find none."""

import gc
import os
import subprocess
import sys

import pytest

from ops.state import CHECKOUT
from schemas.starting import no_collections

# runs `python -m ARGUMENTS` to where it misses its settings, after the imports, and counts the collections
COUNTED = """
import gc, runpy, sys
counted = []
gc.callbacks.append(lambda phase, info: counted.append(info["generation"]))
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert "DATABASE_URL" in str(end), end
print(counted.count(2), len(sys.modules), gc.isenabled())
"""


@pytest.mark.parametrize("arguments", [["api"], ["actors", "relay"], ["actors", "work"]], ids=" ".join)
def test_a_process_starts_without_collections(arguments: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    collections, modules, enabled = done.stdout.split()
    assert int(modules) > 500
    assert (collections, enabled) == ("0", "True")


def test_collections_go_on_after_a_start_that_failed() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(LookupError), no_collections():
        assert not gc.isenabled()
        raise LookupError
    assert gc.isenabled() and gc.get_freeze_count() > frozen
