"""Traces of OpenTelemetry: an approval can be followed from its request to the call of Xero."""

from typing import Any

import pytest

from tests.support import otel
from tests.support.firm_with_xero import Firm
from tests.support.given import Given
from tests.support.http_answers import Answers, answering
from tests.support.installation import CHECKOUT, Installation, eventually
from tests.support.xero_sandbox import XeroSandbox

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def spans_of(collector: Answers) -> dict[str, Any]:
    """The spans of the trace that the collector has received, by their ids."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return {
        span.span_id.hex(): span
        for body in list(collector.bodies)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == TRACE
    }


def paths(collector: Answers) -> list[list[str]]:
    """For each request to Xero: the names of the spans that led to it, and the id of the span that the first of them continues.
    A message that was sent twice has a path each time, and only one of them ends at Xero."""
    spans, found = spans_of(collector), []
    for last in spans.values():
        if last.name == "POST 127.0.0.1":
            path, above = [last.name], last.parent_span_id.hex()
            while above in spans:
                path.append(spans[above].name)
                above = spans[above].parent_span_id.hex()
            found.append([above, *reversed(path)])
    return found


def test_one_trace_leads_from_the_request_to_the_call_of_xero(
    given_own: Given, own_with_xero: Installation, xero: XeroSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = otel.packages()
    monkeypatch.syspath_prepend(packages)
    with answering() as collector:
        collector.body = b""
        own_with_xero.new_processes = True
        own_with_xero.environment |= {
            "PYTHONPATH": f"{CHECKOUT}:{packages}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds
        }
        firm = Firm.new(own_with_xero.start().wait_until_ready(), xero, given_own)
        bill = firm.bill()
        answer = firm.admin.http.patch(
            f"/api/time-bills/{bill['id']}", json={"status": "approved"}, headers={"traceparent": f"00-{TRACE}-{CLIENT}-01"}
        )
        assert answer.status_code == 200
        firm.wait_for_status(bill, "synced")
        path = [CLIENT, "PATCH /api/time-bills/{bill_id}", "publish xero", "sync_bill", "POST 127.0.0.1"]
        eventually(lambda: path in paths(collector), why=f"{paths(collector)}")
        own_with_xero.stop()
        assert {request for request, _ in collector.requests} == {"/v1/traces"}
        sent = b"".join(collector.bodies)
        assert firm.by.email.encode() not in sent and b"Bearer" not in sent
