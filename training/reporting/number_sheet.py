"""The figure of hard numbers, composed from digits that no model was trained on, each with what is read in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from app.imaging.decode import encode_png
from app.imaging.pixels import Grey
from app.model.engine import Int8Engine
from app.model.numbers import Number
from training.data.arrays import Images, Labels
from training.drawing.pens import Alpha
from training.evaluation.numbers import read_picture
from training.reporting import plots

_DIGIT_PX = 84  # MNIST's 28, three times
_WIDTH_PX, _LINE_PX = 380, 110


@dataclass(frozen=True)
class _Hard:
    """``gap``: pixels between the ink of two digits. ``slant``: degrees that the line falls."""

    title: str
    lines: Sequence[str]
    gap: int = 14
    slant: float = 0
    in_boxes: bool = False
    light: bool = False


_NUMBERS = (
    _Hard("touching", ["40962"], gap=-5),
    _Hard("in boxes", ["31847"], gap=22, in_boxes=True),
    _Hard("two lines", ["2715", "8063"]),
    _Hard("light on dark", ["59013"], light=True),
    _Hard("falling", ["16384"], slant=8),
    _Hard("with a point", ["27.5"]),
)


def numbers_sheet(models: Path, images: Images, labels: Labels, path: Path) -> None:
    """Draw the numbers with a box around each digit that the 8-bit engine reads."""
    engine = Int8Engine.load(models)
    random = np.random.default_rng(4)
    shown = []
    for hard in _NUMBERS:
        picture = _composed(hard, images, labels, random)
        numbers = read_picture(engine, encode_png(picture))
        read = ", ".join(map(_answer, numbers)) or "nothing read"
        boxes = [digit.box for number in numbers for digit in number.digits]
        shown.append(plots.Framed(picture, boxes, f"{hard.title}: {' / '.join(hard.lines)}\n{read}"))
    plots.framed(shown, path)


def _answer(number: Number) -> str:
    written = list(number.text)
    for mark in reversed(number.marks):
        written.insert(mark.after, mark.mark)
    doubt = "" if number.rejection is None else " not accepted"
    return f"{''.join(written)} {100 * number.probability:.1f} %{doubt}"


def _composed(hard: _Hard, images: Images, labels: Labels, random: np.random.Generator) -> Grey:
    height = _LINE_PX * len(hard.lines) + 50
    drawing = np.zeros((height, _WIDTH_PX), np.float32)
    printed = np.zeros_like(drawing)
    for row, text in enumerate(hard.lines):
        left = 30
        for char in text:
            top = 35 + _LINE_PX * row + int(random.integers(-4, 5))
            if char == ".":
                cv2.circle(drawing, (left + 4, top + 60), 5, 1.0, cv2.FILLED, cv2.LINE_AA)
                left += 8 + hard.gap
                continue
            digit = _digit(int(char), images, labels, random)
            rows, columns = digit.shape
            place = drawing[top : top + rows, left : left + columns]
            np.maximum(place, digit, out=place)
            if hard.in_boxes:
                x, y = left - hard.gap // 2, 25 + _LINE_PX * row
                cv2.rectangle(printed, (x, y), (x + columns + hard.gap, y + 88), 0.6, 2)
            left += columns + hard.gap
    drawing = np.maximum(drawing, printed)
    turn = cv2.getRotationMatrix2D((_WIDTH_PX / 2, height / 2), -hard.slant, 1)
    ink = np.clip(cv2.warpAffine(drawing, turn, (_WIDTH_PX, height)), 0, 1)
    paper, pen = (40, 225) if hard.light else (228, 50)
    return np.rint(paper + (pen - paper) * ink).astype(np.uint8)


def _digit(digit: int, images: Images, labels: Labels, random: np.random.Generator) -> Alpha:
    """The ink of one of the images of a digit, enlarged."""
    image = images[random.choice(np.flatnonzero(labels == digit))].astype(np.float32) / 255
    large = cv2.resize(image, (_DIGIT_PX, _DIGIT_PX), interpolation=cv2.INTER_CUBIC)
    x, y, width, height = cv2.boundingRect((large > 0.1).astype(np.uint8))
    ink: Alpha = np.clip(large[y : y + height, x : x + width], 0, 1)
    return ink
