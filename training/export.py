"""Export: a finished run -> models/: calibrated weights, manifest, history and the report on MNIST.

Everything is written beside the target and moved into it at the end, so a failed export leaves the old model in place.
"""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console

from app.imaging.preprocess import VERSION, Ink
from app.model.decision import DIGITS, outlier_scores, probabilities
from app.model.engine import Int8Engine, KerasEngine, LiteRTEngine
from app.model.manifest import (
    INT8_WEIGHTS,
    LITE_WEIGHTS,
    MANIFEST,
    WEIGHTS,
    Manifest,
    Thresholds,
    read_manifest,
    sha256_of,
    write_manifest,
)
from training.architectures import multiply_adds
from training.data.arrays import Labels
from training.data.mnist import Mnist, split
from training.data.samples import find, load
from training.data.sources import SOURCES
from training.drawing.augmentation import draw_each
from training.drift_reference import make_reference, validation_images
from training.errors import RunError
from training.evaluation.evaluate import EvaluationData
from training.evaluation.measures import nll
from training.evaluation.rejection import ACCEPTED, LOW_CONFIDENCE, not_a_digit_threshold
from training.evaluation.risk import fit_risk
from training.evaluation.scoring import Scores
from training.fine_tuning import Start, compare
from training.preparation import prepare
from training.recipes import Recipe, read_recipe
from training.reporting.report import FIGURES, report
from training.run_directory import DATA, HISTORY, MODEL, RECIPE, START, read_environment, read_sources, save_model

Others = tuple[Ink, Labels] | None  # more validation pictures, for the risk curve; label 10: no digit

SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")

HELD_OUT = 1000  # pictures of each source, at most

MAX_LITERT_ERROR = 1e-4  # largest difference in a probability between Keras and LiteRT
MAX_INT8_CHANGED = 0.001  # largest share of validation images that the 8-bit weights may classify differently

# Temperatures between exp(-3) and exp(3) are searched, until the interval of their logarithm is this narrow.
LOG_TEMPERATURE_RANGE = (-3.0, 3.0)
LOG_TEMPERATURE_PRECISION = 1e-4


def export(run_directory: Path, models: Path, version: str, mnist: Mnist, others: Others = None) -> Scores:
    """Write the run's model to ``models`` and return its scores on the test set, measured with the served engine.

    Raises RunError if the run is unfinished, was trained on other data or with a preprocessing other than ``auto``, or
    if ``models`` already has this version. Fine-tuned: also if it is not better than the model that it started from.
    """
    if not SEMVER.fullmatch(version):
        raise RunError(f"version {version!r} must have the form X.Y.Z")
    if (models / MANIFEST).exists() and read_manifest(models).version == version:
        raise RunError(f"{models} already has version {version}: choose another, versions must be unique")
    recipe = _finished_recipe(run_directory, mnist)
    models.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix="part-", dir=models))
    try:
        scores = _write(run_directory, staging, recipe, version, mnist, others)
        _move(staging, models)
    finally:
        shutil.rmtree(staging)
    return scores


def held_out_pictures(run_directory: Path, folders: Sequence[Path]) -> Others:
    """What the run held out of its sources, drawn once; None if it learnt from MNIST alone. ``folders``: of sources.

    Raises RunError if a source is not there or not the one that the run learnt from.
    """
    drawn = []
    for record in read_sources(run_directory):
        if record.name in SOURCES:
            folder = find(SOURCES[record.name], folders)
            samples = load(SOURCES[record.name], folder) if folder else None
            if samples is None or samples.record != record:
                raise RunError(f"{run_directory} learnt from {record.name}, which is not here or has changed")
            held_out = samples.split()[1]
            drawn.append(draw_each(held_out, range(min(len(held_out), HELD_OUT)), seed=1))
    if not drawn:
        return None
    inks, labels = zip(*drawn, strict=True)
    return np.concatenate(inks), np.concatenate(labels)


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The softmax temperature with the lowest NLL. ``logits``: (n, 10). Source: Guo et al. 2017, On Calibration."""
    return math.exp(_golden_section(lambda logarithm: nll(probabilities(logits, math.exp(logarithm)), labels)))


def _finished_recipe(run_directory: Path, mnist: Mnist) -> Recipe:
    if not (run_directory / MODEL).is_file():
        raise RunError(f"{run_directory} is not a finished run: it has no {MODEL}")
    recipe = read_recipe(run_directory / RECIPE)
    if recipe.preprocessing != "auto":
        raise RunError(f"{run_directory} was trained on {recipe.preprocessing!r} input; the service needs 'auto'")
    if json.loads((run_directory / DATA).read_bytes()) != mnist.hashes:
        raise RunError(f"{run_directory} was trained on different data: see its {DATA}")
    return recipe


def _write(run_directory: Path, target: Path, recipe: Recipe, version: str, mnist: Mnist, others: Others) -> Scores:
    network = keras.saving.load_model(run_directory / MODEL, compile=False, safe_mode=True)
    save_model(target / WEIGHTS, network)
    network.export(target / LITE_WEIGHTS, format="litert", verbose=False)
    network.export(target / INT8_WEIGHTS, format="litert", verbose=False, optimizations=[tf.lite.Optimize.DEFAULT])
    manifest = Manifest(
        name="digits",
        version=version,
        sha256={file: sha256_of(target / file) for file in (WEIGHTS, LITE_WEIGHTS, INT8_WEIGHTS)},
        preprocessing=VERSION,
        classes=tuple(range(DIGITS)),
        architecture=recipe.architecture,
        parameters=network.count_params(),
        multiply_adds=multiply_adds(network),
        recipe=recipe.as_json(),
        data=mnist.hashes,
        sources=read_sources(run_directory),
        temperature=1.0,
        thresholds=Thresholds(not_a_digit=0.0, low_confidence=LOW_CONFIDENCE),
        metrics={},
        trained=read_environment(run_directory),
    )
    write_manifest(manifest, target)  # the engines need one to load

    _, held_out = split(len(mnist.x_train), recipe.validation_share)
    ink = prepare(mnist.x_train[held_out], "auto")
    engine = KerasEngine.load(target)
    logits = engine.logits(ink)
    temperature = round(fit_temperature(logits, mnist.y_train[held_out]), 4)
    _check_lite_weights(target, ink, logits, temperature)
    not_a_digit = not_a_digit_threshold(outlier_scores(logits), ACCEPTED)
    thresholds = Thresholds(not_a_digit=not_a_digit, low_confidence=LOW_CONFIDENCE)
    logits = np.concatenate([logits, engine.logits(others[0])]) if others else logits
    labels = np.concatenate([mnist.y_train[held_out], others[1]]) if others else mnist.y_train[held_out]
    risk = fit_risk(logits, labels, temperature)
    manifest = manifest.model_copy(update={"temperature": temperature, "thresholds": thresholds, "risk": risk})
    reference = make_reference(engine, manifest, validation_images(manifest, mnist), "mnist")
    write_manifest(manifest.model_copy(update={"reference": reference}), target)

    shutil.copyfile(run_directory / HISTORY, target / HISTORY)
    if recipe.start:
        start = Start.model_validate_json((run_directory / START).read_bytes())
        Console().print(compare(recipe.start, start, target, mnist), highlight=False, soft_wrap=True)
    # report() loads the model from the written files, so it measures what will be served
    return report(target, EvaluationData(mnist)).test


def _check_lite_weights(
    target: Path, ink: NDArray[np.float32], logits: NDArray[np.float32], temperature: float
) -> None:
    """Raise RunError if the LiteRT weights answer differently from Keras, whose ``logits`` are given."""
    lite = probabilities(LiteRTEngine.load(target).logits(ink), temperature)
    error = np.abs(lite - probabilities(logits, temperature)).max()
    if error > MAX_LITERT_ERROR:
        raise RunError(f"export failed: a probability differs by {error:.1e} between {LITE_WEIGHTS} and {WEIGHTS}")
    int8_digits = Int8Engine.load(target).logits(ink)[:, :DIGITS].argmax(1)
    changed = np.mean(int8_digits != logits[:, :DIGITS].argmax(1))
    if changed > MAX_INT8_CHANGED:
        raise RunError(f"{INT8_WEIGHTS} classifies {changed:.2%} of the validation images differently from {WEIGHTS}")


def _move(source: Path, target: Path) -> None:
    (target / FIGURES).mkdir(exist_ok=True)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    # Move the manifest last: until then the old manifest does not match the new weights, and loading is refused.
    for file in sorted(files, key=lambda file: file.name == MANIFEST):
        (source / file).replace(target / file)


def _golden_section(loss: Callable[[float], float]) -> float:
    """The argument in `LOG_TEMPERATURE_RANGE` that minimises ``loss``, which must have one minimum."""
    low, high = LOG_TEMPERATURE_RANGE
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > LOG_TEMPERATURE_PRECISION:
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return (low + high) / 2
