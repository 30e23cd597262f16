"""OpenTelemetry traces: FastAPI makes one span per request, `record_stages` one per stage below it.

The standard `OTEL_*` variables alone configure them. They are off unless an exporter is configured, and the SDK is
imported only then.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry import trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("digits")

_FLUSH_S = 2  # a supervisor kills a worker that takes five to stop


def start_tracing() -> "TracerProvider | None":
    """The provider that the environment configures. None without an exporter, or if the package is not installed."""
    exporters = wanted_exporters(os.environ)
    if not exporters:
        return None
    try:
        from app.telemetry.spans import make_provider

        provider = make_provider(exporters)
    except (ImportError, LookupError):
        log.warning("no traces: an exporter named in OTEL_* is unknown or not installed: pip install '.[otel]'")
        return None
    trace.set_tracer_provider(provider)
    return provider


def stop_tracing(provider: "TracerProvider | None") -> None:
    """Send the remaining spans. A collector that does not answer delays the stop by two seconds at most."""
    if provider is not None:
        flush = threading.Thread(target=provider.shutdown, daemon=True)
        flush.start()
        flush.join(_FLUSH_S)


def tag_request(request_id: str) -> dict[str, str]:
    """Put the request's id on its span -> the trace's id for the log line, if there is a trace."""
    span = trace.get_current_span()
    if not span.get_span_context().is_valid:
        return {}
    span.set_attribute("digits.request_id", request_id)
    return {"trace_id": trace.format_trace_id(span.get_span_context().trace_id)}


def record_stages(**stages_ms: float) -> None:
    """Make one span per stage of an answer that is ready now, if its request is traced.

    The stages are taken to follow each other without a gap; time spent between threads counts before the first.
    """
    if not trace.get_current_span().is_recording():
        return
    tracer = trace.get_tracer("digits")
    at_ns = time.time_ns() - round(sum(stages_ms.values()) * 1e6)
    for name, duration_ms in stages_ms.items():
        span = tracer.start_span(name, start_time=at_ns)
        at_ns += round(duration_ms * 1e6)
        span.end(at_ns)


def wanted_exporters(environment: Mapping[str, str]) -> list[str]:
    """The exporters that `OTEL_*` configure, by the names of their entry points."""
    given = environment.get
    if given("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    endpoint = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or given("OTEL_EXPORTER_OTLP_ENDPOINT")
    asked = given("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    protocol = given("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or given("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    names = [name.strip() for name in asked.split(",")]
    return [otlp if name == "otlp" else name for name in names if name not in ("", "none")]
