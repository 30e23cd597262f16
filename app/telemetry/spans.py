"""The OpenTelemetry SDK, set up so that spans hold nothing that a caller wrote. Imported only when traces are on."""

import os
from collections.abc import Sequence
from importlib.metadata import entry_points

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from app import VERSION

# Attributes that a new span keeps. FastAPI also sets path, query, host and original method; what it adds later (route,
# status, type of an error) does not come from the caller.
_KEPT = {"http.request.method", "url.scheme"}


class PrivateSampler(Sampler):
    """Samples as ``sampler`` does, and drops the attributes and the `tracestate` that come from the caller."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        kept = {key: value for key, value in (attributes or {}).items() if key in _KEPT}
        result = self._sampler.should_sample(parent_context, trace_id, name, kind, kept, links, trace_state)
        return SamplingResult(result.decision, result.attributes)

    def get_description(self) -> str:
        return f"PrivateSampler({self._sampler.get_description()})"


def make_provider(exporters: Sequence[str]) -> TracerProvider:
    """A provider that sends to the exporters with these names. Raises ImportError or LookupError for a missing one."""
    resource = Resource.create({"service.version": VERSION, "process.pid": os.getpid()})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "digits"}))
    by_environment = TracerProvider(shutdown_on_exit=False).sampler  # as OTEL_TRACES_SAMPLER says
    provider = TracerProvider(PrivateSampler(by_environment), resource, shutdown_on_exit=False)
    installed = {exporter.name: exporter for exporter in entry_points(group="opentelemetry_traces_exporter")}
    for name in exporters:
        provider.add_span_processor(BatchSpanProcessor(installed[name].load()()))
    return provider
