from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.mnist import Mnist
from training.evaluation.scoring import Answers, score
from training.reporting.sheets import mistakes_sheet


@pytest.mark.parametrize("mistakes", [0, 9])
def test_a_sheet_shows_misread_blank_missing_and_invalid_images(mistakes: int, mnist: Mnist, tmp_path: Path) -> None:
    seven = cv2.imencode(".png", 255 - mnist.x_test[mnist.y_test == 7][0])[1].tobytes()
    blank = cv2.imencode(".png", np.full((9, 9), 255, np.uint8))[1].tobytes()
    pictures: list[bytes | str] = [b"not an image", *[seven] * (mistakes - 1)] if mistakes else []
    unread = {mistakes: "no_ink", mistakes + 1: "No such file or directory"} if mistakes else {}
    pictures += [blank, "No such file or directory"] if mistakes else [seven]
    names = [f"{index}.png" for index in range(len(pictures))]
    digits = np.array([1] * mistakes + [7] * (len(pictures) - mistakes))
    answers = Answers(np.eye(10)[digits], None, [None] * len(pictures), unread)
    scores = score(answers, np.full(len(pictures), 7), names)
    mistakes_sheet(scores, dict(zip(names, pictures, strict=True)), "auto", tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
