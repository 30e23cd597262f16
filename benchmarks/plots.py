"""Plots of a run, as PNG files."""

import statistics
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.results import Results
from benchmarks.targets import INT8, NO_WORK

INK, GRID = "#1f2933", "#e4e7eb"
COLOURS = {NO_WORK: "#9aa5b1", "keras": "#0b69a3", "litert": "#c05621", INT8: "#7b341e"}
DPI = 110


def throughput(results: Results, path: Path) -> None:
    """Images per second by connections, a panel for each upload; the band is the lowest to the highest round."""
    ways = {"multipart": "multipart", "raw": "raw body", "json": "JSON", "batch": "batches of 64"}
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    for axes, (way, title) in zip(figure.subplots(2, 2).flat, ways.items(), strict=True):
        for name, colour in COLOURS.items():
            chosen = sorted(
                connections for server, upload, connections in results.loads if (server, upload) == (name, way)
            )
            rates = [results.rates(name, way, connections) for connections in chosen]
            medians = [statistics.median(of) for of in rates]
            axes.plot(chosen, medians, color=colour, marker=".", label=name)
            low, high = [min(of) for of in rates], [max(of) for of in rates]
            axes.fill_between(chosen, low, high, color=colour, alpha=0.2, linewidth=0)
        _style(axes, f"{title}, images/s")
        axes.set_xscale("log", base=2)
        ticks = sorted({connections for _, _, connections in results.loads})
        axes.set_xticks(ticks, [str(connections) for connections in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("connections", fontsize=9, color=INK)
        axes.set_ylim(bottom=0)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    _save(figure, path)


def bars(rates: Mapping[str, list[float]], title: str, path: Path) -> None:
    """One bar for each server, the largest at the top; the line on it is the lowest to the highest round."""
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
    _style(axes, title)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _save(figure, path)


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
