"""The ratios that the service should reach, each beside the measured value."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.results import Results

INT8 = "litert-int8"
ENGINES = ("keras", "litert", INT8)
NO_WORK, TEXTBOOK, TENSORFLOW = "no work", "textbook", "import tensorflow"
MIX = ("mix", 8)  # real pictures in turn, multipart, on so many connections

Measure = Callable[[Results, str], list[float]]


@dataclass(frozen=True)
class Bound:
    """``sign``: ≥ or ≤. ``unit``: empty for a ratio."""

    sign: str
    value: float
    unit: str = ""

    def cell(self, measured: list[float]) -> str:
        if not measured or math.isnan(measured[0]):
            return f"{self.sign} {self.value:g}{self.unit}: not measured"
        median = statistics.median(measured)
        met = median >= self.value if self.sign == "≥" else median <= self.value
        return f"{spread(measured)}{self.unit} · {self.sign} {self.value:g}{self.unit} **{'met' if met else 'missed'}**"


def figure(value: float, like: float | None = None) -> str:
    """``value`` with three significant digits, or with the decimal places that ``like`` then has."""
    size = abs(value if like is None else like)
    if not size:
        return f"{value:g}"
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"


def spread(values: Iterable[float]) -> str:
    """Median (lowest to highest). A dash without values."""
    values = list(values)
    if not values or math.isnan(values[0]):
        return "–"
    median = statistics.median(values)
    around = f" ({figure(min(values), median)} to {figure(max(values), median)})" if len(values) > 1 else ""
    return figure(median) + around


def ratios(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """Round by round, so that what slowed a whole round cancels out. Empty when either is."""
    return [one / other for one, other in zip(above, below, strict=False) if other]


def table(results: Results) -> list[str]:
    """Lines of Markdown: a row for each target, a column for each engine."""
    lines = ["| one server process each, all features on | Keras engine | LiteRT engine | LiteRT, 8-bit weights |"]
    lines += ["| --- | --- | --- | --- |"]
    for target, measure, keras, litert in _targets(results):
        cells = [
            bound.cell(measure(results, name)) for bound, name in zip((keras, litert, litert), ENGINES, strict=True)
        ]
        lines.append(f"| {target} | {' | '.join(cells)} |")
    return lines


def _targets(results: Results) -> list[tuple[str, Measure, Bound, Bound]]:
    """Each target, how it is measured, the bound for Keras and the one for LiteRT."""
    requests = f"{max((series[-1][0] for series in results.growth.values()), default=0):,}"
    before = f"{grown_from(results):,}"
    return [
        (
            "`/predict` multipart, 16 connections ÷ bare FastAPI upload that does no work",
            lambda r, engine: ratios(r.rates(engine, "multipart", 16), r.rates(NO_WORK, "multipart", 16)),
            Bound("≥", 0.55),
            Bound("≥", 0.70),
        ),
        (
            "`/predict` raw body, 16 connections ÷ bare FastAPI raw body, no work",
            lambda r, engine: ratios(r.rates(engine, "raw", 16), r.rates(NO_WORK, "raw", 16)),
            Bound("≥", 0.35),
            Bound("≥", 0.50),
        ),
        (
            "`/predict` multipart, 16 connections ÷ FastAPI + `model.predict`",
            lambda r, engine: ratios(r.rates(engine, "multipart", 16), r.rates(TEXTBOOK, "multipart", 16)),
            Bound("≥", 100),
            Bound("≥", 100),
        ),
        (
            "p50 at 1 connection ÷ the no-work p50 (multipart)",
            lambda r, engine: ratios(_p50(r, engine, 1), _p50(r, NO_WORK, 1)),
            Bound("≤", 3.5),
            Bound("≤", 2.0),
        ),
        (
            "p99 at 64 connections ÷ p50 (multipart)",
            lambda r, engine: ratios(
                [each.p99_ms for each in r.loads.get((engine, "multipart", 64), [])], _p50(r, engine, 64)
            ),
            Bound("≤", 3),
            Bound("≤", 3),
        ),
        (
            "`/predict/batch`, images/s at 64 images ÷ single requests/s (multipart, 16 connections both)",
            lambda r, engine: ratios(r.rates(engine, "batch", 16), r.rates(engine, "multipart", 16)),
            Bound("≥", 3),
            Bound("≥", 3),
        ),
        (
            f"resident memory after {requests} requests (Keras: ÷ `import tensorflow`)",
            _resident,
            Bound("≤", 1.2),
            Bound("≤", 150, " MB"),
        ),
        (
            f"memory growth from request {before} to {requests}",
            lambda r, engine: [100 * (r.growth[engine][-1][1] / _grown(r, engine) - 1)] if engine in r.growth else [],
            Bound("≤", 2, " %"),
            Bound("≤", 2, " %"),
        ),
        (
            "process start to ready (Keras: ÷ `import tensorflow`)",
            lambda r, engine: (
                ratios(r.start_s[engine], r.start_s[TENSORFLOW]) if engine == "keras" else r.start_s[engine]
            ),
            Bound("≤", 1.4),
            Bound("≤", 1.2, " s"),
        ),
        (
            f"real pictures, multipart, {MIX[1]} connections ÷ bare FastAPI that decodes and scales them",
            lambda r, engine: ratios(r.rates(engine, *MIX), r.rates(NO_WORK, *MIX)),
            Bound("≥", 0.60),
            Bound("≥", 0.70),
        ),
        (
            "12-megapixel JPEG, server time (decode + preprocess) ÷ `cv2.imdecode` at full size",
            lambda r, engine: ratios((own for own, _, _ in r.photo_ms[engine]), (full for full, _ in r.full_decode_ms)),
            Bound("≤", 0.45),
            Bound("≤", 0.45),
        ),
    ]


def grown_from(results: Results) -> int:
    """The request from which growth counts: 10,000, or a quarter of a shorter run."""
    longest = max((series[-1][0] for series in results.growth.values()), default=0)
    return min(10_000, longest // 4)


def _grown(results: Results, engine: str) -> float:
    return next(mb for requests, mb in results.growth[engine] if requests >= grown_from(results))


def _resident(results: Results, engine: str) -> list[float]:
    if engine not in results.growth:
        return []
    after = results.growth[engine][-1][1]
    return [after / mb for mb in results.resident_mb[TENSORFLOW]] if engine == "keras" else [after]


def _p50(results: Results, server: str, connections: int) -> list[float]:
    return [each.p50_ms for each in results.loads.get((server, "multipart", connections), [])]
