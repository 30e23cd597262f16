import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from app.imaging.preprocess import VERSION
from app.model.engine import KerasEngine
from app.model.manifest import read_manifest, sha256_of
from training.data.mnist import Mnist, split
from training.data.samples import load
from training.data.sources import SOURCES
from training.data.strokes import Drawn, pack
from training.drawing.pens import NOT_A_DIGIT
from training.drift_reference import make_reference, validation_images
from training.errors import RunError
from training.evaluation.classifier import load_classifier
from training.evaluation.evaluate import read_images
from training.evaluation.scoring import Scores
from training.export import export, fit_temperature, held_out_pictures
from training.preparation import prepare
from training.recipes import RECIPES, Recipe

CONTENT = ["card.md", "digits-int8.tflite", "digits.json", "digits.keras", "digits.tflite", "figures", "history.csv"]


def test_the_exported_engine_gives_the_logits_and_scores_of_the_run(
    exported: tuple[Path, Scores], finished_run: Path, mnist: Mnist
) -> None:
    models, scores = exported
    ink = prepare(mnist.x_test, "auto")
    network = keras.saving.load_model(finished_run / "model.keras", compile=False)
    assert np.allclose(KerasEngine.load(models).logits(ink), network.predict(ink, verbose=0), atol=1e-4)
    assert read_images(load_classifier(models), mnist.x_test, mnist.y_test)[1] == scores
    assert sorted(path.name for path in models.iterdir()) == CONTENT


def test_the_manifest_describes_the_model(
    exported: tuple[Path, Scores], recipe: Recipe, finished_run: Path, mnist: Mnist
) -> None:
    models, scores = exported
    manifest = read_manifest(models)
    assert manifest.version == "1.2.3"
    assert manifest.sha256 == {name: sha256_of(models / name) for name in CONTENT if name.endswith(("keras", "tflite"))}
    assert (manifest.preprocessing, manifest.classes) == (VERSION, tuple(range(10)))
    assert (manifest.architecture, manifest.recipe) == ("tiny", recipe.as_json())
    assert manifest.data == mnist.hashes
    assert manifest.trained == json.loads((finished_run / "environment.json").read_text())
    assert manifest.metrics["test_accuracy"] == round(scores.accuracy, 6)
    assert manifest.metrics["test_nll"] == round(scores.nll, 6)


def test_temperature_and_drift_reference_come_from_the_validation_images(
    exported: tuple[Path, Scores], recipe: Recipe, mnist: Mnist
) -> None:
    manifest, engine = read_manifest(exported[0]), KerasEngine.load(exported[0])
    _, held_out = split(len(mnist.x_train), recipe.validation_share)
    logits = engine.logits(prepare(mnist.x_train[held_out], "auto"))
    expected = fit_temperature(logits, mnist.y_train[held_out])
    assert manifest.temperature == pytest.approx(expected, abs=1e-3)
    reference = make_reference(engine, manifest, validation_images(manifest, mnist), "mnist")
    assert (manifest.reference, reference.pictures) == (reference, 60)


def test_the_card_links_to_small_plots_that_exist(exported: tuple[Path, Scores]) -> None:
    models, scores = exported
    card = (models / "card.md").read_text()
    assert f"{100 * scores.accuracy:.2f} (" in card
    for plot in ("samples", "curves", "confusion", "mistakes", "reliability", "risk"):
        assert f"figures/{plot}.png" in card
        content = (models / "figures" / f"{plot}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 150_000


def test_a_failed_export_leaves_the_old_model_in_place(
    exported: tuple[Path, Scores], finished_run: Path, mnist: Mnist, tmp_path: Path
) -> None:
    models, broken = tmp_path / "models", tmp_path / "run"
    shutil.copytree(exported[0], models)
    shutil.copytree(finished_run, broken)
    (broken / "history.csv").unlink()  # missed only after weights and manifest are written
    with pytest.raises(FileNotFoundError):
        export(broken, models, "2.0.0", mnist)
    assert KerasEngine.load(models).manifest.version == "1.2.3"
    assert sorted(path.name for path in models.iterdir()) == CONTENT


def test_what_cannot_be_exported_is_refused(
    exported: tuple[Path, Scores], finished_run: Path, mnist: Mnist, tmp_path: Path
) -> None:
    unit = tmp_path / "unit"
    shutil.copytree(finished_run, unit)
    (unit / "recipe.json").write_text(json.dumps(RECIPES["yalcin"].as_json()))
    models = tmp_path / "models"
    for run, target, version, data, message in (
        (finished_run, models, "1.0", mnist, r"'1\.0' must have the form"),
        (finished_run, exported[0], "1.2.3", mnist, r"already has version 1\.2\.3"),
        (tmp_path, models, "1.0.0", mnist, "not a finished run"),
        (finished_run, models, "1.0.0", replace(mnist, hashes={}), "different data"),
        (unit, models, "1.0.0", mnist, "'unit' input"),
    ):
        with pytest.raises(RunError, match=message):
            export(run, target, version, data)
    assert not models.exists()


@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_the_temperature_of_scaled_logits_is_recovered(temperature: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (2_000, 10))
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < random.random((len(logits), 1))).sum(axis=1).clip(max=9)
    assert fit_temperature((logits * temperature).astype(np.float32), labels) == pytest.approx(temperature, rel=0.05)


def test_what_training_held_out_of_the_sources_is_drawn_for_the_risk_curve(finished_run: Path, tmp_path: Path) -> None:
    strokes = [np.array([(0.0, 0.0), (9.0, 9.0)]), np.array([(9.0, 0.0), (0.0, 9.0)])]
    np.savez(tmp_path / "unipen_letters.npz", allow_pickle=False, **pack([Drawn("x", strokes)] * 800))
    samples = load(SOURCES["unipen_letters"], tmp_path)
    assert [len(part) for part in samples.split()] == [736, 64]
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    assert held_out_pictures(run, [tmp_path]) is None
    (run / "sources.json").write_text(json.dumps([samples.record.model_dump()]))
    drawn = held_out_pictures(run, [tmp_path])
    assert drawn is not None
    assert (drawn[0].shape, set(drawn[1].tolist())) == ((64, 28, 28, 1), {NOT_A_DIGIT})
    np.savez(tmp_path / "unipen_letters.npz", allow_pickle=False, **pack([Drawn("y", strokes)] * 800))
    for folder in (run, tmp_path):
        with pytest.raises(RunError, match="unipen_letters, which is not here or has changed"):
            held_out_pictures(run, [folder])
