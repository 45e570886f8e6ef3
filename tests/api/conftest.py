"""A customer and its administrator, who invites users."""

import pytest

from tests.api.invitations import reset_rate_limits
from tests.support.answers import Json
from tests.support.given import Given, Person
from tests.support.installation import Installation


@pytest.fixture
def no_limits(stint: Installation) -> None:
    """No test before has used up a rate limit."""
    reset_rate_limits(stint)


@pytest.fixture
def acme(given: Given) -> Json:
    return given.customer(given.person())


@pytest.fixture
def boss(given: Given, acme: Json) -> Person:
    """Acme's administrator."""
    return given.person("customer_admin", acme["id"])
