"""Traces: one span per request and one per stage, configured by the standard OTEL_* variables."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.model.engine import KerasEngine
from app.telemetry.spans import make_provider
from app.telemetry.tracing import start_tracing, wanted_exporters
from tests.asking import WAIT_S, Run, service
from tests.dialects import INK, SEVEN
from tests.server import ROOT, running

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["decode", "preprocess", "queue", "inference"]


@pytest.fixture(scope="session")
def provider() -> TracerProvider:
    """The provider of this process: OpenTelemetry takes one."""
    provider = make_provider([])
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What apps made during the test have traced."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("app.main.start_tracing", lambda: provider)
    yield exporter
    exporter.shutdown()


def split(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The span of the only request, and its stages in the order of their start."""
    finished = exporter.get_finished_spans()
    [request] = [span for span in finished if span.kind is SpanKind.SERVER]
    stages = [span for span in finished if span.parent and span.parent.span_id == request.context.span_id]
    assert len(stages) == len(finished) - 1
    return request, sorted(stages, key=lambda span: span.start_time or 0)


@pytest.mark.parametrize("path", ["/predict", "/read"])
async def test_a_request_is_one_span_with_its_stages_below(
    seven: KerasEngine, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level("INFO", "digits")
    async with service(seven) as client:
        traceparent = f"00-{TRACE}-{PARENT}-01"
        answer = await client.post(path, content=SEVEN, headers={"traceparent": traceparent})

    request, stages = split(spans)
    assert request.name == f"POST {path}"
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": path,
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "digits.request_id": answer.headers["x-request-id"],
    }
    assert {f"{span.context.trace_id:032x}" for span in (request, *stages)} == {TRACE}
    assert caplog.records[-1].__dict__["fields"]["trace_id"] == TRACE
    said = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert [stage.name for stage in stages] == STAGES
    assert [before.end_time for before in stages[:-1]] == [after.start_time for after in stages[1:]]
    for stage in stages:
        duration_ms = ((stage.end_time or 0) - (stage.start_time or 0)) / 1e6
        assert duration_ms == pytest.approx(float(said[stage.name]), abs=1e-3)


async def test_a_span_holds_nothing_that_a_caller_wrote(seven: KerasEngine, spans: InMemorySpanExporter) -> None:
    names = ("Host", "User-Agent", "X-API-Key")
    headers = dict.fromkeys(names, "marker") | {"tracestate": "a=marker", "baggage": "a=marker"}
    headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
    async with service(seven) as client:
        await client.request("MARKER", "/marker?marker=1", content=b"marker", headers=headers)
        await client.post("/predict?marker=1", content=SEVEN, headers=headers)
        await client.post("/predict?top_k=1", content=SEVEN, headers=headers)

    traced = spans.get_finished_spans()
    assert [span.name for span in traced if span.kind is SpanKind.SERVER] == ["HTTP", "POST /predict", "POST /predict"]
    assert not [span for span in traced if "marker" in span.to_json().lower()]
    assert not any(span.context.trace_state for span in traced)


async def test_errors_of_the_service_mark_the_span_and_those_of_the_caller_do_not(
    engine_of: Callable[[Run], KerasEngine], spans: InMemorySpanExporter
) -> None:
    def fail(_: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError("secret")

    async with service(engine_of(fail)) as client:
        assert (await client.post("/predict", content=b"text")).status_code == 415
        assert (await client.post("/predict", content=SEVEN)).status_code == 500

    by_caller, by_service = spans.get_finished_spans()
    assert by_caller.status.status_code is StatusCode.UNSET
    assert by_service.status.status_code is StatusCode.ERROR
    assert "secret" not in by_service.to_json()


# Configuration

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "mine"}, []),
        (ENDPOINT, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ["otlp_proto_http", "console"]),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, []),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_the_standard_variables_turn_traces_on(environment: dict[str, str], names: list[str]) -> None:
    assert wanted_exporters(environment) == names


@pytest.mark.parametrize("missing", ["exporter", "SDK"])
def test_a_missing_package_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp" if missing == "SDK" else "carrier_pigeon")
    if missing == "SDK":
        monkeypatch.setitem(sys.modules, "app.telemetry.spans", None)

    assert start_tracing() is None
    assert "pip install '.[otel]'" in caplog.text


def test_without_those_variables_the_sdk_is_not_imported() -> None:
    code = "import sys; from app.main import create_app; from app.settings import Settings; create_app(Settings())"
    code += "; print('opentelemetry.sdk' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["False"]


def test_a_server_exports_its_last_spans_when_it_stops(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # so that nothing is exported before the stop
    with running(engine="litert", model_dir=model_dir) as process:
        url = process.ready()
        for _ in range(3):
            assert httpx2.post(url + "/predict?top_k=1", content=SEVEN, timeout=WAIT_S).status_code == 200
        process.tell(signal.SIGTERM)
        exported = "".join(process.rest())
        assert process.status() == 0

    for name in ("POST /predict", *STAGES):
        assert exported.count(f'"name": "{name}"') == 3
    assert exported.count('"service.name": "digits"') == 3 * 5


async def test_a_tensor_has_the_stages_of_the_model_alone(seven: KerasEngine, spans: InMemorySpanExporter) -> None:
    async with service(seven) as client:
        await client.post("/v1/models/digits:predict", json={"instances": [INK.tolist()]})

    assert [stage.name for stage in split(spans)[1]] == ["queue", "inference"]
