"""The metrics: Prometheus instruments on a registry that one app owns. Knows no request and no engine.

Every label is known beforehand: no caller makes one up.
"""

import math
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from itertools import accumulate
from typing import get_args

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.imaging.preprocess import Ink
from app.model.decision import DIGITS, Reason
from app.model.manifest import Reference
from app.telemetry.drift import FEATURES, shape, stability_index
from app.telemetry.instruments import Counter, Histogram, Values
from app.telemetry.shared_memory import Rows

__all__ = ["CONTENT_TYPE", "Metrics"]

DRIFT_WINDOW = 1000  # pictures of each worker
DRIFT_EVERY_S = 0.01  # one picture at most: measuring it takes 10 µs, and a window shall last some seconds
DRIFT_LEAST = 500  # the index of fewer is more than 0.02 by chance alone

_NO_ROUTE, _OTHER_METHOD = "none", "other"
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", _OTHER_METHOD)
_STATUSES = (0, *map(int, HTTPStatus))  # 0: no answer, for the caller had gone, or no status of HTTP
_STAGES = ("decode", "preprocess", "queue", "inference")
_REASONS: tuple[Reason, ...] = get_args(Reason)

_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_STAGE_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CONFIDENCES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 0.999, 1)

_PICTURE = struct.Struct(f"{len(FEATURES)}d")  # one of the window


class Metrics(Collector):
    """``routes``: the paths of the app. ``file``: where the other workers count too; alone without one."""

    def __init__(self, routes: Iterable[str] = (), file: int | None = None) -> None:
        self._reference: Reference | None = None
        self._model: tuple[str, str] | None = None
        self._measured = -math.inf  # when a picture was, for drift
        self._batch_counting = threading.Lock()
        self._routes = (*dict.fromkeys(routes), _NO_ROUTE)
        asked = {"route": self._routes, "method": _METHODS}
        requests = Counter("digits_http_requests", "Requests answered.", asked | {"status": _STATUSES}, sparse=True)
        durations = Histogram(
            "digits_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            _REQUEST_S,
            asked,
            sparse=True,
        )
        stages = Histogram(
            "digits_stage_duration_seconds", "What a picture spent in a stage.", _STAGE_S, {"stage": _STAGES}
        )
        batches = Histogram("digits_batch_size", "Pictures that the model read at once.", _BATCHES)
        predictions = Counter("digits_predictions", "Pictures that were read, by answer.", {"digit": range(DIGITS)})
        confidences = Histogram("digits_confidence", "The probability of the digit that was answered.", _CONFIDENCES)
        rejections = Counter("digits_rejections", "Answers that were not accepted.", {"reason": _REASONS})
        self._instruments = [requests, durations, stages, batches, predictions, confidences, rejections]

        sizes = {instrument.name: instrument.size for instrument in self._instruments}
        sizes |= {"pid": 1, "queue_depth": 1, "pictures": 1, "window": DRIFT_WINDOW * len(FEATURES)}
        ends = accumulate(sizes.values())
        self._places = {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
        self._rows = Rows(sum(sizes.values()), file)
        mine = {name: self._rows.mine[place] for name, place in self._places.items()}
        mine["pid"][0], mine["queue_depth"][0] = os.getpid(), 0  # not a predecessor's

        # Bound once: a request looks up its route and its status, and nothing else.
        self._requests, self._durations = mine[requests.name], durations.observers(mine[durations.name])
        self._stages = stages.observers(mine[stages.name])
        [self._batches] = batches.observers(mine[batches.name])
        self._predictions, [self._confidences] = mine[predictions.name], confidences.observers(mine[confidences.name])
        self._rejections = mine[rejections.name]
        self._queue_depth, self._pictures, self._window = mine["queue_depth"], mine["pictures"], mine["window"]
        self._asked = {asked: place for place, asked in enumerate(durations.children)}
        self._statuses = {status: place for place, status in enumerate(_STATUSES)}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        PlatformCollector(self._registry)

    def serve(self, version: str, sha256: str, reference: Reference | None) -> None:
        """What answers from here on: the model's version, the sha256 of its weights, what drift is measured from."""
        self._model, self._reference = (version, sha256), reference

    def count_request(self, route: str | None, method: str, status: int, duration_s: float | None = None) -> None:
        """``route``: a path as the app has it, None or any other where none matched. ``status``: 0 without an answer.

        ``duration_s``: None of what was refused before it was looked at.
        """
        place = self._asked.get((route or _NO_ROUTE, method))
        if place is None:
            known_route = route if route in self._routes else _NO_ROUTE
            place = self._asked[known_route, method if method in _METHODS else _OTHER_METHOD]
        self._requests[place * len(_STATUSES) + self._statuses.get(status, 0)] += 1
        if duration_s is not None:
            self._durations[place].observe(duration_s)

    def count_batch(self, size: int) -> None:
        """Called on the engine's thread, and on the event loop's where the engine is quick: hence the lock."""
        with self._batch_counting:
            self._batches.observe(size)

    def set_queue_depth(self, depth: int) -> None:
        self._queue_depth[0] = depth

    def count_answer(
        self,
        ink: Ink,
        probabilities: Sequence[float],
        reason: Reason | None,
        stages_ms: Sequence[float],
        *,
        inverted: bool,
    ) -> None:
        """A picture that was read, through all four stages or the last ones.

        ``reason``: why its answer was not accepted, None where it was or where nobody asked.
        """
        for stage, duration_ms in zip(self._stages[-len(stages_ms) :], stages_ms, strict=True):
            stage.observe(duration_ms / 1000)
        confidence = max(probabilities)
        digit = probabilities.index(confidence)
        self._predictions[digit] += 1
        self._confidences.observe(confidence)
        if reason is not None:
            self._rejections[_REASONS.index(reason)] += 1
        if self._reference is not None and (now := time.monotonic()) >= self._measured + DRIFT_EVERY_S:
            self._measured = now
            place = int(self._pictures[0]) % DRIFT_WINDOW
            _PICTURE.pack_into(self._window, place * _PICTURE.size, *shape(ink), inverted, confidence, digit)
            self._pictures[0] += 1

    def text(self) -> bytes:
        """All of it as `CONTENT_TYPE` says."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """All but python_info, added up over the workers."""
        rows = np.array([np.frombuffer(row, np.float64) for row in self._rows.every()])
        cells = {name: rows[:, place] for name, place in self._places.items()}
        for instrument in self._instruments:
            yield instrument.family(cells[instrument.name].sum(axis=0))
        yield GaugeMetricFamily(
            "digits_queue_depth", "Pictures that wait for the model.", float(cells["queue_depth"].sum())
        )
        if self._model is not None:
            model = GaugeMetricFamily("digits_model_info", "The model that answers.", labels=("version", "sha256"))
            model.add_metric(self._model, 1)
            yield model
        if self._reference is not None:
            seen = [
                window.reshape(DRIFT_WINDOW, len(FEATURES))[: int(pictures)]
                for window, [pictures] in zip(cells["window"], cells["pictures"], strict=True)
            ]
            yield from _drift(self._reference, np.concatenate(seen))
        yield from _of_processes(map(int, cells["pid"].ravel()))


def _drift(reference: Reference, pictures: Values) -> Iterator[Metric]:
    """``pictures``: (n, 5), a column for each of `FEATURES`."""
    family = GaugeMetricFamily(
        "digits_drift_psi",
        f"Population stability index against the model's reference, of the last {DRIFT_WINDOW} pictures of a worker, "
        f"one in {DRIFT_EVERY_S:g} s at most, once there are {DRIFT_LEAST}.",
        labels=("feature",),
    )
    if len(pictures) >= DRIFT_LEAST:
        for feature, values in zip(FEATURES, pictures.T, strict=True):
            family.add_metric((feature,), stability_index(getattr(reference, feature), values))
    yield family
    described = "What the pictures are compared with, and how many of it."
    compared = GaugeMetricFamily("digits_drift_reference_pictures", described, labels=("source",))
    compared.add_metric((reference.source,), reference.pictures)
    yield compared


def _of_processes(pids: Iterable[int]) -> Iterator[Metric]:
    """Memory, processor time and the like of each worker that lives, by its row."""
    families: dict[str, Metric] = {}
    for worker, pid in enumerate(pids):
        for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            whole.samples += [sample._replace(labels={"worker": str(worker)}) for sample in family.samples]
    yield from families.values()
