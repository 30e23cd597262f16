"""Fine-tuning: an exported model and your own pictures -> a recipe, and whether the new model is better."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from app.imaging.preprocess import VERSION
from app.model.manifest import WEIGHTS, check, read_manifest
from training.data.arrays import Labels
from training.data.mnist import Mnist
from training.data.own import NO_DIGIT, aside
from training.data.samples import Samples, load
from training.data.sources import OWN, SOURCES
from training.errors import RunError
from training.evaluation.classifier import load_classifier
from training.evaluation.evaluate import read_validation
from training.evaluation.measures import nll
from training.recipes import FINE_TUNING, Recipe
from training.reporting.tables import percent

MAX_LOST = 0.001  # of the accuracy on MNIST's validation images


class Start(BaseModel):
    """The folders of the exported model that is fine-tuned, of own pictures and of own pictures without a digit."""

    models: Path
    images: Path
    outliers: Path | None = None


class Figures(NamedTuple):
    """Of one model. ``right``: how many own pictures kept aside are read and accepted, or no digit and not accepted.

    ``loss``: of the digits among them, in nats. ``accuracy``: on MNIST's validation images.
    """

    right: int
    loss: float
    accuracy: float


def begin(start: Start) -> tuple[Recipe, list[Samples]]:
    """The recipe of a run, and the own pictures to learn from.

    Raises ModelError, or DataError for own pictures that cannot be used.
    """
    manifest = read_manifest(start.models)
    check(manifest, start.models, WEIGHTS, VERSION)
    aside(start.images, start.outliers)
    folders = {"own_digits": start.images, "own_outliers": start.outliers}
    recipe = replace(
        FINE_TUNING,
        architecture=manifest.architecture,
        validation_share=float(str(manifest.recipe["validation_share"])),
        start=_name(start.models),
        sources=tuple(source.name for source in manifest.sources if source.name in SOURCES),
    )
    return recipe, [load(OWN[name], folder) for name, folder in folders.items() if folder]


def compare(name: str, start: Start, models: Path, mnist: Mnist) -> str:
    """The figures of the model ``name`` that a run started from, and of the run's in ``models``.

    Raises RunError if the new one is not better on the own pictures kept aside, or worse on MNIST.
    """
    if _name(start.models) != name:
        raise RunError(f"{start.models} no longer has the model that the run started from: {name}")
    pictures, labels = aside(start.images, start.outliers)
    before, after = (_measure(each, pictures, labels, mnist) for each in (start.models, models))
    figures = (
        f"{len(labels)} own pictures kept aside: right {before.right} → {after.right}, "
        f"loss {before.loss:.4f} → {after.loss:.4f}; "
        f"MNIST validation {percent(before.accuracy)} → {percent(after.accuracy)} %"
    )
    if why := why_not(before, after):
        raise RunError(f"{why} than {name}; {figures}")
    return figures


def why_not(before: Figures, after: Figures) -> str | None:
    """Why a model must not replace the one that it started from; None if it may."""
    if (after.right, -after.loss) <= (before.right, -before.loss):
        return "not better on your own pictures"
    return "worse on MNIST" if round(before.accuracy - after.accuracy, 6) > MAX_LOST else None


def _name(models: Path) -> str:
    """Name, version and hash of an exported model."""
    manifest = read_manifest(models)
    return f"{manifest.name} {manifest.version}, sha256 {manifest.sha256[WEIGHTS]}"


def _measure(models: Path, pictures: list[bytes], labels: Labels, mnist: Mnist) -> Figures:
    classifier = load_classifier(models)
    answers = classifier.read(pictures, "auto")
    assert answers.rejections is not None
    probabilities, is_digit = np.nan_to_num(answers.probabilities), labels != NO_DIGIT
    accepted = np.array([reason is None for reason in answers.rejections])
    right = np.where(is_digit, accepted & (probabilities.argmax(axis=1) == labels), ~accepted)
    loss = nll(probabilities[is_digit], labels[is_digit])
    return Figures(int(right.sum()), loss, read_validation(classifier, mnist)[1].accuracy)
