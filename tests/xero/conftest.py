"""A stand-in Xero, and a Stint that takes it for the real one: shared by the tests of a worker, or one test's own."""

import os
from collections.abc import Iterator

import pytest

from tests.firm_with_xero import Firm
from tests.given import Given
from tests.installation import Installation, new_database
from tests.sandbox import XeroSandbox, a_xero

# short patience: what takes Xero minutes takes a test seconds
PATIENCE = {
    "STINT_XERO_CALL_SECONDS": "2",
    "STINT_XERO_LATE_SECONDS": "6",
    "STINT_XERO_CHECK_SECONDS": "2",
    "XERO_CALLS_PER_MINUTE": "6000",
}


@pytest.fixture(scope="session")
def shared_xero() -> Iterator[XeroSandbox]:
    with a_xero() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def shared(
    shared_xero: XeroSandbox, database_url: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    amqp_url = os.environ[f"STINT_TEST_AMQP_URL_{worker_id}-xero"]
    directory, environment = tmp_path_factory.mktemp("xero"), shared_xero.environment | PATIENCE
    installation = Installation(new_database(database_url), amqp_url, directory, **environment)
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture
def firm(shared: Installation, shared_xero: XeroSandbox) -> Iterator[Firm]:
    """A new firm, connected and mapped; Xero is as on the first day, without limits."""
    shared_xero.begins_anew()
    shared_xero.without_limits()
    given = Given(shared)
    firm = Firm.new(shared, shared_xero, given)
    yield firm
    shared_xero.recovers()
    firm.settled()
    given.close()


@pytest.fixture
def xero() -> Iterator[XeroSandbox]:
    """One test's own."""
    with a_xero() as sandbox:
        yield sandbox


@pytest.fixture
def own_with_xero(own: Installation, xero: XeroSandbox) -> Installation:
    """One test's own, with nothing started yet."""
    own.environment |= xero.environment | PATIENCE
    return own


@pytest.fixture
def given_own(own_with_xero: Installation) -> Iterator[Given]:
    """What a test with one of its own begins with, once that is running."""
    given = Given(own_with_xero)
    yield given
    given.close()
