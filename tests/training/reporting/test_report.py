"""The report of a small real model, on folders of MNIST digits."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from app.model.manifest import read_manifest
from training.data.folders import LabelledFile, NumberFile
from training.data.mnist import Mnist
from training.drawing.corruptions import CORRUPTIONS
from training.errors import RunError
from training.evaluation.evaluate import EvaluationData, Figures
from training.evaluation.scoring import Scores
from training.reporting.report import report


@pytest.fixture(scope="module")
def sources(mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> EvaluationData:
    """Twenty digits by two writers, a texture, and two adjacent digits."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for index in range(20):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), cv2.resize(255 - mnist.x_test[index], (90, 90)))
        tag, group = ("photo", "anna") if index < 5 else ("paint", "bert")
        files.append(LabelledFile(path, int(mnist.y_test[index]), tag, group))
    cv2.imwrite(str(folder / "texture.png"), np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8))
    cv2.imwrite(str(folder / "two.png"), 255 - np.hstack(list(mnist.x_test[:2])))
    np.savez(folder / "semeion.npz", x=255 - mnist.x_test[:30, 6:22, 6:22], y=mnist.y_test[:30])
    np.savez(folder / "lines.npz", x=np.full((3, 20, 20), 255, np.uint8), label=["line"] * 3)
    return EvaluationData(
        mnist,
        files=files,
        outliers=[folder / "texture.png"],
        several=[folder / "two.png"],
        sets=[folder / "semeion.npz", folder / "lines.npz"],
        numbers=[NumberFile(folder / "two.png", "72", ("handwritten",))],
        corrupted=5,
    )


@pytest.fixture(scope="module")
def reported(
    exported: tuple[Path, Scores], sources: EvaluationData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Figures]:
    models = tmp_path_factory.mktemp("reported") / "models"
    shutil.copytree(exported[0], models)
    return models, report(models, sources)


def test_the_card_says_what_was_not_measured(exported: tuple[Path, Scores]) -> None:
    card = (exported[0] / "card.md").read_text()
    not_measured = card.partition("Not measured, because no data was given: ")[2].partition(".\n")[0]
    for missing in ("by other people", "images without a digit", "several digits", "MNIST-C", "numbers"):
        assert missing in not_measured
    assert "### Rejection" not in card
    assert "### Corruptions" not in card


def test_the_card_has_the_scores_of_all_data_with_the_number_of_images(reported: tuple[Path, Figures]) -> None:
    models, figures = reported
    card = (models / "card.md").read_text()
    assert "Not measured" not in card
    assert figures.images is not None
    for text in (
        f"| drawings and photos by other people | 20 | {100 * figures.images.accuracy:.2f} (",
        "| photo | 5 |",
        "Mean over 2 writers and cameras",
        "| semeion | 30 |",
        "| lines | 3 |",
        "| images without a digit | 1 |",
        "| images of several digits | 1 |",
        "| handwritten | 1 |",
        "The first 5 test images",
        *(f"| {name.replace('_', ' ')} |" for name in CORRUPTIONS),
    ):
        assert text in card


def test_a_report_changes_only_card_plots_and_metrics(
    exported: tuple[Path, Scores], reported: tuple[Path, Figures]
) -> None:
    before, after = read_manifest(exported[0]), read_manifest(reported[0])
    assert after.model_copy(update={"metrics": {}}) == before.model_copy(update={"metrics": {}})
    names = [sorted(path.name for path in folder.rglob("*")) for folder in (exported[0], reported[0])]
    assert names[0] == names[1]
    assert {name.partition("_")[0] for name in before.metrics} == {"test", "validation"}
    sets = {"test", "validation", "images", "semeion", "lines", "outliers", "several", "corruptions"}
    assert {name.partition("_")[0] for name in after.metrics} == sets
    assert reported[1].images is not None
    assert after.metrics["images_accuracy"] == round(reported[1].images.accuracy, 6)


def test_the_same_report_gives_the_same_files(reported: tuple[Path, Figures], sources: EvaluationData) -> None:
    models, figures = reported
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    assert report(models, sources) == figures
    assert {path: path.read_bytes() for path in models.rglob("*") if path.is_file()} == before


def test_a_report_on_other_data_than_the_training_data_is_refused(exported: tuple[Path, Scores], mnist: Mnist) -> None:
    with pytest.raises(RunError, match="different data"):
        report(exported[0], EvaluationData(replace(mnist, hashes={})))
