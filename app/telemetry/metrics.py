"""Prometheus metrics of one app, made with prometheus_client. Every label value is from a fixed set, never a caller's.

With several workers it is prometheus_client's multiprocess mode: PROMETHEUS_MULTIPROC_DIR names a directory for their
files, and must be set before this module is imported. A process then makes no more than one `Metrics`.
"""

import os
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from app.imaging.preprocess import Ink
from app.model.decision import DIGITS, Reason
from app.model.manifest import Reference, Source
from app.telemetry.drift import FEATURES, MOST_BINS, DriftWindow

__all__ = ["CONTENT_TYPE", "Metrics"]

_NO_ROUTE, _OTHER_METHOD = "none", "other"
_METHODS = {"GET", "HEAD", "OPTIONS", "POST"}
_STAGES = ("decode", "preprocess", "queue", "inference")
_REASONS: tuple[Reason, ...] = get_args(Reason)

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CONFIDENCES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 0.999, 1)

_WORKER_START = "process_start_time_seconds"


class Metrics:
    """What the service counts."""

    def __init__(self) -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        own = None if self._shared else self._registry
        asked = ("route", "method")
        self._requests = Counter("digits_http_requests", "Requests answered.", (*asked, "status"), registry=own)
        self._durations = Histogram(
            "digits_http_request_duration_seconds",
            "From a request's headers to the end of its answer.",
            asked,
            buckets=_REQUEST_S,
            registry=own,
        )
        self._of_request: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        stages = Histogram(
            "digits_stage_duration_seconds", "Time in one stage, by image.", ("stage",), buckets=_STAGE_S, registry=own
        )
        self._stages = [stages.labels(stage) for stage in _STAGES]
        self._batches = Histogram("digits_batch_size", "Images per model call.", buckets=_BATCH_SIZES, registry=own)
        predictions = Counter("digits_predictions", "Images answered, by digit.", ("digit",), registry=own)
        self._predictions = [predictions.labels(digit) for digit in range(DIGITS)]
        self._confidences = Histogram(
            "digits_confidence", "Probability of the predicted digit.", buckets=_CONFIDENCES, registry=own
        )
        rejections = Counter("digits_rejections", "Answers that were not accepted.", ("reason",), registry=own)
        self._rejections = {reason: rejections.labels(reason) for reason in _REASONS}
        numbers = Counter("digits_numbers", "Numbers read by /read.", ("accepted",), registry=own)
        self._numbers = {accepted: numbers.labels(str(accepted).lower()) for accepted in (True, False)}
        self._queue_depth = Gauge(
            "digits_queue_depth", "Images in the queue of the model.", registry=own, multiprocess_mode="livesum"
        )
        self._model_info = Gauge(
            "digits_model_info",
            "1 for the model in use.",
            ("version", "sha256"),
            registry=own,
            multiprocess_mode="livemax",
        )
        self._model: tuple[str, str] | None = None
        self._drift = _DriftMetrics(own)
        PlatformCollector(self._registry)
        if self._shared:
            multiprocess.MultiProcessCollector(self._registry)
            started = Gauge(_WORKER_START, "Start time of each worker.", registry=None, multiprocess_mode="liveall")
            started.set_to_current_time()
        else:
            ProcessCollector(registry=self._registry)

    def set_model(self, version: str, sha256: str, reference: Reference | None) -> None:
        """From now on this model answers, and drift is measured against its reference."""
        if self._model is not None:
            self._model_info.labels(*self._model).set(0)  # in multiprocess mode a series cannot be removed
        self._model = version, sha256
        self._model_info.labels(version, sha256).set(1)
        self._drift.set_reference(reference)

    def count_request(self, route: str | None, method: str, status: int, duration_s: float) -> None:
        """``route``: None where none matched. ``status``: 0 without an answer."""
        asked = route or _NO_ROUTE, method if method in _METHODS else _OTHER_METHOD, status
        bound = self._of_request.get(asked)
        if bound is None:
            bound = self._of_request[asked] = self._requests.labels(*asked), self._durations.labels(*asked[:2])
        bound[0].inc()
        bound[1].observe(duration_s)

    def count_batch(self, size: int) -> None:
        self._batches.observe(size)

    def count_numbers(self, accepted: Sequence[bool], stages_ms: Sequence[float]) -> None:
        """Count one image by its numbers. ``accepted``: which of them were. ``stages_ms``: of all four stages."""
        for stage, duration_ms in zip(self._stages, stages_ms, strict=True):
            stage.observe(duration_ms / 1000)
        for is_accepted in accepted:
            self._numbers[is_accepted].inc()

    def set_queue_depth(self, depth: int) -> None:
        self._queue_depth.set(depth)

    def count_answer(
        self,
        ink: Ink,
        probabilities: Sequence[float],
        reason: Reason | None,
        stages_ms: Sequence[float],
        *,
        inverted: bool,
    ) -> None:
        """Count one image by its answer.

        ``stages_ms``: of all four stages or the last ones. ``reason``: why the answer was not accepted, if so.
        """
        for stage, duration_ms in zip(self._stages[-len(stages_ms) :], stages_ms, strict=True):
            stage.observe(duration_ms / 1000)
        confidence = max(probabilities)
        digit = probabilities.index(confidence)
        self._predictions[digit].inc()
        self._confidences.observe(confidence)
        if reason is not None:
            self._rejections[reason].inc()
        self._drift.count(ink, inverted=inverted, confidence=confidence, digit=digit)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format, `CONTENT_TYPE`; those of all workers together."""
        if self._shared:
            self._forget_dead_workers()
        return generate_latest(self._registry)

    def _forget_dead_workers(self) -> None:
        """Drop their gauges; their counts stay."""
        for family in self._registry.collect():
            for sample in family.samples if family.name == _WORKER_START else ():
                try:
                    os.kill(int(sample.labels["pid"]), 0)
                except ProcessLookupError:
                    multiprocess.mark_process_dead(sample.labels["pid"])


class _DriftMetrics:
    """The features of recent images against the model's reference.

    By bin, so that Prometheus can add up workers and replicas, and as the stability index of this process's window.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        described = "Population stability index of recent images against the reference: the largest of the workers."
        self._psi = gauge("digits_drift_psi", described, ("feature",))
        self._reference_images = gauge("digits_drift_reference_pictures", "Images in the reference.", ("source",))
        bins = ("feature", "bin")
        self._reference_shares = gauge("digits_drift_reference_share", "Share of reference images in each bin.", bins)
        self._images = Counter("digits_drift_pictures", "Images measured for drift, by bin.", bins, registry=registry)
        self._window: DriftWindow | None = None

    def set_reference(self, reference: Reference | None) -> None:
        self._window = DriftWindow(reference) if reference else None
        for source in get_args(Source):
            images = reference.pictures if reference and reference.source == source else 0
            self._reference_images.labels(source).set(images)
        for feature, place in product(FEATURES, range(MOST_BINS)):
            shares: tuple[float, ...] = getattr(reference, feature).shares if reference else ()
            self._reference_shares.labels(feature, place).set(shares[place] if place < len(shares) else 0)
            self._images.labels(feature, place)

    def count(self, ink: Ink, *, inverted: bool, confidence: float, digit: int) -> None:
        if self._window is None or not self._window.is_due():
            return
        for feature, place in self._window.add(ink, inverted=inverted, confidence=confidence, digit=digit).items():
            self._images.labels(feature, place).inc()
        for feature, index in self._window.indices().items():
            self._psi.labels(feature).set(index)
