"""Browsers for the tests of the console."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.api.tenants import Tenant, tenant
from tests.console.client import Browsers
from tests.support.given import Given
from tests.support.installation import Installation


@pytest.fixture(scope="module")
def everything(stint: Installation) -> Iterator[Tenant]:
    """A customer with one row of everything."""
    with closing(Given(stint)) as given:
        yield tenant(given)


@pytest.fixture
def browsers(given: Given) -> Iterator[Browsers]:
    """`browsers.admin()` is a browser in which a new admin is signed in."""
    with closing(Browsers(given)) as made:
        yield made
