"""Training pictures by other hands: MNIST's digits, and pen strokes and pictures of the sources. Pure functions.

All pass the same pen, paper and camera. Worker processes import this module.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from app.imaging.pixels import Grey
from training.data.samples import Samples
from training.drawing.distortions import as_grey, change_pen, outline, photograph, squared, strike, warp
from training.drawing.pens import NOT_A_DIGIT, Alpha, Strokes, draw_strokes

# Weight of each kind of picture. A source that the recipe does not name is left out.
MIX = {
    "mnist": 32,
    "pendigits_strokes": 7,
    "unipen_digits": 10,
    "kensanata_scans": 2,
    "font_digits": 8,
    # no digits
    "unipen_letters": 12,
    "unipen_symbols": 5,
    "omniglot_strokes": 8,
    "quickdraw_strokes": 7,
    "hds_shapes": 3,
    "font_letters": 2,
    "fashion_mnist": 2,
    "pictures_no_digit": 7,
    "jumble": 5,
    "several": 2,
    "rules": 1,
}
OWN = {"own_digits": 0.2, "own_outliers": 0.05}  # share of all pictures, of what is left; then the weights decide
WORDS = {"unipen_digits", "unipen_letters", "pendigits_strokes", "font_digits", "font_letters"}  # for several in a row

WARPED = 0.9  # share of the MNIST digits and of pictures; strokes are bent before they are drawn
REPENNED = 0.25  # share of the MNIST digits: other stroke width
OUTLINED = 0.04  # share of the remaining MNIST digits: hollow strokes
SQUARED = 0.1  # share of all pictures
STRUCK = 0.08  # share of all digits
FILLED = 0.08  # share of drawings without a digit: the area within one stroke is filled
PHOTOGRAPHED = 0.3  # share of all pictures
AS_SENT = 0.5  # share of full pictures without a digit: without another sheet of paper
SIZES_PX = (20, 100)  # longest side of a drawing, before the camera
LARGE, LARGE_PX = 0.06, 224  # share of drawings up to that size, never photographed: those take milliseconds


def draw_picture(
    random: np.random.Generator, grey: Grey, labels: NDArray[np.int64], place: int, sources: Sequence[Samples]
) -> tuple[Grey, int]:
    """A picture and its label, 0 to 10: the MNIST digit at ``place``, or another kind of picture by its weight."""
    named = {samples.source.name for samples in sources}
    for name, share in OWN.items():
        if name in named and random.random() < share:
            return draw_kind(name, random, grey, labels, place, sources)
    kinds = kinds_with(sources)
    bounds = np.cumsum([MIX[kind] for kind in kinds])
    kind = kinds[int(np.searchsorted(bounds, random.random() * bounds[-1], "right"))]
    return draw_kind(kind, random, grey, labels, place, sources)


def kinds_with(sources: Sequence[Samples]) -> list[str]:
    """The kinds of pictures that can be drawn with these sources."""
    here = {"mnist", "several", "rules", *(each.source.name for each in sources)}
    return [kind for kind in MIX if kind in here or (kind == "jumble" and _without_digits(sources))]


def draw_kind(
    kind: str,
    random: np.random.Generator,
    grey: Grey,
    labels: NDArray[np.int64],
    place: int,
    sources: Sequence[Samples],
) -> tuple[Grey, int]:
    """A picture of this kind and its label. See `draw_picture`."""
    named = {samples.source.name: samples for samples in sources}
    if kind in named:
        return draw_sample(named[kind], int(random.integers(len(named[kind]))), random)
    size_px, large = _size(random)
    if kind == "mnist":
        return _finished(_mnist_digit(random, grey[place]), int(labels[place]), random, large=large)
    if kind == "several":
        words = [samples for name, samples in named.items() if name in WORDS]
        drawing = _several(random, grey, words, size_px)
    elif kind == "jumble":
        drawing = draw_strokes(_jumble(random, _without_digits(sources)), random, size_px, random.random() < FILLED)
    else:
        drawing = draw_strokes(_rules(random), random, size_px)
    return _finished(drawing, NOT_A_DIGIT, random, large=large)


def draw_sample(samples: Samples, place: int, random: np.random.Generator) -> tuple[Grey, int]:
    """A picture of one sample of a source, and its label, 0 to 10."""
    size_px, large = _size(random)
    label = int(samples.label(place)) if samples.source.kind == "digits" else NOT_A_DIGIT
    if samples.has_strokes:
        filled = label == NOT_A_DIGIT and random.random() < FILLED
        drawing = draw_strokes(samples.strokes(place), random, size_px, filled)
    elif samples.source.name == "pictures_no_digit" and random.random() < AS_SENT:
        return samples.picture(place), label
    else:
        drawing = _redrawn(samples.picture(place), random, size_px)
    return _finished(drawing, label, random, large=large)


def _size(random: np.random.Generator) -> tuple[int, bool]:
    """The longest side of a drawing in pixels, and whether it is a large one."""
    large = random.random() < LARGE
    return int(np.exp(random.uniform(*np.log((SIZES_PX[large], LARGE_PX) if large else SIZES_PX)))), large


def _finished(drawing: Alpha, label: int, random: np.random.Generator, *, large: bool) -> tuple[Grey, int]:
    """The drawing as a picture: squared, struck out and photographed by chance."""
    if random.random() < SQUARED:
        drawing = squared(drawing, random)
    if label != NOT_A_DIGIT and random.random() < STRUCK:
        drawing = strike(drawing, random)
    photographed = random.random() < PHOTOGRAPHED and not large
    return photograph(drawing, random) if photographed else as_grey(drawing), label


def _mnist_digit(random: np.random.Generator, grey: Grey) -> Alpha:
    drawing: Alpha = grey.astype(np.float32) / np.float32(255)
    if random.random() < WARPED:
        drawing = warp(drawing, random)
    if random.random() < REPENNED:
        return change_pen(drawing, random)
    return outline(drawing, random) if random.random() < OUTLINED else drawing


def _redrawn(grey: Grey, random: np.random.Generator, size_px: int) -> Alpha:
    """The picture as a drawing without its margin: what differs from the level of its border is ink."""
    drawing = _ink(grey)
    x, y, width, height = cv2.boundingRect((drawing > 0.2).astype(np.uint8))
    drawing = np.pad(drawing[y : y + height, x : x + width], 1)
    scale = size_px / max(drawing.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    drawing = cv2.resize(drawing, None, fx=scale, fy=scale, interpolation=how).astype(np.float32)
    return warp(drawing, random, strength=random.uniform(0.2, 1)) if random.random() < WARPED else drawing


def _ink(grey: Grey) -> Alpha:
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    away = np.abs(grey - np.float32(np.median(border)))
    drawing: Alpha = (away / max(float(away.max()), 1.0)).astype(np.float32)
    return drawing


def _several(random: np.random.Generator, digits: Grey, sources: Sequence[Samples], size_px: int) -> Alpha:
    """Two to four digits or letters side by side, of MNIST or of one source. They touch, overlap or nearly touch.

    Wider gaps would leave a single digit after segmentation.
    """
    count = int(random.integers(2, 5))
    chosen = int(random.integers(len(sources) + 1))
    gap = random.uniform(-0.1, 0.1)  # of the height
    if chosen < len(sources) and sources[chosen].has_strokes:
        row: Strokes = []
        for at in random.integers(len(sources[chosen]), size=count):
            strokes = sources[chosen].strokes(int(at))
            points = np.concatenate(strokes).astype(float)
            low, extent = points.min(axis=0), np.ptp(points, axis=0)
            scale = 1 / max(float(extent[1]), float(extent[0]) / 1.5, 1e-9)
            left = max(float(stroke[:, 0].max()) for stroke in row) + gap if row else 0.0
            row += [(stroke - low) * scale + (left, random.normal(0, 0.04)) for stroke in strokes]
        return draw_strokes(row, random, int(size_px * count * 0.6))
    pictures = digits if chosen == len(sources) else sources[chosen]
    parts = []
    for at in random.integers(len(pictures), size=count):
        picture = pictures[at] if isinstance(pictures, np.ndarray) else pictures.picture(int(at))
        x, y, width, height = cv2.boundingRect((picture > picture.max() / 3).astype(np.uint8))
        parts.append(cv2.resize(picture[y : y + height, x : x + width], None, fx=24 / height, fy=24 / height))
    frame = np.zeros((32, sum(part.shape[1] for part in parts) + 16), np.uint8)
    left = 2
    for part in parts:
        area = frame[4 : 4 + part.shape[0], left : left + part.shape[1]]
        np.maximum(area, part, out=area)
        left += max(3, part.shape[1] + round(24 * gap))
    return warp(_ink(frame), random, strength=0.5)


def _without_digits(sources: Sequence[Samples]) -> list[Samples]:
    return [each for each in sources if each.has_strokes and each.source.kind == "outliers"]


def _jumble(random: np.random.Generator, sources: Sequence[Samples]) -> Strokes:
    """Two to five strokes of different drawings, each of another size and in another place."""
    strokes: Strokes = []
    for _ in range(int(random.integers(2, 6))):
        samples = sources[int(random.integers(len(sources)))]
        drawn = samples.strokes(int(random.integers(len(samples))))
        stroke = drawn[int(random.integers(len(drawn)))].astype(float)
        stroke = (stroke - stroke.min(axis=0)) / max(float(np.ptp(stroke, axis=0).max()), 1e-9)
        strokes.append(stroke * random.uniform(0.3, 1) + random.uniform(0, 0.6, 2))
    return strokes


def _rules(random: np.random.Generator) -> Strokes:
    """A dash, parallel lines, a row of dashes, a box or a grid. Nothing like a 1, and no tall box like a 0."""
    kind = int(random.integers(5))
    lines = int(random.integers(2, 5))
    places = np.linspace(0, 1, lines)
    slope = random.normal(0, 0.08)
    if kind == 0:
        return [np.array([(0, 0), (1, slope)])]
    if kind == 1:  # near one another: of lines farther apart, segmentation leaves one
        gap = random.uniform(0.1, 0.2)
        parallel = [np.array([(0, gap * line), (1, gap * line + slope)]) for line in range(lines)]
        return parallel if random.random() < 0.5 else [stroke[:, ::-1] for stroke in parallel]
    if kind == 2:
        return [np.array([(place, slope * place), (place + 0.7 / lines, slope * place)]) for place in places]
    height = random.uniform(0.25, 1)
    across = places if kind == 4 else places[[0, -1]]
    return [np.array([(place, 0), (place, height)]) for place in across] + [
        np.array([(0, place * height), (1, place * height)]) for place in across
    ]
