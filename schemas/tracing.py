"""Traces by OpenTelemetry: what a request, and the messages that it causes, spend their time with, up to Xero's answer.

Off, and without any import, unless OTEL_EXPORTER_OTLP_ENDPOINT is set. Its packages are those of requirements-otel.lock; they
read the other OTEL_ variables themselves. What a span contains: names, ids, times, statuses and classes of errors, and no text
that a person or another server has written.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

logger = logging.getLogger(__name__)

HEADER = "traceparent"  # of W3C Trace Context: the name in HTTP and in RabbitMQ
END_SECONDS = 2.0
Kind = Literal["server", "client", "producer", "consumer"]

_tracer: Any = None  # of this process


def configure_tracing(process: str) -> None:
    """Turns traces on if the environment names where to send them. `process`: the kind of this one, such as `api`."""
    global _tracer
    if not any(os.environ.get(f"OTEL_EXPORTER_OTLP_{name}") for name in ("ENDPOINT", "TRACES_ENDPOINT")):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        logger.error("no traces, although OTEL_EXPORTER_OTLP_ENDPOINT is set: install requirements-otel.lock (%s)", error)
        return
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or f"stint-{process}"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _send_at_the_end(provider.shutdown)
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # else each try to reach a collector that is away is a line
    _tracer = provider.get_tracer("stint")


def _send_at_the_end(shut_down: Callable[[], None]) -> None:
    """Sends at the end of the process what is left, for END_SECONDS at most: a collector that is away must not delay a stop."""
    ending, ended = threading.Event(), threading.Event()

    def wait() -> None:
        ending.wait()
        shut_down()
        ended.set()

    def end() -> None:
        ending.set()
        ended.wait(END_SECONDS)

    threading.Thread(target=wait, daemon=True).start()  # now: Python starts none while it ends
    atexit.register(end)


def is_on() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


def span(
    name: str, kind: Kind, *, parent: str | None = None, attributes: Mapping[str, str | int] | None = None
) -> AbstractContextManager[Any]:
    """A span of the block, which is that of OpenTelemetry, or None while traces are off. It belongs to the span that is open
    here, or to `parent`, a traceparent. An exception that leaves the block is named by its class."""
    return nullcontext() if _tracer is None else _span(name, kind, parent, attributes)


@contextmanager
def _span(name: str, kind: Kind, parent: str | None, attributes: Mapping[str, str | int] | None) -> Generator[Any]:
    from opentelemetry.trace import SpanKind

    with _tracer.start_as_current_span(
        name,
        context=_context_of(parent) if parent else None,
        kind=SpanKind[kind.upper()],
        attributes=attributes,
        record_exception=False,  # its text may contain secrets
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            fail(current, type(error).__name__)
            raise


def fail(current: Any, error_type: str) -> None:
    """Marks a span of `span` as failed, by the class of the error."""
    if current is not None:
        from opentelemetry.trace import StatusCode

        current.set_attribute("error.type", error_type)
        current.set_status(StatusCode.ERROR)


def traceparent() -> str | None:
    """The span that is open here, for another process to continue; None without one."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER)


def _context_of(parent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({HEADER: parent})
