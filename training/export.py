"""Export: a finished run -> models/: weights, manifest and history, calibrated; the report of it on MNIST alone.

Everything is made beside the target and moved into it at the end: an export that fails leaves the old model alone.
"""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.imaging.preprocess import VERSION
from app.model.decision import outlier_scores, probabilities
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
from training.architectures import CLASSES, multiply_adds
from training.data import Mnist, split
from training.drift_reference import make_reference, validation_pictures
from training.errors import RunError
from training.evaluation.measures import nll
from training.evaluation.scoring import Scores
from training.evaluation.thresholds import not_a_digit_threshold
from training.preparation import prepare
from training.recipes import Recipe, read_recipe
from training.reporting.report import FIGURES, Sources, report
from training.run_directory import DATA, HISTORY, MODEL, RECIPE, read_environment, save_model

SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")

MAX_APART = 1e-4  # the largest difference of a probability between Keras and LiteRT
MAX_DIFFER = 0.001  # the share of validation images that 8-bit weights may read otherwise

ACCEPTED = 0.995  # the share of validation digits not rejected as none; of real drawings it is 98.9 %
LOW_CONFIDENCE = 0.8  # what is accepted of real drawings is right in 99.5 % or more

# Temperatures tried lie in exp(-3)..exp(3); the search stops when the interval is this narrow.
LOG_TEMPERATURE_RANGE = (-3.0, 3.0)
LOG_TEMPERATURE_PRECISION = 1e-4


def export(run: Path, models: Path, version: str, mnist: Mnist) -> Scores:
    """Write the model of ``run`` into ``models``; its scores on the test set, measured through the served engine.

    Raises RunError when the run is not finished, learnt from other data, or with another preprocessing than ``auto``,
    and when ``models`` holds another model of that version.
    """
    if not SEMVER.fullmatch(version):
        raise RunError(f"version {version!r} is not of the form X.Y.Z")
    if (models / MANIFEST).exists() and read_manifest(models).version == version:
        raise RunError(f"{models} holds version {version} already: give another, for two models must not share one")
    recipe = _finished(run, mnist)
    models.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="part-", dir=models))
    try:
        scores = _write(run, part, recipe, version, mnist)
        _move(part, models)
    finally:
        shutil.rmtree(part)
    return scores


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature at which the labels are likeliest. Source: Guo et al. 2017, On Calibration.

    ``logits``: (n, 10). The loss is convex in 1 / temperature, so that a golden-section search finds its minimum.
    """
    return math.exp(_golden_section(lambda logarithm: nll(probabilities(logits, math.exp(logarithm)), labels)))


def _finished(run: Path, mnist: Mnist) -> Recipe:
    if not (run / MODEL).is_file():
        raise RunError(f"{run} holds no finished run: there is no {MODEL}")
    recipe = read_recipe(run / RECIPE)
    if recipe.preprocessing != "auto":
        raise RunError(f"{run} learnt from {recipe.preprocessing!r} input, and the service gives its model 'auto'")
    if json.loads((run / DATA).read_bytes()) != mnist.hashes:
        raise RunError(f"{run} learnt from other data: see its {DATA}")
    return recipe


def _write(run: Path, target: Path, recipe: Recipe, version: str, mnist: Mnist) -> Scores:
    network = keras.saving.load_model(run / MODEL, compile=False, safe_mode=True)
    save_model(target / WEIGHTS, network)
    network.export(target / LITE_WEIGHTS, format="litert", verbose=False)
    network.export(target / INT8_WEIGHTS, format="litert", verbose=False, optimizations=[tf.lite.Optimize.DEFAULT])
    manifest = Manifest(
        name="digits",
        version=version,
        sha256={file: sha256_of(target / file) for file in (WEIGHTS, LITE_WEIGHTS, INT8_WEIGHTS)},
        preprocessing=VERSION,
        classes=tuple(range(CLASSES)),
        architecture=recipe.architecture,
        parameters=network.count_params(),
        multiply_adds=multiply_adds(network),
        recipe=recipe.as_json(),
        data=mnist.hashes,
        temperature=1.0,
        thresholds=Thresholds(not_a_digit=0.0, low_confidence=LOW_CONFIDENCE),
        metrics={},
        trained=read_environment(run),
    )
    write_manifest(manifest, target)

    _, held_out = split(len(mnist.x_train), recipe.validation_share)
    labels = mnist.y_train[held_out]
    ink = prepare(mnist.x_train[held_out], "auto")
    engine = KerasEngine.load(target)
    logits = engine.logits(ink)
    temperature = round(fit_temperature(logits, labels), 4)
    not_a_digit = not_a_digit_threshold(outlier_scores(logits), ACCEPTED)
    thresholds = Thresholds(not_a_digit=not_a_digit, low_confidence=LOW_CONFIDENCE)
    apart = np.abs(
        probabilities(LiteRTEngine.load(target).logits(ink), temperature) - probabilities(logits, temperature)
    )
    if apart.max() > MAX_APART:
        raise RunError(
            f"{LITE_WEIGHTS} and {WEIGHTS} differ by {apart.max():.1e} in a probability: a fault of the export"
        )
    differ = np.mean(Int8Engine.load(target).logits(ink)[:, :CLASSES].argmax(1) != logits[:, :CLASSES].argmax(1))
    if differ > MAX_DIFFER:
        raise RunError(f"{INT8_WEIGHTS} reads {differ:.2%} of the validation images otherwise than {WEIGHTS}")
    manifest = manifest.model_copy(update={"temperature": temperature, "thresholds": thresholds})
    reference = make_reference(engine, manifest, validation_pictures(manifest, mnist), "mnist")
    manifest = manifest.model_copy(update={"reference": reference})
    write_manifest(manifest, target)

    shutil.copyfile(run / HISTORY, target / HISTORY)
    # Loaded again, from what was written: the figures are those of the model that is served.
    return report(target, Sources(mnist)).test


def _move(source: Path, target: Path) -> None:
    (target / FIGURES).mkdir(exist_ok=True)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    # The manifest last: until then the old one refuses the new weights.
    for file in sorted(files, key=lambda file: file.name == MANIFEST):
        (source / file).replace(target / file)


def _golden_section(loss: Callable[[float], float]) -> float:
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
