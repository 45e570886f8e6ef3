"""A stand-in Xero and an installation that uses it: shared by the tests of a module, or started for one test. Idle ones would
cost in half a minute what their start costs, and a worker of pytest runs modules of many folders in between."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.firm_with_xero import UNFINISHED_BILLS, Firm
from tests.support.given import Given
from tests.support.installation import Installation, emptied, eventually, new_database
from tests.support.xero_sandbox import XeroSandbox, running_xero

# short timeouts and intervals, so that tests take seconds instead of minutes
SHORT_TIMES = {
    "STINT_XERO_CALL_SECONDS": "2",
    "STINT_XERO_LATE_SECONDS": "6",
    "STINT_XERO_LAG_SECONDS": "1",
    "STINT_XERO_CHECK_SECONDS": "2",
    "XERO_CALLS_PER_MINUTE": "6000",
}


@pytest.fixture
def url(database_url: str) -> str:
    """A database without processes."""
    return new_database(database_url)


@pytest.fixture(scope="module")
def shared_xero() -> Iterator[XeroSandbox]:
    with running_xero() as sandbox:
        yield sandbox


@contextmanager
def running_with(xero: XeroSandbox, database_url: str, amqp_url: str, directory: Path) -> Iterator[Installation]:
    """A running installation with a new database, which uses this Xero."""
    environment = xero.environment | SHORT_TIMES
    installation = Installation(new_database(database_url), amqp_url, directory, **environment)
    try:
        yield installation.start().wait_until_ready()
    finally:
        installation.stop()


@pytest.fixture(scope="module")
def shared(
    shared_xero: XeroSandbox, database_url: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    amqp_url = emptied(servers.addresses().amqp_urls[f"{worker_id}-xero"])
    with running_with(shared_xero, database_url, amqp_url, tmp_path_factory.mktemp("xero")) as installation:
        yield installation


@pytest.fixture
def firm(shared: Installation, shared_xero: XeroSandbox) -> Iterator[Firm]:
    """A new firm, connected and mapped; Xero has no other data, and no limits."""
    shared_xero.reset()
    shared_xero.disable_limits()
    given = Given(shared)
    firm = Firm.new(shared, shared_xero, given)
    yield firm
    shared_xero.clear_faults()
    eventually(lambda: shared.value(UNFINISHED_BILLS) == 0, seconds=60, why="no message of a bill is left")
    given.close()


@pytest.fixture
def xero() -> Iterator[XeroSandbox]:
    """A stand-in Xero for one test."""
    with running_xero() as sandbox:
        yield sandbox


@pytest.fixture
def own_with_xero(own: Installation, xero: XeroSandbox) -> Installation:
    """An installation for one test; no process is started yet."""
    own.environment |= xero.environment | SHORT_TIMES
    return own


@pytest.fixture
def given_own(own_with_xero: Installation) -> Iterator[Given]:
    """`Given` for the test's own installation, to be used once that is running."""
    given = Given(own_with_xero)
    yield given
    given.close()
