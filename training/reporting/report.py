"""The report: an exported model and the data given -> its card, its pictures and the figures of its manifest.

What was not given is not measured, and the card says so. No picture but MNIST's goes into what is written.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.model.manifest import read_manifest, write_manifest
from training.data import Images, LabelledFile, Labels, Mnist
from training.errors import RunError
from training.evaluation.classifier import load_classifier
from training.evaluation.evaluate import (
    contents,
    corrupted_accuracy,
    read_folder,
    read_images,
    read_mnist,
    read_validation,
)
from training.evaluation.figures import Figures
from training.evaluation.rejection import score_rejection
from training.reporting import plots
from training.reporting.card import card
from training.reporting.sheets import hard_sheet
from training.run_directory import HISTORY, read_history_table, write_text

CARD = "card.md"
FIGURES = "figures"
MISTAKES = 24


@dataclass(frozen=True)
class Sources:
    """What to measure on: MNIST, and whatever else there is. ``corrupted``: so many test images are corrupted too."""

    mnist: Mnist
    files: Sequence[LabelledFile] = ()
    outliers: Sequence[Path] = ()
    several: Sequence[Path] = ()
    semeion: tuple[Images, Labels] | None = None
    corrupted: int = 0


def report(models: Path, sources: Sources) -> Figures:
    """Write ``models``/card.md and figures/, and the manifest's metrics; what was measured, through the served engine.

    Raises ModelError, or RunError when the model learnt from other data than ``sources.mnist``.
    """
    manifest = read_manifest(models)
    if manifest.data != sources.mnist.hashes:
        raise RunError(f"the model in {models} learnt from other data than this MNIST")
    figures = measure(models, sources)
    manifest = manifest.model_copy(update={"metrics": metrics(figures)})
    _draw(models, figures, sources.mnist)
    hard_sheet(sources.mnist, load_classifier(models), models / FIGURES / "hard.png")
    write_text(models / CARD, card(manifest, figures))
    write_manifest(manifest, models)
    return figures


def measure(models: Path, sources: Sources) -> Figures:
    """All figures of the model in ``models``. Raises ModelError."""
    classifier = load_classifier(models)
    mnist = sources.mnist
    digits, test = read_mnist(classifier, mnist)
    images = None
    if sources.files:
        digits, images = read_folder(classifier, sources.files)
    return Figures(
        test=test,
        validation=read_validation(classifier, mnist)[1],
        images=images,
        semeion=read_images(classifier, *sources.semeion)[1] if sources.semeion else None,
        outliers=score_rejection(classifier.read(contents(sources.outliers), "auto"), digits)
        if sources.outliers
        else None,
        several=score_rejection(classifier.read(contents(sources.several), "auto"), None) if sources.several else None,
        corrupted=min(sources.corrupted, len(mnist.x_test)),
        corruptions=corrupted_accuracy(classifier, mnist.x_test[: sources.corrupted], mnist.y_test[: sources.corrupted])
        if sources.corrupted
        else None,
    )


def metrics(figures: Figures) -> dict[str, float]:
    """The figures for programs, as they stand in the manifest: what was not measured is left out."""
    found: dict[str, float | None] = {}
    for name, scores in figures.sets.items():
        found |= {f"{name}_accuracy": scores.accuracy, f"{name}_nll": scores.nll, f"{name}_ece": scores.ece}
        if scores.groups:
            found[f"{name}_groups_accuracy"] = scores.groups.accuracy
        if scores.acceptance:
            found[f"{name}_accepted"] = scores.acceptance.share
            found[f"{name}_accepted_accuracy"] = scores.acceptance.accuracy
    for name, rejected in figures.to_reject.items():
        found |= {f"{name}_accepted": rejected.accepted, f"{name}_auroc": rejected.auroc}
    found["corruptions_accuracy"] = figures.corrupted_accuracy
    return {name: round(value, 6) for name, value in found.items() if value is not None and not math.isnan(value)}


def _draw(models: Path, figures: Figures, mnist: Mnist) -> None:
    folder = models / FIGURES
    folder.mkdir(exist_ok=True)
    compared = {
        name: scores for name, scores in (("MNIST test", figures.test), ("other hands", figures.images)) if scores
    }
    plots.samples(mnist.x_train, mnist.y_train, folder / "samples.png")
    plots.confusion(figures.test.confusion, folder / "confusion.png")
    plots.mistakes(mnist.x_test, figures.test.mistakes[:MISTAKES], folder / "mistakes.png")
    plots.reliability({name: scores.reliability for name, scores in compared.items()}, folder / "reliability.png")
    plots.risk_coverage({name: scores.risk_coverage for name, scores in compared.items()}, folder / "risk.png")
    plots.learning_curves(read_history_table(models / HISTORY), folder / "curves.png")
