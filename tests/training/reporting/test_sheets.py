from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data import Mnist
from training.evaluation.answers import Answers
from training.evaluation.scoring import score
from training.reporting.sheets import drawn_sheets, mistakes_sheet


def test_every_sheet_is_one_small_picture_and_the_same_each_time(mnist: Mnist, tmp_path: Path) -> None:
    first, second = drawn_sheets(mnist, tmp_path / "first"), drawn_sheets(mnist, tmp_path / "second")
    assert [path.name for path in first] == [
        "strokes.png",
        "distorted.png",
        "photographs.png",
        "outliers.png",
        "seen.png",
        "corruptions.png",
    ]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(first, second, strict=True))
    assert max(path.stat().st_size for path in first) < 150_000


@pytest.mark.parametrize("mistakes", [0, 1, 9])
def test_mistakes_are_shown_with_what_was_seen_of_them(mistakes: int, mnist: Mnist, tmp_path: Path) -> None:
    count = mistakes + 3
    digits = np.array([1] * mistakes + [7] * 3)
    unread = {count - 2: "no_ink", count - 1: "No such file or directory"} if mistakes else {}
    scores = score(
        Answers(np.eye(10)[digits], None, [None] * count, unread),
        np.full(count, 7),
        [f"{at}.png" for at in range(count)],
    )
    seven = cv2.imencode(".png", 255 - mnist.x_test[mnist.y_test == 7][0])[1].tobytes()
    blank = cv2.imencode(".png", np.full((9, 9), 255, np.uint8))[1].tobytes()
    pictures: dict[str, bytes | str] = dict.fromkeys((f"{at}.png" for at in range(count)), seven)
    pictures[f"{count - 2}.png"] = blank
    pictures[f"{count - 1}.png"] = "No such file or directory"
    pictures["0.png"] = b"no image" if mistakes == 9 else seven
    mistakes_sheet(scores, pictures, "auto", tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
