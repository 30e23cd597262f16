"""Counters and histograms over cells, as Prometheus reads them."""

from array import array

import numpy as np
from prometheus_client.metrics_core import Metric

from app.telemetry.instruments import Counter, Histogram


def shown(family: Metric) -> dict[tuple[str, ...], float]:
    return {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}


def test_a_counter_shows_every_combination_of_its_labels() -> None:
    counter = Counter("hits", "Hits.", {"side": ("left", "right"), "digit": range(2)})

    assert shown(counter.family(np.array([1.0, 0, 0, 4]))) == {
        ("hits_total", "left", "0"): 1,
        ("hits_total", "left", "1"): 0,
        ("hits_total", "right", "0"): 0,
        ("hits_total", "right", "1"): 4,
    }


def test_a_sparse_counter_shows_what_occurred() -> None:
    counter = Counter("hits", "Hits.", {"side": ("left", "right")}, sparse=True)

    assert shown(counter.family(np.array([0.0, 2]))) == {("hits_total", "right"): 2}


def test_a_value_counts_in_the_bucket_that_it_is_not_above_and_in_all_larger_ones() -> None:
    histogram = Histogram("size", "Size.", (1, 2.5))
    memory = array("d", [0] * histogram.size)
    [observer] = histogram.observers(memoryview(memory))
    for value in (0.5, 1, 2, 3):
        observer.observe(value)

    assert shown(histogram.family(np.array(memory))) == {
        ("size_bucket", "1.0"): 2,
        ("size_bucket", "2.5"): 3,
        ("size_bucket", "+Inf"): 4,
        ("size_count",): 4,
        ("size_sum",): 6.5,
    }


def test_children_of_a_histogram_count_apart_and_those_that_never_did_are_left_out_if_sparse() -> None:
    histogram = Histogram("size", "Size.", (1,), {"side": ("left", "middle", "right")}, sparse=True)
    memory = array("d", [0] * histogram.size)
    left, _, right = histogram.observers(memoryview(memory))
    left.observe(1)
    right.observe(5)

    samples = shown(histogram.family(np.array(memory)))
    assert {name: value for name, value in samples.items() if name[0] != "size_bucket"} == {
        ("size_count", "left"): 1,
        ("size_sum", "left"): 1,
        ("size_count", "right"): 1,
        ("size_sum", "right"): 5,
    }
