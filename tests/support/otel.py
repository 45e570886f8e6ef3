"""OpenTelemetry's packages for a test, by requirements-otel.lock."""

from pathlib import Path

from tests.support.installation import CHECKOUT
from tests.support.locked_packages import directory_of

LOCK = CHECKOUT / "requirements-otel.lock"


def packages() -> Path:
    """A directory for PYTHONPATH. Skips the test where nothing can be downloaded."""
    return directory_of(LOCK, "otel")
