from pathlib import Path

import cv2
import numpy as np

from training.data.mnist import Mnist
from training.evaluation.measures import ConfidenceBin
from training.reporting import plots
from training.run_directory import EpochFigures


def test_extreme_scores_can_be_drawn(mnist: Mnist, tmp_path: Path) -> None:
    plots.learning_curves([EpochFigures(1, 1.0, 0.001, 1, 0.9, 0.9, 0.91)], tmp_path / "one-epoch.png")
    plots.confusion((np.eye(10, dtype=int) * 100).tolist(), tmp_path / "no-mistakes.png")
    plots.mistakes(mnist.x_test, [], tmp_path / "empty.png")
    plots.samples(mnist.x_test, mnist.y_test, tmp_path / "short-rows.png", per_digit=30)
    bins = [ConfidenceBin(3, 0.5, 0.4), ConfidenceBin(1000, 0.99, 1.0)]
    plots.reliability({"one": bins, "other": bins[:1]}, tmp_path / "reliability.png")
    plots.risk_coverage({"one": [0.0] * 90 + [0.01] * 10, "other": [0.0] * 100}, tmp_path / "risk.png")
    assert len(list(tmp_path.iterdir())) == 6
    assert all(cv2.imread(str(path)) is not None for path in tmp_path.iterdir())
