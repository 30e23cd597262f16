"""The report of a real model, small, on folders drawn from MNIST's digits."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.model.manifest import read_manifest
from training.data import LabelledFile, Mnist
from training.drawing.corruptions import CORRUPTIONS
from training.errors import RunError
from training.evaluation.figures import Figures
from training.export import export
from training.reporting.report import Sources, report


@pytest.fixture(scope="module")
def models(finished_run: Path, mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    export(finished_run, models, "1.0.0", mnist)
    return models


@pytest.fixture(scope="module")
def sources(mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Twenty digits of two hands, a texture, and two digits side by side."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for place in range(20):
        path = folder / f"{place}.png"
        cv2.imwrite(str(path), cv2.resize(255 - mnist.x_test[place], (90, 90)))
        tag, group = ("photo", "anna") if place < 5 else ("paint", "bert")
        files.append(LabelledFile(path, int(mnist.y_test[place]), tag, group))
    cv2.imwrite(str(folder / "texture.png"), np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8))
    cv2.imwrite(str(folder / "two.png"), 255 - np.hstack(list(mnist.x_test[:2])))
    return Sources(
        mnist,
        files=files,
        outliers=[folder / "texture.png"],
        several=[folder / "two.png"],
        semeion=(mnist.x_test[:30, 6:22, 6:22], mnist.y_test[:30]),
        corrupted=10,
    )


@pytest.fixture(scope="module")
def reported(models: Path, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Figures]:
    copy = tmp_path_factory.mktemp("reported") / "models"
    shutil.copytree(models, copy)
    return copy, report(copy, sources)


def test_what_was_not_given_is_said_to_be_not_measured(models: Path) -> None:
    card = (models / "card.md").read_text()
    for missing in ("images of other people", "Semeion", "pictures of no digit", "several digits", "MNIST-C"):
        assert missing in card.partition("Not measured, because no data was given: ")[2].partition(".\n")[0]
    assert "What should be rejected" not in card
    assert "Corrupted" not in card


def test_what_was_given_is_in_the_card_with_its_number_of_images(reported: tuple[Path, Figures]) -> None:
    models, figures = reported
    card = (models / "card.md").read_text()
    assert "Not measured" not in card
    assert figures.images is not None
    assert f"| images of other people | 20 | {100 * figures.images.accuracy:.2f} (" in card
    assert "| photo | 5 |" in card
    assert "over 2 (bootstrap)" in card
    assert "| Semeion (Italian writers) | 30 |" in card
    assert "| pictures of no digit | 1 |" in card
    assert "the first 10 each" in card
    assert all(f"| {name.replace('_', ' ')} |" in card for name in CORRUPTIONS)


def test_the_manifest_has_the_figures_of_what_was_measured(models: Path, reported: tuple[Path, Figures]) -> None:
    alone, all_ = read_manifest(models).metrics, read_manifest(reported[0]).metrics
    assert {name.partition("_")[0] for name in alone} == {"test", "validation"}
    assert {name.partition("_")[0] for name in all_} == {
        "test",
        "validation",
        "images",
        "semeion",
        "outliers",
        "several",
        "corruptions",
    }
    figures = reported[1]
    assert figures.images is not None
    assert all_["images_accuracy"] == round(figures.images.accuracy, 6)


def test_nothing_but_the_card_the_figures_and_the_metrics_changes(models: Path, reported: tuple[Path, Figures]) -> None:
    before, after = read_manifest(models), read_manifest(reported[0])
    assert after.model_copy(update={"metrics": {}}) == before.model_copy(update={"metrics": {}})
    names = [sorted(path.name for path in folder.rglob("*")) for folder in (models, reported[0])]
    assert names[0] == names[1]


def test_a_report_is_the_same_each_time(reported: tuple[Path, Figures], sources: Sources) -> None:
    models, figures = reported
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    assert report(models, sources) == figures
    assert {path: path.read_bytes() for path in models.rglob("*") if path.is_file()} == before


def test_a_report_on_other_data_than_was_learnt_from_is_refused(models: Path, mnist: Mnist) -> None:
    other = Mnist(mnist.x_train, mnist.y_train, mnist.x_test, mnist.y_test, hashes={})
    with pytest.raises(RunError, match="other data"):
        report(models, Sources(other))
