"""OpenTelemetry traces: a span a request, and one a stage of each answer. Set by the standard `OTEL_*` variables alone.

Off unless they name an exporter or where to export to; the SDK is imported only then. A span holds nothing that a
caller sent but what is validated, as the log does: no address that matched no route, no query, no header.
"""

import logging
import os
import threading
import time
from contextvars import ContextVar
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("digits")

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
_FREE_TEXT = {b"tracestate", b"baggage"}  # beside `traceparent`: whatever a caller writes, which spans would carry on
_FLUSH_S = 2  # at the stop, of which a supervisor waits five

_tracer: ContextVar[trace.Tracer | None] = ContextVar("tracer", default=None)


def tracer_provider(version: str) -> "TracerProvider | None":
    """What the environment asks for; None where it asks for nothing, or for what is not installed."""
    names = _exporters()
    if not names:
        return None
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # as the SDK's own configuration finds them
        exporters = [
            next(iter(entry_points(group="opentelemetry_traces_exporter", name=name))).load()() for name in names
        ]
    except (ImportError, StopIteration):
        log.warning("no traces: an exporter that OTEL_* asks for is not known or not installed: pip install '.[otel]'")
        return None
    resource = Resource.create({"service.version": version, "process.pid": os.getpid()})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "digits"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporters() -> list[str]:
    """Their names, as OpenTelemetry registers them."""
    given = os.environ.get
    if given("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    endpoint = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or given("OTEL_EXPORTER_OTLP_ENDPOINT")
    asked = given("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")
    protocol = given("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or given("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    names = [name.strip() for name in asked.split(",")]
    return [otlp if name == "otlp" else name for name in names if name not in ("", "none")]


def record_stages(**stages_ms: float) -> None:
    """Spans of an answer's stages, which end now, if its request is traced.

    One is taken to have followed the other at once: what a thread's hand-over took is before the first.
    """
    tracer = _tracer.get()
    if tracer is None:
        return
    at_ns = time.time_ns() - round(sum(stages_ms.values()) * 1e6)
    for name, duration_ms in stages_ms.items():
        span = tracer.start_span(name, start_time=at_ns)
        at_ns += round(duration_ms * 1e6)
        span.end(at_ns)


class Tracing:
    """ASGI middleware: a span around each request, the child of the `traceparent` that it came with."""

    def __init__(self, app: ASGIApp, provider: "TracerProvider") -> None:
        self._app = app
        self._provider = provider
        self._tracer = provider.get_tracer("digits")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._flushing(send))
            return
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name not in _FREE_TEXT
        }
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            method,
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.scheme": scope["scheme"]},
        )
        status = 500  # unless an answer begins

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        state = scope["state"]
        state["log"]["trace_id"] = f"{span.get_span_context().trace_id:032x}"
        token = _tracer.set(self._tracer if span.is_recording() else None)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                await self._app(scope, receive, send_noting)
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            raise
        finally:
            _tracer.reset(token)
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("digits.request_id", state["request_id"])
            if status >= 500:
                span.set_status(StatusCode.ERROR)
            span.end()

    def _flushing(self, send: Send) -> Send:
        async def send_flushed(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                # a thread that nobody has to wait for: a collector that does not answer would hold the stop up
                flushing = threading.Thread(target=self._provider.shutdown, daemon=True)
                flushing.start()
                flushing.join(_FLUSH_S)
            await send(message)

        return send_flushed
