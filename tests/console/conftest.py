"""Browsers for the tests of the console."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.console.client import Browsers
from tests.support.given import Given


@pytest.fixture
def browsers(given: Given) -> Iterator[Browsers]:
    """`browsers.admin()` is a browser in which a new admin is signed in."""
    with closing(Browsers(given)) as made:
        yield made
