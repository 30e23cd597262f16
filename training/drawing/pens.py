"""Pen strokes -> drawings, by another hand and with another pen. Pure functions of a random generator.

Strokes are drawn at the size of the drawing, not scaled to it. Worker processes import this module.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2) of x, y; y down
Strokes = list[Points]
Alpha = NDArray[np.float32]  # (height, width) in [0, 1], 1 = pen

NOT_A_DIGIT = 10  # label of outliers

_SUBPIXEL_BITS = 4
_SMOOTHED = 0.5  # share of drawings: corners rounded, as a pen does and a mouse does not
_HARD_EDGED = 0.3  # share of drawings: as in a paint program without antialiasing
# Share of drawings by pen; the others have a round pen of constant width
_DOTTED, _UNEVEN, _NIB = 0.05, 0.25, 0.08
_STEP = 0.02  # between two points of a resampled stroke, in units of the drawing


def draw_strokes(
    strokes: Sequence[NDArray[np.generic]], random: np.random.Generator, size_px: int, filled: bool = False
) -> Alpha:
    """The strokes, (n, 2) each in any unit, with a margin; the longest side about ``size_px`` without the pen.

    ``filled``: with the area within one of the strokes.
    """
    hand = _hand(strokes, random)
    pen_px = max(1.0, size_px * _pen_width(random))
    margin = int(pen_px) + 2
    low = np.concatenate(hand).min(axis=0)
    placed = [(stroke - low) * size_px + margin for stroke in hand]
    width, height = np.concatenate(placed).max(axis=0).astype(int) + margin + 1
    frame = np.zeros((height, width), np.uint8)
    how = cv2.LINE_8 if random.random() < _HARD_EDGED else cv2.LINE_AA
    if filled:
        cv2.fillPoly(frame, [np.round(placed[int(random.integers(len(placed)))]).astype(np.int32)], 255)
    chance = random.random()
    if chance < _DOTTED:
        _dot(frame, placed, pen_px, how, random.uniform(0.8, 1.6))
    elif chance < _DOTTED + _UNEVEN:
        _draw_uneven(frame, placed, size_px, pen_px, how, random)
    elif chance < _DOTTED + _UNEVEN + _NIB:
        _line(frame, placed, 1, how)
        frame = cv2.dilate(frame, _nib(max(2, round(pen_px)), random)).astype(np.uint8)
    else:
        _line(frame, placed, round(pen_px), how)
    return frame.astype(np.float32) / np.float32(255)


def _pen_width(random: np.random.Generator) -> float:
    """Stroke width as a share of the longest side: hairline to marker."""
    return float(np.exp(random.uniform(*np.log((0.01, 0.13))))) if random.random() < 0.7 else random.uniform(0.08, 0.2)


def _hand(strokes: Sequence[NDArray[np.generic]], random: np.random.Generator) -> Strokes:
    """The strokes slanted, rotated, stretched and bent, as by another writer; the longest side about 1."""
    points = np.concatenate(strokes).astype(float)
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    points /= max(2 * np.abs(points).max(), 1e-9)
    angle, shear = random.normal(0, 0.12), random.normal(0, 0.16)
    stretch_x, stretch_y = np.exp(random.normal(0, 0.14, 2))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = points @ (matrix @ np.array([[stretch_x, shear], [0, stretch_y]])).T
    for waves in (random.uniform(2, 5, (2, 2)), random.uniform(5, 10, (2, 2))):
        size = random.uniform(0, 0.12) / waves.mean()
        points += size * np.sin(points @ (waves * random.choice((-1, 1), (2, 2))) + random.uniform(0, 2 * np.pi, 2))
    written = np.split(points, np.cumsum([len(stroke) for stroke in strokes])[:-1])
    return [_smoothed(stroke) for stroke in written] if random.random() < _SMOOTHED else written


def _smoothed(stroke: Points) -> Points:
    """Corners cut twice. Source: Chaikin 1974, An algorithm for high-speed curve generation."""
    for _ in range(2 if len(stroke) > 2 else 0):
        before, after = stroke[:-1], stroke[1:]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], axis=1).reshape(-1, 2)
        stroke = np.concatenate([stroke[:1], cut, stroke[-1:]])
    return stroke


def _line(frame: NDArray[np.uint8], strokes: Strokes, thickness: int, how: int) -> None:
    # OpenCV draws next to nothing of an antialiased line without length
    long = [s if np.ptp(s, axis=0).max() >= 1 else np.array([s[0] - (0.5, 0), s[0] + (0.5, 0)]) for s in strokes]
    lines = [np.round(stroke * 2**_SUBPIXEL_BITS).astype(np.int32) for stroke in long]
    cv2.polylines(frame, lines, False, 255, thickness, how, _SUBPIXEL_BITS)


def _dot(frame: NDArray[np.uint8], strokes: Strokes, pen_px: float, how: int, spacing: float) -> None:
    """One dot at each position of a mouse that moves too fast for the program."""
    for stroke in strokes:
        for point in _resampled(stroke, spacing * max(pen_px, 2)):
            _line(frame, [point[np.newaxis]], round(pen_px), how)


def _draw_uneven(
    frame: NDArray[np.uint8], strokes: Strokes, size_px: int, pen_px: float, how: int, random: np.random.Generator
) -> None:
    """Wider where the pen is slow, thinner at the ends, and with gaps where it is dry; each to a random degree.

    The speed is that of the samples: tablets record points at a constant rate.
    """
    speed_effect, taper, gaps = random.uniform(0, 0.8), random.uniform(0, 0.8), max(0.0, random.uniform(-0.06, 0.06))
    for stroke in strokes:
        steps = np.linalg.norm(np.diff(stroke, axis=0), axis=1)
        speed = steps / max(float(steps.mean()), 1e-9) if len(steps) else np.ones(1)
        points = _resampled(stroke, max(2.0, _STEP * size_px))
        along = np.linspace(0, 1, len(points))
        width = (1 + speed_effect * (1 - np.interp(along, np.linspace(0, 1, len(speed)), speed))).clip(0.3, 2)
        width *= 1 - taper * (1 - np.minimum(1, 5 * np.minimum(along, 1 - along)))
        thickness = np.maximum(1, np.round(pen_px * width)).astype(int)
        dry = random.random(len(points)) < gaps
        starts = np.flatnonzero(np.diff(thickness, prepend=-1))  # runs of the same width
        for start, end in zip(starts, [*starts[1:], len(points)], strict=True):
            if not dry[start] or len(points) < 4:
                _line(frame, [points[start : end + 1]], int(thickness[start]), how)


def _resampled(stroke: Points, step: float) -> Points:
    """Points on the stroke at equal distances of about ``step``, both ends included."""
    distance = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(stroke, axis=0), axis=1))])
    places = np.linspace(0, distance[-1], max(2, round(float(distance[-1]) / step) + 1))
    return np.stack([np.interp(places, distance, stroke[:, axis]) for axis in (0, 1)], axis=1)


def _nib(width_px: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A square brush or a broad nib held at an angle."""
    if random.random() < 0.5:
        return np.ones((width_px, width_px), np.uint8)
    nib = np.zeros((width_px, width_px), np.uint8)
    angle, middle = random.uniform(0, np.pi), (width_px - 1) / 2
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    ends = np.round(middle + np.array([-reach, reach])).astype(int)
    return cv2.line(nib, ends[0].tolist(), ends[1].tolist(), 1, max(1, width_px // 4)).astype(np.uint8)
