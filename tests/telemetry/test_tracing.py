"""Traces: a span a request and one a stage, set by OTEL_* alone, sent to a real receiver."""

import http.server
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.model.engine import KerasEngine
from app.telemetry.tracing import _exporters, tracer_provider
from tests.asking import WAIT_S, Run, service
from tests.dialects import BASE64, INK, SEVEN
from tests.server import ROOT, Process

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["decode", "preprocess", "queue", "inference"]

anyio = pytest.mark.anyio


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What apps made meanwhile have traced."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("app.main.tracer_provider", lambda _version: provider)
    return exporter


def split(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The one request's span, and those of its stages in the order of their start."""
    stages = [span for span in exporter.get_finished_spans() if span.parent and span.kind is SpanKind.INTERNAL]
    [request] = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]
    return request, sorted(stages, key=lambda span: span.start_time or 0)


@anyio
async def test_a_request_is_a_span_and_its_stages_are_below_it(
    seven: KerasEngine, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "digits")
    async with service(seven) as client:
        traceparent = f"00-{TRACE}-{PARENT}-01"
        answer = await client.post("/predict?top_k=1", content=SEVEN, headers={"traceparent": traceparent})

    request, stages = split(spans)
    assert request.name == "POST /predict"
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "digits.request_id": answer.headers["x-request-id"],
    }
    assert [stage.name for stage in stages] == STAGES
    for stage in stages:
        assert stage.parent is not None
        assert stage.parent.span_id == request.context.span_id
        assert f"{stage.context.trace_id:032x}" == TRACE
    assert caplog.records[-1].__dict__["fields"]["trace_id"] == TRACE


@anyio
async def test_stages_follow_one_another_and_last_as_the_header_says(
    seven: KerasEngine, spans: InMemorySpanExporter
) -> None:
    async with service(seven) as client:
        answer = await client.post("/predict", content=SEVEN)

    request, stages = split(spans)
    said = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    for before, after in pairwise(stages):
        assert before.end_time == after.start_time
    for stage in stages:
        assert stage.start_time is not None
        assert stage.end_time is not None
        assert (stage.end_time - stage.start_time) / 1e6 == pytest.approx(float(said[stage.name]), abs=1e-3)
    assert request.start_time is not None
    assert stages[0].start_time is not None
    assert request.start_time <= stages[0].start_time + 1_000_000  # of two clocks


@anyio
@pytest.mark.parametrize(
    ("path", "sent", "names"),
    [
        ("/predict/batch", {"files": [("files", ("a", SEVEN))] * 3}, STAGES * 3),
        ("/v1/models/digits:predict", {"json": {"instances": [{"b64": BASE64}] * 2}}, STAGES * 2),
        ("/v1/models/digits:predict", {"json": {"instances": [INK.tolist()]}}, ["queue", "inference"]),
    ],
    ids=["batch", "encoded images", "a tensor"],
)
async def test_each_image_of_a_request_has_its_stages(
    seven: KerasEngine, spans: InMemorySpanExporter, path: str, sent: dict[str, Any], names: list[str]
) -> None:
    async with service(seven) as client:
        assert (await client.post(path, **sent)).status_code == 200

    request, stages = split(spans)
    assert sorted(stage.name for stage in stages) == sorted(names)
    assert {stage.parent.span_id for stage in stages if stage.parent} == {request.context.span_id}


@anyio
async def test_a_span_holds_nothing_that_a_caller_made_up(seven: KerasEngine, spans: InMemorySpanExporter) -> None:
    async with service(seven, api_keys="sha256:" + "0" * 64) as client:
        headers = {"User-Agent": "marker", "traceparent": "marker", "baggage": "marker=1", "X-API-Key": "marker"}
        await client.request("MARKER", "/marker?marker=1", content=b"marker", headers=headers | {"Host": "marker"})

    request, stages = split(spans)
    assert "marker" not in request.to_json().lower()
    assert (request.name, stages) == ("_OTHER", [])
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 401


@anyio
async def test_spans_carry_on_no_state_of_the_callers(seven: KerasEngine, spans: InMemorySpanExporter) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=marker", "baggage": "a=marker"}
    async with service(seven) as client:
        await client.post("/predict", content=SEVEN, headers=headers)

    request, stages = split(spans)
    assert f"{request.context.trace_id:032x}" == TRACE
    assert [span.context.trace_state for span in (request, *stages)] == [{}] * (1 + len(stages))


@anyio
async def test_a_fault_of_ours_is_an_error_and_one_of_the_caller_is_not(
    engine_of: Callable[[Run], KerasEngine], spans: InMemorySpanExporter
) -> None:
    def fail(_: NDArray[np.float32]) -> NDArray[np.float32]:
        raise RuntimeError("secret")

    async with service(engine_of(fail)) as client:
        assert (await client.post("/predict", content=b"text")).status_code == 415
        assert (await client.post("/predict", content=SEVEN)).status_code == 500

    by_caller, by_us = spans.get_finished_spans()
    assert by_caller.status.status_code is StatusCode.UNSET
    assert by_us.status.status_code is StatusCode.ERROR
    assert by_us.attributes is not None
    assert by_us.attributes["error.type"] == "RuntimeError"
    assert "secret" not in by_us.to_json()


@anyio
async def test_what_the_caller_does_not_sample_is_not_traced(seven: KerasEngine, spans: InMemorySpanExporter) -> None:
    async with service(seven) as client:
        await client.post("/predict", content=SEVEN, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})

    assert spans.get_finished_spans() == ()


# What the environment asks for

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "mine"}, []),
        (ENDPOINT, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ["otlp_proto_http", "console"]),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, []),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_traces_are_on_where_the_standard_variables_say_so(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], names: list[str]
) -> None:
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert _exporters() == names


@pytest.mark.parametrize("missing", ["an exporter", "the SDK"])
def test_what_is_not_installed_is_told_and_gone_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp" if missing == "the SDK" else "carrier_pigeon")
    if missing == "the SDK":
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)

    assert tracer_provider("1.0") is None
    assert "pip install '.[otel]'" in caplog.text


def test_without_those_variables_the_sdk_is_not_imported() -> None:
    code = "import sys; from app.main import create_app; from app.settings import Settings; create_app(Settings())"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; print('opentelemetry.sdk' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.split() == ["False"]


# Over the wire


@contextmanager
def receiving() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OTLP/HTTP receiver: where it listens, and what has come."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") is None and self.path == "/v1/traces":
                received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_each_worker_sends_its_spans_and_the_last_of_them_when_it_stops(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # so that nothing is sent before
        process = Process("-m", "app", port=0, workers=2, engine="litert", model_dir=model_dir)
        try:
            url = process.url()
            for _ in range(2):
                process.line_with('"ready"')
            for _ in range(12):
                assert httpx2.post(url + "/predict", content=SEVEN, timeout=WAIT_S).status_code == 200
            assert received == []
            process.tell(signal.SIGTERM)
            assert process.status() == 0
        finally:
            process.end()

    sent = [batch for request in received for batch in request.resource_spans]
    resources = [{each.key: each.value for each in batch.resource.attributes} for batch in sent]
    names = [span.name for batch in sent for scope in batch.scope_spans for span in scope.spans]
    assert sorted(set(names)) == ["POST /predict", *sorted(STAGES)]
    assert len(names) == 12 * 5
    assert {resource["service.name"].string_value for resource in resources} == {"digits"}
    assert len({resource["process.pid"].int_value for resource in resources}) == len(received)
