"""The image, built once for all tests of it."""

from collections.abc import Iterator

import pytest

from tests.deploy.images import Builder, built


@pytest.fixture(scope="session")
def builder() -> Iterator[Builder]:
    """With the image `one`."""
    with built() as made:
        yield made
