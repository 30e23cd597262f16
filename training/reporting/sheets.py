"""Contact sheets of mistakes, training pictures, distortions, corruptions, and model input."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from app.errors import DigitsError, NoInk
from app.imaging.decode import decode, encode_png
from app.imaging.formats import inspect
from app.imaging.pixels import Grey
from app.imaging.preprocess import SIDE_PX, Mode, find_ink
from training.data.mnist import Mnist
from training.data.samples import Samples
from training.drawing.augmentation import augment
from training.drawing.corruptions import CORRUPTIONS
from training.drawing.distortions import change_pen, outline, photograph, squared, strike, warp
from training.drawing.hands import draw_kind, kinds_with
from training.drawing.pens import Alpha
from training.evaluation.scoring import Predictor, Scores
from training.reporting.plots import Pair, pairs

COLUMNS = 16
TILE_PX = 44
SHOWN = 96  # mistakes per sheet: the most confident, then the unread
PICTURE_PX = 160

_WHITE = 255
# applied after warping, by column of the sheet
_AFTER_WARP: dict[int, Callable[[Alpha, np.random.Generator], Alpha]] = {
    **dict.fromkeys((4, 5, 6, 7), change_pen),
    **dict.fromkeys((8, 9), outline),
    **dict.fromkeys((10, 11, 12), squared),
    **dict.fromkeys((13, 14, 15), strike),
}


def mistakes_sheet(scores: Scores, pictures: dict[str, bytes | str], mode: Mode, path: Path) -> None:
    """The misread pictures beside the ink found in them, with label, answer, confidence and rejection."""
    shown = [
        _pair(
            pictures[mistake.name],
            mode,
            f"{mistake.name}\n{mistake.label} read as {mistake.digit}, {100 * mistake.confidence:.0f} %"
            f"\n{mistake.rejection or 'accepted'}",
        )
        for mistake in scores.mistakes
    ]
    shown += [_pair(pictures[name], mode, f"{name}\nunread\n{reason}") for name, reason in scores.unread.items()]
    pairs(shown[:SHOWN], path)


def hard_sheet(mnist: Mnist, predictor: Predictor, path: Path, seed: int = 9) -> None:
    """A dozen hard pictures, made from test digits, each with the answer of ``predictor``."""
    random = np.random.default_rng(seed)
    places = [*(np.flatnonzero(mnist.y_test == digit)[0] for digit in range(10)), 20, 30]
    pictures = [
        encode_png(photograph(_enlarged(mnist.x_test[place].astype(np.float32) / 255), random)) for place in places
    ]
    answers = predictor.read(pictures, "auto")
    shown = []
    for picture, row, label in zip(pictures, answers.probabilities, mnist.y_test[places], strict=True):
        read = "not read" if np.isnan(row).any() else f"read as {row.argmax()}, {100 * row.max():.1f} %"
        shown.append(_pair(picture, "auto", f"a {label}, {read}"))
    pairs(shown, path, columns=4)


def drawn_sheets(mnist: Mnist, sources: Sequence[Samples], folder: Path, seed: int = 0) -> list[Path]:
    """Write one PNG for each kind of training image and for the corruptions; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Callable[[Mnist, np.random.Generator], list[Grey]]] = {
        "hands": partial(_hands, sources),
        "distorted": _distorted,
        "photographs": _photographs,
        "seen": partial(_model_input, sources),
        "corruptions": _corruptions,
    }
    return [_write(folder / f"{name}.png", tiles(mnist, np.random.default_rng(seed))) for name, tiles in drawn.items()]


def _hands(sources: Sequence[Samples], mnist: Mnist, random: np.random.Generator) -> list[Grey]:
    """Each row: one kind of picture."""
    return [
        draw_kind(kind, random, mnist.x_test, mnist.y_test, place, sources)[0]
        for kind in kinds_with(sources)
        for place in range(COLUMNS)
    ]


def _distorted(mnist: Mnist, random: np.random.Generator) -> list[Grey]:
    """Each row: a test digit, three warped copies, and copies that are warped and distorted further."""
    return [_grey(_distort(drawing, column, random)) for drawing in _digits(mnist) for column in range(COLUMNS)]


def _distort(drawing: Alpha, column: int, random: np.random.Generator) -> Alpha:
    warped = drawing if column == 0 else warp(drawing, random)
    drawn = _AFTER_WARP[column](warped, random) if column in _AFTER_WARP else warped
    x, y, width, height = cv2.boundingRect((drawn > 0.1).astype(np.uint8))
    return np.pad(drawn[y : y + height, x : x + width], 3)


def _photographs(mnist: Mnist, random: np.random.Generator) -> list[Grey]:
    return [photograph(_enlarged(drawing), random) for drawing in _digits(mnist) for _ in range(COLUMNS)]


def _model_input(sources: Sequence[Samples], mnist: Mnist, random: np.random.Generator) -> list[Grey]:
    """Augmented model input after preprocessing: digits by label, then outliers."""
    grey, given = mnist.x_test[: 10 * COLUMNS], mnist.y_test[: 10 * COLUMNS]
    ink, labels = augment(grey, given, int(random.integers(2**31)), sources)
    return [_grey(ink[place, ..., 0]) for place in np.argsort(labels, kind="stable")]


def _corruptions(mnist: Mnist, random: np.random.Generator) -> list[Grey]:
    digits = mnist.x_test[:COLUMNS]
    return [_WHITE - grey for corrupt in CORRUPTIONS.values() for grey in corrupt(digits, int(random.integers(2**31)))]


def _digits(mnist: Mnist) -> list[Alpha]:
    """The first test image of each digit."""
    return [mnist.x_test[mnist.y_test == digit][0].astype(np.float32) / 255 for digit in range(10)]


def _enlarged(drawing: Alpha) -> Alpha:
    return np.clip(cv2.resize(drawing, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float32)


def _grey(alpha: Alpha) -> Grey:
    """Dark on white."""
    return (_WHITE - np.clip(alpha, 0, 1) * _WHITE).astype(np.uint8)


def _write(path: Path, tiles: Sequence[Grey]) -> Path:
    """Rows of `COLUMNS` square tiles, in sixteen greys to keep the file small."""
    fitted = [np.pad(_fitted(tile, TILE_PX), 1, constant_values=_WHITE) for tile in tiles]
    sheet = np.vstack([np.hstack(fitted[start : start + COLUMNS]) for start in range(0, len(fitted), COLUMNS)])
    cv2.imwrite(str(path), np.round(sheet / 17).astype(np.uint8) * np.uint8(17), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return path


def _fitted(grey: Grey, side_px: int) -> Grey:
    """Scaled to fit and centred on a white square."""
    scale = side_px / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.full((side_px, side_px), _WHITE, np.uint8)
    top, left = (side_px - height) // 2, (side_px - width) // 2
    square[top : top + height, left : left + width] = small
    return square


def _pair(picture: bytes | str, mode: Mode, title: str) -> Pair:
    """A picture and its ink; blank if it cannot be decoded or has no ink."""
    blank = np.full((SIDE_PX, SIDE_PX), _WHITE, np.uint8)
    if isinstance(picture, str):
        return Pair(blank, blank, title)
    try:
        grey = decode(inspect(picture)).grey
    except DigitsError:
        return Pair(blank, blank, title)
    try:
        ink = _grey(find_ink(grey, mode).ink[..., 0])
    except NoInk:
        ink = blank
    return Pair(_fitted(grey, PICTURE_PX), ink, title)
