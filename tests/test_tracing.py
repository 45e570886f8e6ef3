"""What a span contains (schemas/tracing.py), as the collector gets it."""

import os
import subprocess
import sys

import pytest

from tests.support import otel
from tests.support.http_answers import answering
from tests.support.installation import CHECKOUT

SCRIPT = """
from contextlib import suppress
from schemas import tracing
tracing.configure_tracing("test")
with suppress(ValueError), tracing.span("a call", "client", attributes={"server.address": "xero"}):
    raise ValueError("the token is 1234-5678")
"""


@pytest.mark.processes
def test_a_span_has_no_text_of_an_exception() -> None:
    with answering() as collector:
        collector.body = b""
        environment = os.environ | {
            "PYTHONPATH": f"{CHECKOUT}:{otel.packages()}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "",
        }
        subprocess.run([sys.executable, "-P", "-c", SCRIPT], env=environment, check=True)
        [body] = collector.bodies  # sent at the end of the process
    assert all(word in body for word in (b"stint-test", b"a call", b"error.type", b"ValueError", b"xero"))
    assert b"1234-5678" not in body and b"Traceback" not in body
