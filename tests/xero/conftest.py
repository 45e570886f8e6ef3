"""A stand-in Xero and a Stint that takes it for the real one, for one test alone."""

from collections.abc import Iterator

import pytest

from tests.firm_with_xero import Firm
from tests.given import Given
from tests.installation import Installation
from tests.sandbox import XeroSandbox, a_xero


@pytest.fixture
def xero() -> Iterator[XeroSandbox]:
    with a_xero() as sandbox:
        yield sandbox


@pytest.fixture
def stint_with_xero(own: Installation, xero: XeroSandbox) -> Installation:
    """Not started yet, so that a test can say more of its environment."""
    own.environment |= xero.environment | {
        "STINT_XERO_CALL_SECONDS": "2",
        "STINT_XERO_LATE_SECONDS": "6",
    }
    return own


@pytest.fixture
def firm(stint_with_xero: Installation, xero: XeroSandbox) -> Iterator[Firm]:
    """Running, connected, mapped."""
    stint_with_xero.start().wait_until_ready()
    given = Given(stint_with_xero)
    yield Firm.new(stint_with_xero, xero, given)
    given.close()
