"""docs/guarantees.md names a test for each promise: every file that it names is there."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = (CHECKOUT / "docs/guarantees.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]


def named(cell: str) -> list[Path]:
    """The files in backticks; one without a directory is in that of the one before."""
    found: list[Path] = []
    for name in re.findall(r"`([\w/]+\.py|[\w/]+/)", cell):
        path = CHECKOUT / name
        found.append(path if "/" in name or not found else found[-1].parent / name)
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip()[:60] for row in ROWS])
def test_each_promise_has_a_mechanism_and_a_test_that_is_there(row: str) -> None:
    promise, mechanism, test = row.strip("| ").split(" | ")
    assert promise and mechanism
    files = named(test)
    assert files, f"no test is named: {test}"
    assert [str(file) for file in files if not file.exists()] == []
