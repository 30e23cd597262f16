"""Counters and histograms over cells of memory that several processes share. Know no metric of ours.

To count is to add to a float64: a quarter of what prometheus_client's own instruments take, with their locks. Nothing
is written to disk, as its mode for several processes does, and a process that died leaves no file behind. One thread
writes a cell, any may read it.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

Values = NDArray[np.float64]
Labels = Mapping[str, Sequence[object]]  # name -> every value that it may have


class Counter:
    """A cell for each combination of labels. ``sparse``: those that never occurred are not shown."""

    def __init__(self, name: str, documentation: str, labels: Labels, *, sparse: bool = False) -> None:
        self.name, self.documentation, self.labels, self.sparse = name, documentation, labels, sparse
        self.children = [tuple(map(str, values)) for values in product(*labels.values())]
        self.size = len(self.children)

    def family(self, values: Values) -> Metric:
        """As prometheus_client has it, of ``values`` (size,)."""
        family = CounterMetricFamily(self.name, self.documentation, labels=list(self.labels))
        for child, value in zip(self.children, values, strict=True):
            if value or not self.sparse:
                family.add_metric(child, value)
        return family


class Histogram(Counter):
    """For each combination of labels a cell for each bucket, one for what is beyond the last, and one for the sum."""

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        labels: Labels | None = None,
        *,
        sparse: bool = False,
    ) -> None:
        super().__init__(name, documentation, labels or {}, sparse=sparse)
        self.bounds = bounds
        self.width = len(bounds) + 2
        self.size *= self.width

    def observers(self, cells: "memoryview[float]") -> list["Observer"]:
        """One for each of `children`."""
        return [Observer(cells[start : start + self.width], self.bounds) for start in range(0, self.size, self.width)]

    def family(self, values: Values) -> Metric:
        family = HistogramMetricFamily(self.name, self.documentation, labels=list(self.labels))
        names = [*map(floatToGoString, self.bounds), "+Inf"]
        for child, of_child in zip(self.children, values.reshape(-1, self.width), strict=True):
            counts = np.cumsum(of_child[:-1])
            if counts[-1] or not self.sparse:
                family.add_metric(child, list(zip(names, counts, strict=True)), of_child[-1])
        return family


class Observer(NamedTuple):
    """One child of a histogram, where this process counts. Cumulative only when it is read."""

    cells: "memoryview[float]"
    bounds: Sequence[float]

    def observe(self, value: float) -> None:
        cells, bounds = self
        cells[bisect_left(bounds, value)] += 1
        cells[-1] += value
