"""Synthetic digits in styles that MNIST lacks. Pure functions of a random generator.

Each digit is a few random strokes in a unit square, y downwards: ones with a flag and a foot, crossed sevens, open and
closed fours, slashed zeros, curved and straight tails. Worker processes import this module.
"""

from collections.abc import Callable

import cv2
import numpy as np

from training.drawing.pens import Alpha, Points, Strokes

_SUBPIXEL_BITS = 4
_STRAIGHT = 0.2  # segments longer than this are straight strokes, not steps of a curve


def draw_digit(digit: int, random: np.random.Generator, height_px: int, pen_px: float, smooth: bool = True) -> Alpha:
    """One digit with a margin, ``height_px`` high before slanting, drawn with a round pen of width ``pen_px``.

    ``smooth``: antialiased; otherwise with hard edges, as in a paint program.
    """
    strokes = _DIGITS[digit](random)
    if random.random() < 0.12:
        strokes = _blocky(strokes, random)
    return draw(_hand(strokes, random), height_px, pen_px, smooth)


def draw(strokes: Strokes, height_px: int, pen_px: float, smooth: bool = True) -> Alpha:
    """Strokes scaled so that they are at most ``height_px`` high or wide."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = height_px / max(*(high - low), 0.2)
    margin = int(pen_px) + 2
    width, height = ((high - low) * scale).astype(int) + 2 * margin + 1
    frame = np.zeros((height, width), np.uint8)
    lines = [np.round(((stroke - low) * scale + margin) * 2**_SUBPIXEL_BITS).astype(np.int32) for stroke in strokes]
    how = cv2.LINE_AA if smooth else cv2.LINE_8
    cv2.polylines(frame, lines, False, 255, max(1, round(pen_px)), how, _SUBPIXEL_BITS)
    return frame.astype(np.float32) / np.float32(255)


def curve(*points: tuple[float, float], corners: bool = False) -> Points:
    """A smooth line through the points (Catmull-Rom spline), or a polyline if ``corners``."""
    knots = np.array(points, float)
    if corners or len(knots) < 3:
        return knots
    padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    pieces = 0.5 * (
        2 * start[:, None]
        + (end - before)[:, None] * t
        + (2 * before - 5 * start + 4 * end - after)[:, None] * t**2
        + (3 * start - before - 3 * end + after)[:, None] * t**3
    )
    return np.vstack([pieces.reshape(-1, 2), knots[-1]])


def arc(centre: tuple[float, float], radius: tuple[float, float], start: float, end: float) -> Points:
    """Part of an ellipse; angles in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, end, 32))
    return np.array(centre) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius


def _blocky(strokes: Strokes, random: np.random.Generator) -> Strokes:
    """Few corners, mostly on a coarse grid, as drawn with mouse clicks."""
    grid = random.uniform(0.12, 0.3) if random.random() < 0.6 else 0.01
    return [np.round(_corners(stroke, int(random.integers(3, 7))) / grid) * grid for stroke in strokes]


def _corners(stroke: Points, step: int) -> Points:
    """Every ``step``-th point, the last point, and the ends of straight segments; short strokes are unchanged."""
    if len(stroke) < 8:
        return stroke
    long = np.linalg.norm(np.diff(stroke, axis=0), axis=1) > _STRAIGHT
    kept = np.arange(len(stroke)) % step == 0
    kept[-1] = True
    kept[1:] |= long
    kept[:-1] |= long
    corners: Points = stroke[kept]
    return corners


def _hand(strokes: Strokes, random: np.random.Generator) -> Strokes:
    """The strokes slanted, rotated, squeezed and slightly bent, as by another writer."""
    shear, angle = random.normal(0, 0.18), random.normal(0, np.radians(6))
    squeeze = random.uniform(0.45, 1.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[squeeze, -shear], [0, 1]])
    waves = random.uniform(1.5, 5, (2, 2))
    phases = random.uniform(0, 2 * np.pi, (2, 2))
    size = random.uniform(0, 0.035)
    bent = [stroke + size * np.sin(stroke @ waves.T[:, ::-1] * 2 + phases.sum(axis=0)) for stroke in strokes]
    shaken = [stroke + random.normal(0, 0.008, stroke.shape) * (len(stroke) < 6) for stroke in bent]
    return [(stroke - 0.5) @ matrix.T for stroke in shaken]


def _zero(random: np.random.Generator) -> Strokes:
    start = random.uniform(-150, -30)
    ring = arc((0.5, 0.5), (random.uniform(0.3, 0.5), 0.5), start, start + 360 + random.uniform(-18, 30))
    if random.random() < 0.25:
        out = random.uniform(-0.15, 0.1)
        return [ring, curve((0.85 - out, 0.1 + out), (0.15 + out, 0.9 - out))]
    return [ring]


def _one(random: np.random.Generator) -> Strokes:
    lean = random.uniform(-0.1, 0.15)
    stem = [(0.5 + lean, 0.0), (0.5, 1.0)]
    kind = random.random()
    if kind > 0.12:  # with a flag, from a tick to an upstroke as long as the stem
        if kind > 0.85:  # nearly as steep as the stem, down to the baseline
            length = random.uniform(0.3, 0.75)
            drop = random.uniform(0.6, 1.02)
        elif kind > 0.65:
            length = random.uniform(0.5, 1.0)
            drop = min(length * random.uniform(0.5, 1.2), 0.9)
        else:
            length = random.uniform(0.12, 0.6)
            drop = min(length * random.uniform(0.35, 1.3), 0.75)
        stem = [(0.5 + lean - length, drop), *stem]
    strokes = [curve(*stem, corners=True)]
    if kind > 0.12 and random.random() < 0.3:  # rounded corner between flag and stem
        strokes = [
            np.vstack([curve(stem[0], ((stem[0][0] + stem[1][0]) / 2 + 0.04, stem[0][1] / 2), stem[1]), stem[2:]])
        ]
    if random.random() < 0.3:
        left, right = random.uniform(0.12, 0.4, 2)
        strokes.append(curve((0.5 - left, 1.0), (0.5 + right, random.uniform(0.97, 1.03))))
    return strokes


def _two(random: np.random.Generator) -> Strokes:
    top = [(0.1, random.uniform(0.15, 0.35)), (0.3, 0.02), (0.7, 0.03), (0.85, 0.28), (0.6, 0.6)]
    base = random.uniform(-0.08, 0.06)
    if random.random() < 0.3:  # a loop at the foot
        return [curve(*top, (0.2, 0.97), (0.08, 0.85), (0.3, 0.82), (0.6, 0.97), (1.0, 0.95 + base))]
    return [np.vstack([curve(*top, (0.08, 1.0)), [(random.uniform(0.8, 1.1), 1.0 + base)]])]


def _three(random: np.random.Generator) -> Strokes:
    waist = random.uniform(0.3, 0.55)
    belly = [(waist, 0.46), (0.9, random.uniform(0.62, 0.78)), (0.5, 1.0), (0.05, random.uniform(0.82, 0.98))]
    if random.random() < 0.3:  # a flat roof
        return [np.vstack([[(0.08, 0.0), (0.85, random.uniform(-0.03, 0.03))], curve(*belly)])]
    roof = [(0.08, random.uniform(0.08, 0.25)), (0.45, 0.0), (0.82, 0.2), (waist, 0.46)]
    return [np.vstack([curve(*roof), curve(*belly)])]


def _four(random: np.random.Generator) -> Strokes:
    bar, stem = random.uniform(0.5, 0.75), random.uniform(0.55, 0.8)
    reach = random.uniform(0.85, 1.1)
    kind = random.random()
    if kind < 0.14:  # one stroke, like lightning
        top = (random.uniform(0.45, 1.1), 0.0)
        foot = (stem - random.uniform(0.0, 0.25), 1.0)
        return [
            curve(top, (random.uniform(0.0, 0.15), bar), (reach, bar + random.uniform(-0.1, 0.05)), foot, corners=True)
        ]
    if kind < 0.5:  # closed
        return [
            curve(
                (stem, 0.0), (random.uniform(0.0, 0.12), bar), (reach, bar + random.uniform(-0.06, 0.03)), corners=True
            ),
            curve((stem, 0.0), (stem + random.uniform(-0.1, 0.03), 1.0)),
        ]
    left = random.uniform(0.1, 0.35)
    corner = (left - random.uniform(0.0, 0.2), bar)
    angle = [(left, 0.0), corner, (reach, bar + random.uniform(-0.08, 0.05))]
    if random.random() < 0.4:  # a round corner
        angle = [angle[0], (corner[0], corner[1] - 0.12), (corner[0] + 0.12, corner[1]), angle[2]]
    return [
        curve(*angle, corners=len(angle) == 3),
        curve((stem, random.uniform(-0.1, 0.35)), (stem + random.uniform(-0.12, 0.03), 1.0)),
    ]


def _five(random: np.random.Generator) -> Strokes:
    shoulder = random.uniform(0.36, 0.5)
    if random.random() < 0.12:  # one stroke, like an S with a corner
        top = (random.uniform(0.75, 1.0), random.uniform(0.0, 0.08))
        return [curve(top, (0.3, 0.04), (0.2, shoulder), (0.6, shoulder), (0.88, 0.7), (0.5, 1.0), (0.02, 0.93))]
    neck = (random.uniform(0.12, 0.25), shoulder)
    belly = curve(
        neck, (0.5, shoulder - 0.08), (0.88, random.uniform(0.58, 0.7)), (0.65, 0.97), (0.05, random.uniform(0.85, 1.0))
    )
    bar = [(0.22, 0.0), (random.uniform(0.75, 1.0), random.uniform(-0.06, 0.04))]
    if random.random() < 0.6:  # separate top bar, which rarely meets the neck
        gap = random.uniform(-0.02, 0.08)
        return [np.vstack([[(0.22, 0.0)], belly]), curve((bar[0][0] + gap, bar[0][1] + gap / 2), bar[1])]
    return [np.vstack([[bar[1], bar[0]], belly])]


def _six(random: np.random.Generator) -> Strokes:
    top = random.uniform(0.5, 0.95)
    loop = random.uniform(0.45, 0.6)
    return [
        curve(
            (top, random.uniform(0.0, 0.06)), (0.32, 0.3), (0.08, 0.7), (0.4, 1.0), (0.85, 0.8), (0.6, loop),
            (random.uniform(0.1, 0.25), loop + random.uniform(0.1, 0.25)),
        )
    ]  # fmt: skip


def _seven(random: np.random.Generator) -> Strokes:
    foot = random.uniform(0.15, 0.6)
    corner = (random.uniform(0.85, 1.0), random.uniform(-0.05, 0.06))
    roof = [(0.03, 0.02), corner]
    if random.random() < 0.3:
        roof = [(random.uniform(0.0, 0.06), random.uniform(0.1, 0.25)), *roof]
    bend = random.uniform(-0.12, 0.05)
    stem = curve(corner, ((corner[0] + foot) / 2 + bend, 0.5), (foot, 1.0))
    strokes = [np.vstack([roof[:-1], stem])]
    if random.random() < 0.55:
        middle, height = (corner[0] + foot) / 2 + bend, random.uniform(0.4, 0.62)
        left, right = random.uniform(0.15, 0.4, 2)
        strokes.append(curve((middle - left, height + random.uniform(-0.04, 0.06)), (middle + right, height)))
    return strokes


def _eight(random: np.random.Generator) -> Strokes:
    waist, top, bottom = random.uniform(0.4, 0.55), random.uniform(0.22, 0.4), random.uniform(0.32, 0.48)
    if random.random() < 0.35:  # two rings
        start = random.uniform(0, 360)
        return [
            arc((0.5, waist / 2), (top, waist / 2), start, start + 365),
            arc((0.5, (1 + waist) / 2), (bottom, (1 - waist) / 2), start, start + 365),
        ]
    open_top = random.uniform(-0.02, 0.18)
    return [
        curve(
            (0.5 + top, 0.12 + open_top), (0.5, 0.0), (0.5 - top, waist / 2), (0.5, waist), (0.5 + bottom, 0.76),
            (0.5, 1.0), (0.5 - bottom, 0.76), (0.5, waist), (0.5 + top * 0.95, 0.14),
        )
    ]  # fmt: skip


def _nine(random: np.random.Generator) -> Strokes:
    low = random.uniform(0.45, 0.62)
    gap = random.uniform(-25, 5) if random.random() < 0.8 else random.uniform(-90, -25)
    ring = arc((0.45, low / 2), (random.uniform(0.3, 0.42), low / 2), -20, -20 - 360 - gap)
    right = float(ring[:, 0].max())
    start = (right, low / 2 - random.uniform(0.0, 0.3) * low)
    kind = random.random()
    if kind < 0.3:
        tail = curve(start, (right - random.uniform(-0.02, 0.25), 1.0))
    elif kind < 0.37:  # straight, far to the left
        tail = curve(start, (right - random.uniform(0.25, 0.8), 1.0))
    elif kind < 0.6:
        tail = curve(start, (right, 0.7), (right - 0.15, 0.95), (random.uniform(0.1, 0.4), 1.0))
    elif kind < 0.72:  # along the baseline
        tail = curve(start, (right, 0.72), (0.6, 0.98), (random.uniform(-0.1, 0.15), random.uniform(0.95, 1.02)))
    elif kind < 0.85:  # a round turn, then straight along the baseline
        turn = curve(start, (right, random.uniform(0.7, 0.85)), (random.uniform(0.5, 0.7), 0.97))
        tail = np.vstack([turn, [(random.uniform(-0.35, 0.1), random.uniform(0.93, 1.03))]])
    else:  # a hook, as in a handwritten g
        tail = curve(start, (right, 0.8), (0.5, 1.0), (0.08, random.uniform(0.78, 0.92)))
    return [ring, tail]


_DIGITS: tuple[Callable[[np.random.Generator], Strokes], ...] = (
    _zero, _one, _two, _three, _four, _five, _six, _seven, _eight, _nine
)  # fmt: skip
