"""The report of an exported model: its card, plots and manifest metrics, from the data given.

The card says what was not measured. Only MNIST images appear in the output.
"""

import math
from pathlib import Path

from app.model.manifest import read_manifest, write_manifest
from training.data.mnist import Mnist
from training.errors import RunError
from training.evaluation.classifier import load_classifier
from training.evaluation.evaluate import EvaluationData, Figures, measure, validation_set
from training.reporting import plots
from training.reporting.card import card
from training.reporting.number_sheet import numbers_sheet
from training.reporting.sheets import hard_sheet
from training.run_directory import HISTORY, read_history_table, write_text

CARD = "card.md"
FIGURES = "figures"
MISTAKES = 24


def report(models: Path, data: EvaluationData) -> Figures:
    """Measure the model in ``models`` and write its card.md, figures/ and manifest metrics; returns the figures.

    Raises ModelError, or RunError if the model was trained on other data than ``data.mnist``.
    """
    manifest = read_manifest(models)
    if manifest.data != data.mnist.hashes:
        raise RunError(f"the model in {models} was trained on different data than this MNIST")
    figures = measure(models, data)
    manifest = manifest.model_copy(update={"metrics": metrics(figures)})
    _draw(models, figures, data.mnist)
    hard_sheet(data.mnist, load_classifier(models), models / FIGURES / "hard.png")
    numbers_sheet(models, *validation_set(manifest, data.mnist), models / FIGURES / "numbers.png")
    write_text(models / CARD, card(manifest, figures))
    write_manifest(manifest, models)
    return figures


def metrics(figures: Figures) -> dict[str, float]:
    """The manifest's metrics, without what was not measured."""
    values: dict[str, float | None] = {}
    for name, scores in figures.sets.items():
        values |= {f"{name}_accuracy": scores.accuracy, f"{name}_nll": scores.nll, f"{name}_ece": scores.ece}
        if scores.groups:
            values[f"{name}_groups_accuracy"] = scores.groups.accuracy
        if scores.acceptance:
            values[f"{name}_accepted"] = scores.acceptance.share
            values[f"{name}_accepted_accuracy"] = scores.acceptance.accuracy
    for name, rejected in figures.to_reject.items():
        values |= {f"{name}_accepted": rejected.accepted, f"{name}_auroc": rejected.auroc}
    values["corruptions_accuracy"] = figures.corrupted_accuracy
    return {name: round(value, 6) for name, value in values.items() if value is not None and not math.isnan(value)}


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
