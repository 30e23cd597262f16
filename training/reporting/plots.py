"""Plots: each function takes scores or images and writes one PNG. Knows nothing about models."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from app.model.decision import DIGITS
from training.evaluation.measures import ConfidenceBin
from training.evaluation.scoring import Mistake
from training.run_directory import EpochFigures

INK = "#1f2933"
TRAINING = "#9aa5b1"
VALIDATION = "#0b69a3"
GRID = "#e4e7eb"
SERIES = (VALIDATION, "#c05621", "#2f855a")
DPI = 110


@dataclass(frozen=True)
class Pair:
    """A picture, the ink found in it (both uint8, dark on light) and a title."""

    picture: NDArray[np.uint8]
    ink: NDArray[np.uint8]
    title: str


@dataclass(frozen=True)
class Framed:
    """A picture, boxes in it (left, top, right, bottom) and a title."""

    picture: NDArray[np.uint8]
    boxes: Sequence[tuple[int, int, int, int]]
    title: str


def learning_curves(history: Sequence[EpochFigures], path: Path) -> None:
    """Loss and accuracy over the epochs, training and validation."""
    epochs = [row.epoch for row in history]
    with _figure(path, 8.4, 3.2) as figure:
        loss, accuracy = figure.subplots(1, 2)
        for axes, title, training, validation in (
            (loss, "loss (nats)", [row.loss for row in history], [row.val_loss for row in history]),
            (
                accuracy,
                "accuracy (%)",
                [100 * row.accuracy for row in history],
                [100 * row.val_accuracy for row in history],
            ),
        ):
            axes.plot(epochs, training, color=TRAINING, marker=".", label="training")
            axes.plot(epochs, validation, color=VALIDATION, marker=".", label="validation")
            axes.set_title(title, loc="left", fontsize=10, color=INK)
            axes.set_xlabel("epoch", fontsize=9, color=INK)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="y", color=GRID, linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8, colors=INK)
        loss.set_yscale("log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        loss.yaxis.set_minor_locator(NullLocator())
        loss.yaxis.set_major_formatter("{x:g}")
        # cut off the first epochs, which would flatten all others
        middle = float(np.median([100 * row.val_accuracy for row in history]))
        accuracy.set_ylim(bottom=max(0.0, 100 - 5 * max(100 - middle, 0.2)), top=100.1)
        accuracy.legend(frameon=False, fontsize=9, loc="lower right")


def samples(images: NDArray[np.uint8], labels: NDArray[np.int64], path: Path, *, per_digit: int = 12) -> None:
    """The first images, uint8 (n, 28, 28), of each digit: one row per digit, with its label."""
    with _figure(path, 0.5 * (per_digit + 1), 5.0) as figure:
        grid = figure.subplots(DIGITS, 1)
        for digit, axes in enumerate(grid):
            row = np.hstack([np.pad(image, 2) for image in images[labels == digit][:per_digit]])
            axes.imshow(row, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
            axes.set_ylabel(str(digit), rotation=0, va="center", ha="right", fontsize=12, color=VALIDATION)
            _bare(axes)


def confusion(counts: Sequence[Sequence[int]], path: Path) -> None:
    """The confusion matrix: counts (10, 10), row = label, column = answer. Colours show the mistakes only."""
    matrix = np.array(counts)
    diagonal = np.eye(len(matrix), dtype=bool)
    wrong = np.where(diagonal, 0, matrix)
    most = max(1, int(wrong.max()))
    with _figure(path, 5.2, 5.2) as figure:
        axes = figure.subplots()
        axes.imshow(np.where(diagonal, 1.0, np.nan), cmap="Greys", vmin=0, vmax=16)
        axes.imshow(np.ma.masked_equal(wrong, 0), cmap="Reds", vmin=-0.15 * most, vmax=1.3 * most)
        for (label, digit), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if not diagonal[label, digit] and count > 0.6 * most else INK
                axes.text(digit, label, str(count), ha="center", va="center", fontsize=9, color=colour)
        axes.set_xticks(range(len(matrix)))
        axes.set_yticks(range(len(matrix)))
        axes.set_xlabel("answer", fontsize=10, color=INK)
        axes.set_ylabel("label", fontsize=10, color=INK)
        axes.tick_params(length=0, colors=INK)
        axes.spines[:].set_color(GRID)


def mistakes(images: NDArray[np.uint8], worst: Sequence[Mistake], path: Path, *, columns: int = 8) -> None:
    """The misread images in the given order, each with label, answer and confidence."""
    rows = max(1, -(-len(worst) // columns))
    with _figure(path, 1.05 * columns, 1.4 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, mistake in zip(grid.flat, worst, strict=False):
            axes.imshow(images[mistake.place], cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
            title = f"{mistake.label} read as {mistake.digit}\n{100 * mistake.confidence:.0f} %"
            axes.set_title(title, fontsize=8, color=INK)


def reliability(sets: Mapping[str, Sequence[ConfidenceBin]], path: Path) -> None:
    """Accuracy over confidence of each named set. Larger points stand for more images; the diagonal is ideal."""
    with _figure(path, 4.6, 4.2) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=TRAINING, linewidth=1, linestyle="--", zorder=1)
        for colour, (name, bins) in zip(SERIES, sets.items(), strict=False):
            images = sum(each.images for each in bins)
            axes.scatter(
                [each.confidence for each in bins],
                [each.accuracy for each in bins],
                s=[12 + 120 * (each.images / images) ** 0.5 for each in bins],
                color=colour,
                alpha=0.75,
                linewidths=0,
                label=f"{name} ({images:,})",
            )
        _plain_axes(axes, "confidence", "accuracy")
        axes.set_xlim(0, 1.03)
        axes.set_ylim(-0.03, 1.05)
        legend = axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(sets))
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_sizes([30])  # type: ignore[attr-defined]


def risk_coverage(sets: Mapping[str, Sequence[float]], path: Path) -> None:
    """Error rate over coverage, both in per cent, of each named set."""
    with _figure(path, 4.6, 3.4) as figure:
        axes = figure.subplots()
        for colour, (name, risks) in zip(SERIES, sets.items(), strict=False):
            axes.plot(range(1, len(risks) + 1), [100 * risk for risk in risks], color=colour, label=name)
        _plain_axes(axes, "answered, the most confident first (%)", "wrong among them (%)")
        # cut off the range without errors
        faultless = min(sum(risk == 0 for risk in risks) for risks in sets.values())
        axes.set_xlim(max(0, faultless - 10), 100.5)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=9, loc="upper left")


def pairs(shown: Sequence[Pair], path: Path, *, columns: int = 8) -> None:
    """Each picture beside its ink, with its title."""
    rows = max(1, -(-len(shown) // columns))
    with _figure(path, 1.9 * columns, 1.5 * rows) as figure:
        grid = figure.subplots(rows, 2 * columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for place, pair in enumerate(shown):
            row, column = divmod(place, columns)
            for axes, image in zip(grid[row, 2 * column : 2 * column + 2], (pair.picture, pair.ink), strict=True):
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            grid[row, 2 * column].set_title(pair.title, fontsize=7, color=INK, loc="left")


def framed(shown: Sequence[Framed], path: Path) -> None:
    """Each picture with its boxes and its title, three in a row."""
    with _figure(path, 9.6, 1.6 * -(-len(shown) // 3)) as figure:
        for axes, each in zip(figure.subplots(-(-len(shown) // 3), 3, squeeze=False).flat, shown, strict=True):
            axes.axis("off")
            axes.imshow(each.picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            for left, top, right, bottom in each.boxes:
                axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=SERIES[1], lw=1))
            axes.set_title(each.title, fontsize=8, color=INK, loc="left")


def _plain_axes(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


@contextmanager
def _figure(path: Path, width_in: float, height_in: float) -> Iterator[Figure]:
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    # without Matplotlib's version, so that the same input gives the same file
    figure.savefig(path, metadata={"Software": None})
