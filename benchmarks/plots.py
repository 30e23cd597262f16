"""The plot of a run, as a PNG file."""

import statistics
from pathlib import Path

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
        axes.set_title(f"{title}, images/s", loc="left", fontsize=10, color=INK)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
        axes.set_xscale("log", base=2)
        ticks = sorted({connections for _, _, connections in results.loads})
        axes.set_xticks(ticks, [str(connections) for connections in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("connections", fontsize=9, color=INK)
        axes.set_ylim(bottom=0)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
