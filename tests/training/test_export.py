import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from app.imaging.preprocess import VERSION
from app.model.engine import KerasEngine
from app.model.manifest import read_manifest, sha256_of
from training.data import Mnist, split
from training.drift_reference import make_reference, validation_pictures
from training.errors import RunError
from training.evaluation.classifier import load_classifier
from training.evaluation.evaluate import read_mnist
from training.evaluation.measures import nll
from training.evaluation.scoring import Scores
from training.export import export, fit_temperature
from training.preparation import prepare
from training.recipes import RECIPES, Recipe

CONTENT = ["card.md", "digits-int8.tflite", "digits.json", "digits.keras", "digits.tflite", "figures", "history.csv"]


@pytest.fixture(scope="module")
def exported(finished_run: Path, mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores]:
    models = tmp_path_factory.mktemp("models")
    return models, export(finished_run, models, "1.2.3", mnist)


def test_the_engine_loads_what_was_exported_and_answers_as_the_run(
    exported: tuple[Path, Scores], finished_run: Path, mnist: Mnist
) -> None:
    ink = prepare(mnist.x_test, "auto")
    network = keras.saving.load_model(finished_run / "model.keras", compile=False)
    logits = KerasEngine.load(exported[0]).logits(ink)
    assert np.allclose(logits, network.predict(ink, verbose=0), atol=1e-4)


def test_the_manifest_says_what_the_model_is(
    exported: tuple[Path, Scores], recipe: Recipe, finished_run: Path, mnist: Mnist
) -> None:
    manifest = read_manifest(exported[0])
    assert manifest.version == "1.2.3"
    assert manifest.sha256 == {
        name: sha256_of(exported[0] / name) for name in CONTENT if name.endswith(("keras", "tflite"))
    }
    assert manifest.preprocessing == VERSION
    assert manifest.classes == tuple(range(10))
    assert (manifest.architecture, manifest.recipe) == ("compact", recipe.as_json())
    assert manifest.data == mnist.hashes
    assert manifest.trained == json.loads((finished_run / "environment.json").read_text())


def test_the_figures_are_those_of_the_served_model(exported: tuple[Path, Scores], mnist: Mnist) -> None:
    models, scores = exported
    assert read_mnist(load_classifier(models), mnist)[1] == scores
    metrics = read_manifest(models).metrics
    assert metrics["test_accuracy"] == round(scores.accuracy, 6)
    assert metrics["test_nll"] == round(scores.nll, 6)


def test_the_temperature_is_fitted_on_the_images_held_out(
    exported: tuple[Path, Scores], recipe: Recipe, mnist: Mnist
) -> None:
    _, held_out = split(len(mnist.x_train), recipe.validation_share)
    logits = KerasEngine.load(exported[0]).logits(prepare(mnist.x_train[held_out], "auto"))
    expected = fit_temperature(logits, mnist.y_train[held_out])
    assert read_manifest(exported[0]).temperature == pytest.approx(expected, abs=1e-3)


def test_the_reference_of_drift_is_made_of_the_images_held_out(exported: tuple[Path, Scores], mnist: Mnist) -> None:
    manifest = read_manifest(exported[0])
    expected = make_reference(KerasEngine.load(exported[0]), manifest, validation_pictures(manifest, mnist), "mnist")
    assert expected.pictures == 60
    assert manifest.reference == expected


def test_the_card_shows_figures_and_pictures_that_are_there(exported: tuple[Path, Scores]) -> None:
    models, scores = exported
    card = (models / "card.md").read_text()
    assert f"{100 * scores.accuracy:.2f} (" in card
    for picture in ("samples", "curves", "confusion", "mistakes", "reliability", "risk"):
        assert f"figures/{picture}.png" in card
        content = (models / "figures" / f"{picture}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 150_000


def test_nothing_but_the_model_is_left_in_the_directory(exported: tuple[Path, Scores]) -> None:
    assert sorted(path.name for path in exported[0].iterdir()) == CONTENT


def test_an_export_that_fails_leaves_the_old_model_alone(
    exported: tuple[Path, Scores], finished_run: Path, mnist: Mnist, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(exported[0], models)
    broken = tmp_path / "run"
    shutil.copytree(finished_run, broken)
    (broken / "history.csv").unlink()  # found missing when all but the report is written
    with pytest.raises(FileNotFoundError):
        export(broken, models, "2.0.0", mnist)
    assert read_manifest(models).version == "1.2.3"
    assert KerasEngine.load(models).manifest.version == "1.2.3"
    assert sorted(path.name for path in models.iterdir()) == CONTENT


def test_a_version_that_is_no_semver_is_refused(finished_run: Path, mnist: Mnist, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"'1\.0' is not of the form"):
        export(finished_run, tmp_path, "1.0", mnist)


def test_an_unfinished_run_is_refused(mnist: Mnist, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run"):
        export(tmp_path, tmp_path / "models", "1.0.0", mnist)


def test_other_data_than_the_run_learnt_from_is_refused(finished_run: Path, mnist: Mnist, tmp_path: Path) -> None:
    other = Mnist(mnist.x_train, mnist.y_train, mnist.x_test, mnist.y_test, hashes={})
    with pytest.raises(RunError, match="other data"):
        export(finished_run, tmp_path, "1.0.0", other)


def test_a_run_on_the_input_of_a_tutorial_is_refused(finished_run: Path, mnist: Mnist, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "recipe.json").write_text(json.dumps(RECIPES["yalcin"].as_json()))
    with pytest.raises(RunError, match="'unit' input"):
        export(run, tmp_path / "models", "1.0.0", mnist)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_logits_were_scaled_by_is_found(temperature: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (5_000, 10))
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < random.random((len(logits), 1))).sum(axis=1).clip(max=9)
    assert fit_temperature((logits * temperature).astype(np.float32), labels) == pytest.approx(temperature, rel=0.05)
    assert nll(probabilities, labels) < 2.3


def test_two_models_do_not_share_a_version(exported: tuple[Path, Scores], finished_run: Path, mnist: Mnist) -> None:
    before = (exported[0] / "digits.json").read_bytes()
    with pytest.raises(RunError, match=r"1\.2\.3"):
        export(finished_run, exported[0], "1.2.3", mnist)
    assert (exported[0] / "digits.json").read_bytes() == before
