"""What a Prometheus reads at /metrics."""

import httpx2
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """One answer of /metrics."""

    def __init__(self, answer: httpx2.Response) -> None:
        assert answer.status_code == httpx2.codes.OK, answer.text
        self.text = answer.text
        self.names: set[str] = set()
        self._samples: Samples = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                self.names.add(sample.name)
                self._samples[sample.name, frozenset(sample.labels.items())] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        """Of the series with just these labels; None where there is none."""
        return self._samples.get((name, frozenset(labels.items())))

    def series(self, name: str) -> dict[str, float]:
        """Of all series of that name, by the value of their only label."""
        return {value: number for (of, labels), number in self._samples.items() if of == name for _, value in labels}
