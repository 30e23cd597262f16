"""Pictures of a run: figures in, one PNG out. Knows no server and no load."""

import statistics
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.load import Load
from benchmarks.results import Results
from benchmarks.targets import ENGINES, INT8, NO_WORK

INK, GRID = "#1f2933", "#e4e7eb"
COLOURS = {NO_WORK: "#9aa5b1", "keras": "#0b69a3", "litert": "#c05621", INT8: "#7b341e"}
DPI = 110


def throughput(results: Results, path: Path) -> None:
    """Images a second by connections, a panel an upload; the band is the lowest to the highest round."""
    ways = {"multipart": "multipart", "raw": "raw body", "json": "JSON", "batch": "batches of 64"}
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    for axes, (way, title) in zip(figure.subplots(2, 2).flat, ways.items(), strict=True):
        for name, colour in COLOURS.items():
            series = _series(results, name, way)
            rates = {connections: [each.rate for each in loads] for connections, loads in series.items() if loads}
            if rates:
                medians = [statistics.median(of) for of in rates.values()]
                axes.plot(list(rates), medians, color=colour, marker=".", label=name)
                axes.fill_between(
                    list(rates),
                    [min(of) for of in rates.values()],
                    [max(of) for of in rates.values()],
                    color=colour,
                    alpha=0.2,
                    linewidth=0,
                )
        _by_connections(axes, f"{title}, images/s", results)
        axes.set_ylim(bottom=0)
    _legend(figure)
    _save(figure, path)


def latency(results: Results, path: Path) -> None:
    """p50 (line) and p99 (dashes) by connections, a panel an upload of one image; medians of the rounds."""
    ways = {"multipart": "multipart", "raw": "raw body", "json": "JSON"}
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    for axes, (way, title) in zip(figure.subplots(1, 3, sharey=True), ways.items(), strict=True):
        for name, colour in COLOURS.items():
            series = _series(results, name, way)
            for percentile, style in (("p50_ms", "-"), ("p99_ms", "--")):
                ms = {
                    connections: statistics.median(getattr(each, percentile) for each in loads)
                    for connections, loads in series.items()
                    if loads
                }
                if ms:
                    label = f"{name}, {percentile.removesuffix('_ms')}"
                    axes.plot(list(ms), list(ms.values()), style, color=colour, marker=".", label=label)
        _by_connections(axes, f"{title}, ms", results)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    _legend(figure)
    _save(figure, path)


def memory(results: Results, path: Path) -> None:
    """Resident MB over the requests answered; a panel and a scale for each engine, for growth is what is sought."""
    figure = Figure(figsize=(9.6, 2.8), layout="constrained")
    for axes, engine in zip(figure.subplots(1, len(ENGINES)), ENGINES, strict=True):
        series = results.growth.get(engine, [])
        axes.plot([requests for requests, _ in series], [mb for _, mb in series], color=COLOURS[engine], marker=".")
        axes.set_ylim(bottom=0, top=1.15 * max((mb for _, mb in series), default=1))
        _bare(axes, f"{engine}, resident MB")
        axes.set_xlabel("requests", fontsize=9, color=INK)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    _save(figure, path)


def bars(rates: Mapping[str, list[float]], title: str, path: Path) -> None:
    """One bar a server, the largest above; the line on it is the lowest to the highest round."""
    names = sorted(rates, key=lambda name: statistics.median(rates[name]))
    medians = [statistics.median(rates[name]) for name in names]
    low = [median - min(rates[name]) for median, name in zip(medians, names, strict=True)]
    high = [max(rates[name]) - median for median, name in zip(medians, names, strict=True)]
    figure = Figure(figsize=(8.4, 0.5 * len(names) + 0.8), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS["litert"] if name.startswith("Digits") else COLOURS[NO_WORK] for name in names]
    axes.barh(names, medians, xerr=[low, high], color=colours, error_kw={"ecolor": INK, "capsize": 3})
    for place, median in enumerate(medians):
        axes.text(median / 2, place, f"{median:,.0f}", va="center", ha="center", fontsize=8, color=INK)
    _bare(axes, title)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _save(figure, path)


def _series(results: Results, name: str, way: str) -> dict[int, list[Load]]:
    chosen = sorted(key[2] for key in results.loads if key[:2] == (name, way))
    return {connections: results.loads[name, way, connections] for connections in chosen}


def _by_connections(axes: Axes, title: str, results: Results) -> None:
    chosen = sorted({connections for _, _, connections in results.loads})
    _bare(axes, title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(chosen, [str(connections) for connections in chosen])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("connections", fontsize=9, color=INK)


def _legend(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
