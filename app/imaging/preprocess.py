"""Grey -> ink: the (28, 28, 1) that the model sees. Knows no model, request or setting.

Training and the service share these functions. `VERSION` changes with any change of an output pixel: an engine refuses
weights that were trained with another version.
"""

from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.decode import Decoded, decode
from app.imaging.formats import MAX_PIXELS, inspect
from app.imaging.pixels import Grey, as_uint8
from app.imaging.strokes import Segmentation, alternative_strokes, find_strokes

VERSION = "3"

Mode = Literal["auto", "plain"]
Ink = NDArray[np.float32]

SIDE_PX = 28
BOX_PX = 20  # MNIST's digits are fitted into a box of this side, keeping their aspect

_PLACES = np.arange(BOX_PX, dtype=np.float32)
_SEEN = 76  # of 255: the frame of widened strokes holds all ink above it
_THIN_PX, _PEN_PX = 1.6, 2.2  # at MNIST's scale: strokes thinner than the first are widened to the second


class Preprocessed(NamedTuple):
    """What the model sees, and where it was found.

    ``ink``: float32 (28, 28, 1) in [0, 1], 1 = pen. ``inverted``: the ink was darker than the paper. ``ink_box``: (x,
    y, width, height) in pixels of the upright original. ``digits``: how many seem to stand side by side; the ink is
    that of one. ``picture``: the picture that was searched, with the size of the original; None for `plain`.
    """

    ink: Ink
    inverted: bool
    ink_box: tuple[int, int, int, int]
    digits: int = 1
    picture: Decoded | None = None


def preprocess(data: bytes, mode: Mode = "auto", *, max_pixels: int = MAX_PIXELS) -> Preprocessed:
    """The ink of an encoded image, in one call.

    Raises UnsupportedMediaType, TooLarge, UndecodableImage, or NoInk when the image is blank.
    """
    return ink_from_decoded(decode(inspect(data, max_pixels=max_pixels)), mode)


def ink_from_decoded(decoded: Decoded, mode: Mode = "auto") -> Preprocessed:
    """The ink of a decoded image. Raises NoInk when nothing stands out from the paper."""
    if mode == "plain":
        return _plain(decoded)
    return _preprocessed(find_strokes(decoded.grey), decoded)


def find_ink(grey: Grey, mode: Mode = "auto") -> Preprocessed:
    """The ink of a grey picture: uint8 (height, width) of any size, dark on light or light on dark. Raises NoInk."""
    return ink_from_decoded(Decoded(grey, grey.shape[1], grey.shape[0]), mode)


def alternative_inks(found: Preprocessed) -> list[Preprocessed]:
    """What else the picture may show, if ``found`` looks like no digit; nothing for `plain`.

    The same ink turned by a quarter to either side, ink of the other polarity and, on larger pictures, thin dark
    strokes in any light. The latter two turned as well.
    """
    if found.picture is None:
        return []
    inks = _turned(found)
    for other in alternative_strokes(found.picture.grey, inverted=found.inverted):
        ink = _preprocessed(other, found.picture)
        inks += [ink, *_turned(ink)]
    return inks


def _turned(found: Preprocessed) -> list[Preprocessed]:
    return [found._replace(ink=np.ascontiguousarray(np.rot90(found.ink, quarters))) for quarters in (1, 3)]


def _plain(decoded: Decoded) -> Preprocessed:
    """The textbook way: light ink on dark is assumed."""
    small = cv2.resize(decoded.grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    if not small.any():
        raise NoInk("The image is all black at 28x28: send light ink on dark, or use preprocess=auto.")
    ink = small.astype(np.float32)[:, :, None] / np.float32(255)
    return Preprocessed(ink, inverted=False, ink_box=(0, 0, decoded.width, decoded.height))


def _preprocessed(found: Segmentation, original: Decoded) -> Preprocessed:
    """The ink of a segmentation, with its box in pixels of the original."""
    scale_x, scale_y = original.width / found.picture.shape[1], original.height / found.picture.shape[0]
    x, y, width, height = found.box
    left, top, right, bottom = x * scale_x, y * scale_y, (x + width) * scale_x, (y + height) * scale_y
    box = int(left), int(top), round(right) - int(left), round(bottom) - int(top)
    ink = fit(found.contrast, found.strokes, found.sure)
    return Preprocessed(ink, found.inverted, box, found.digits, original._replace(grey=found.picture))


def fit(contrast: Grey, strokes: Grey, sure_level: float) -> Ink:
    """Scale the strokes into 20x20 and put their centre of mass at the centre of 28x28, as MNIST's makers did.

    Hairlines of large drawings are widened first, as averaging would make them faint.
    Source: LeCun, Cortes and Burges, the MNIST database.
    """
    sure = as_uint8(cv2.threshold(contrast, sure_level, 1, cv2.THRESH_BINARY)[1]) & strokes
    levels = np.sort(contrast[sure.view(np.bool_)])
    level = (float(levels[(levels.size - 1) // 2]) + float(levels[levels.size // 2])) / 2  # np.median, but faster
    ink = _widen(as_uint8(cv2.convertScaleAbs(contrast, alpha=255 / level)) * strokes, sure, levels.size)
    scale = BOX_PX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    if ink.shape != (height, width):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        ink = as_uint8(cv2.resize(ink, (width, height), interpolation=how))
    left = min(max(round(SIDE_PX / 2 - _centre(ink.sum(axis=0))), 0), SIDE_PX - width)
    top = min(max(round(SIDE_PX / 2 - _centre(ink.sum(axis=1))), 0), SIDE_PX - height)
    frame = np.zeros((SIDE_PX, SIDE_PX, 1), np.float32)
    frame[top : top + height, left : left + width, 0] = ink / np.float32(255)
    return frame


def _centre(profile: NDArray[np.integer]) -> float:
    """Centre of mass along one axis (cv2.moments mistakes a picture two pixels wide for a list of points)."""
    return float(np.dot(profile, _PLACES[: profile.size]) / profile.sum())


def _widen(ink: Grey, sure: Grey, area: int) -> Grey:
    """Dilate strokes that would be thinner than `_THIN_PX` at MNIST's scale; the frame grows with them.

    ``sure``: 1 where there surely is a stroke, in ``area`` pixels. Its width is four times the mean distance of its
    pixels to its edge.
    """
    framed = cv2.copyMakeBorder(sure, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    stroke_width = max(1.0, 4 * cv2.sumElems(distance)[0] / area - 1)
    scale = BOX_PX / max(ink.shape)
    if stroke_width * scale >= _THIN_PX:
        return ink
    size = round(_PEN_PX / scale - stroke_width) + 1
    if size < 2:
        return ink
    shape = cv2.MORPH_RECT if size == 2 else cv2.MORPH_ELLIPSE  # an ellipse of two pixels is a line
    grown = cv2.copyMakeBorder(ink, size, size, size, size, cv2.BORDER_CONSTANT)
    grown = cv2.dilate(grown, cv2.getStructuringElement(shape, (size, size)))
    x, y, width, height = cv2.boundingRect(cv2.threshold(grown, _SEEN, 1, cv2.THRESH_BINARY)[1])
    return as_uint8(grown[y : y + height, x : x + width])
