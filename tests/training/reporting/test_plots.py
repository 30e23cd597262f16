from pathlib import Path

import cv2
import numpy as np

from training.data import Mnist
from training.evaluation.measures import ConfidenceBin
from training.evaluation.scoring import Mistake
from training.reporting import plots
from training.run_directory import EpochFigures

HISTORY = [
    EpochFigures(epoch, 1.0, 0.001, 1 / epoch, 1 - 0.1 / epoch, 0.9 / epoch, 1 - 0.09 / epoch) for epoch in (1, 2)
]


def _shape(path: Path) -> tuple[int, ...]:
    picture = cv2.imread(str(path))
    assert picture is not None
    return tuple(picture.shape)


def test_the_same_figures_give_the_same_file(tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        plots.learning_curves(HISTORY, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_a_training_of_one_epoch_has_curves(tmp_path: Path) -> None:
    plots.learning_curves(HISTORY[:1], tmp_path / "curves.png")
    assert _shape(tmp_path / "curves.png")


def test_a_faultless_confusion_matrix_can_be_drawn(tmp_path: Path) -> None:
    plots.confusion((np.eye(10, dtype=int) * 100).tolist(), tmp_path / "confusion.png")
    height, width, _ = _shape(tmp_path / "confusion.png")
    assert height == width


def test_no_mistakes_leave_an_empty_picture(mnist: Mnist, tmp_path: Path) -> None:
    plots.mistakes(mnist.x_test, [], tmp_path / "mistakes.png")
    assert _shape(tmp_path / "mistakes.png")


def test_more_mistakes_take_more_rows(mnist: Mnist, tmp_path: Path) -> None:
    worst = [Mistake(f"test {place}", place, 7, 1, 0.9) for place in range(9)]
    plots.mistakes(mnist.x_test, worst[:8], tmp_path / "one.png")
    plots.mistakes(mnist.x_test, worst, tmp_path / "two.png")
    assert _shape(tmp_path / "two.png")[0] == 2 * _shape(tmp_path / "one.png")[0]


def test_samples_fit_where_a_digit_has_fewer_than_a_row(mnist: Mnist, tmp_path: Path) -> None:
    plots.samples(mnist.x_test, mnist.y_test, tmp_path / "samples.png", per_digit=30)
    assert _shape(tmp_path / "samples.png")


def test_calibration_and_risk_of_two_sets_can_be_drawn(tmp_path: Path) -> None:
    bins = [ConfidenceBin(3, 0.5, 0.4), ConfidenceBin(1000, 0.99, 1.0)]
    plots.reliability({"one": bins, "other": bins[:1]}, tmp_path / "reliability.png")
    plots.risk_coverage({"one": [0.0] * 90 + [0.01] * 10, "other": [0.0] * 100}, tmp_path / "risk.png")
    assert _shape(tmp_path / "reliability.png")
    assert _shape(tmp_path / "risk.png")
