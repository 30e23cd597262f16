"""The fifteen corruptions of MNIST-C, reimplemented from their definitions. Pure functions of (images, seed).

Source: Mu and Gilmer 2019, MNIST-C: A Robustness Benchmark for Computer Vision, at the published severities. Images
are uint8 (n, 28, 28), light ink on dark. Differences from the published set: the random numbers, the kernel of motion
blur (half a Gaussian, not ImageMagick's), the border of blurs, and OpenCV's edge thinning in canny_edges.
"""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.arrays import Images

Frame = NDArray[np.float64]  # (28, 28) in [0, 1], 1 = pen
Corruption = Callable[[Frame, np.random.Generator], Frame]

SIDE_PX = 28
CENTRE = (SIDE_PX - 1) / 2


def _shot_noise(frame: Frame, random: np.random.Generator) -> Frame:
    return np.asarray(random.poisson(frame * 3) / 3, np.float64)


def _impulse_noise(frame: Frame, random: np.random.Generator) -> Frame:
    struck = random.random(frame.shape) < 0.17
    return np.where(struck, random.random(frame.shape) < 0.5, frame)


def _glass_blur(frame: Frame, random: np.random.Generator) -> Frame:
    """Blur, swap neighbouring pixels at random in two passes, blur again."""
    blurred = np.floor(_blur(frame, 0.7) * 255) / 255
    for _ in range(2):
        for row in range(SIDE_PX - 1, 1, -1):
            for column in range(SIDE_PX - 1, 1, -1):
                if random.random() < 0.5:
                    down, right = random.integers(-1, 1, 2)
                    here, there = (row, column), (row + down, column + right)
                    blurred[here], blurred[there] = blurred[there], blurred[here]
    return _blur(blurred, 0.7)


def _motion_blur(frame: Frame, random: np.random.Generator) -> Frame:
    """A one-sided trail within 45 degrees of horizontal, weighted by half a Gaussian with sigma 3 pixels."""
    angle = np.deg2rad(random.uniform(-45, 45))
    weights = np.exp(-(np.arange(21) ** 2) / (2 * 3.0**2))
    kernel = np.zeros((41, 41))
    for distance, weight in enumerate(weights / weights.sum()):
        kernel[round(20 + distance * np.sin(angle)), round(20 + distance * np.cos(angle))] += weight
    return np.asarray(cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.float64)


def _shear(frame: Frame, random: np.random.Generator) -> Frame:
    shear = 0.4 * _sign(random)
    return _warp(frame, [[1, -np.sin(shear)], [0, np.cos(shear)]])


def _scale(frame: Frame, _: np.random.Generator) -> Frame:
    return _warp(frame, [[1 / 0.7, 0], [0, 1 / 0.7]])


def _rotate(frame: Frame, random: np.random.Generator) -> Frame:
    angle = 0.4 * _sign(random)
    return _warp(frame, [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _brightness(frame: Frame, _: np.random.Generator) -> Frame:
    return frame + 0.5


def _translate(frame: Frame, random: np.random.Generator) -> Frame:
    return _warp(frame, [[1, 0], [0, 1]], (3.0 * _sign(random), 3.0 * _sign(random)))


def _stripe(frame: Frame, _: np.random.Generator) -> Frame:
    """Invert the left and the right quarter."""
    striped = frame.copy()
    striped[:, :7] = 1 - striped[:, :7]
    striped[:, 21:] = 1 - striped[:, 21:]
    return striped


def _fog(frame: Frame, random: np.random.Generator) -> Frame:
    brightest = frame.max()
    fog = 3 * _plasma(random, side=256, decay=1.4)[:SIDE_PX, :SIDE_PX]
    return np.asarray((frame + fog) * brightest / (brightest + 3), np.float64)


def _spatter(frame: Frame, random: np.random.Generator) -> Frame:
    """Drops of mud over ink and paper, a quarter as bright as the ink."""
    liquid = _blur(random.normal(0.65, 0.3, frame.shape), 1)
    mud = _blur((liquid > 0.65).astype(np.float64), 1.5)
    mud[mud < 0.8] = 0
    return frame * (1 - mud) + 63 / 255 * mud


def _dotted_line(frame: Frame, random: np.random.Generator) -> Frame:
    start, end = random.integers(0, SIDE_PX - 1, 2)
    line = _line(0, float(start), SIDE_PX - 1, float(end))
    gap = np.arange(SIDE_PX) // 2 % 2 == 0
    line[:, gap] = 0
    return frame + line


def _zigzag(frame: Frame, random: np.random.Generator) -> Frame:
    """A zigzag line across the image: teeth 2 pixels high, 2 pixels per side."""
    left, right, tooth = 2, 25, 2
    start = int(random.integers(0, SIDE_PX - 1))
    slope = np.arctan(int(random.integers(-5, 5)) / (right - left))
    length = (right - left) / np.cos(slope)
    teeth = int((length - tooth) // (2 * tooth)) + 1
    corners = [(0.0, 0.0), *(((2 * at + 1) * tooth, (-1) ** at * tooth) for at in range(teeth)), (length, 0.0)]
    turn = np.array([[np.cos(slope), -np.sin(slope)], [np.sin(slope), np.cos(slope)]])
    points = np.array(corners) @ turn.T + (left, start)
    drawn = frame
    for (column, row), (to_column, to_row) in pairwise(points):
        drawn = np.minimum(drawn + _line(column, row, to_column, to_row), 1)
    return drawn


def _canny_edges(frame: Frame, _: np.random.Generator) -> Frame:
    smooth = _blur(frame, 1)
    # thresholds 0.1 and 0.2 are for images in [0, 1]; cv2.Canny needs int16 gradients, here in units of 1/256
    gradients = [(cv2.Sobel(smooth, cv2.CV_64F, *order) * 256).astype(np.int16) for order in ((1, 0), (0, 1))]
    return cv2.Canny(gradients[0], gradients[1], 0.1 * 256, 0.2 * 256, L2gradient=True) / 255


def _applied(corruption: Corruption) -> Callable[[Images, int], Images]:
    def corrupt(images: Images, seed: int) -> Images:
        random = np.random.default_rng(seed)
        corrupted = [np.clip(corruption(image / 255, random), 0, 1) for image in images]
        return np.round(np.array(corrupted) * 255).astype(np.uint8)

    return corrupt


CORRUPTIONS: dict[str, Callable[[Images, int], Images]] = {
    corruption.__name__[1:]: _applied(corruption)
    for corruption in (
        _shot_noise, _impulse_noise, _glass_blur, _motion_blur, _shear, _scale, _rotate, _brightness, _translate,
        _stripe, _fog, _spatter, _dotted_line, _zigzag, _canny_edges,
    )
}  # fmt: skip


def _sign(random: np.random.Generator) -> int:
    return 1 if random.random() < 0.5 else -1


def _blur(frame: Frame, sigma: float) -> Frame:
    blurred = cv2.GaussianBlur(frame, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float64)


def _warp(frame: Frame, matrix: list[list[float]], shift: tuple[float, float] = (0, 0)) -> Frame:
    """The pixel at (x, y) comes from ``matrix`` (x, y) about the centre, plus ``shift``."""
    linear = np.array(matrix)
    offset = CENTRE - linear @ (CENTRE, CENTRE) + shift
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(frame, np.column_stack([linear, offset]), (SIDE_PX, SIDE_PX), flags=how))


def _line(column: float, row: float, to_column: float, to_row: float) -> Frame:
    """An antialiased line between two points: 1 on the line, 0 from 1.45 pixels above and below."""
    columns, rows = np.arange(SIDE_PX), np.arange(SIDE_PX)[:, np.newaxis]
    centre = row + (to_row - row) / (to_column - column) * (columns - column)
    away = np.minimum(np.abs(rows - centre) / 2.3, 1 - 1e-10)
    line: Frame = np.clip(np.log1p(-away) + 1, 0, 1)
    line[:, : int(np.floor(column))] = 0
    line[:, int(np.ceil(to_column)) :] = 0
    return line


def _plasma(random: np.random.Generator, side: int, decay: float) -> Frame:
    """A diamond-square height map on a torus, in [0, 1]. Source: Fournier, Fussell and Carpenter 1982."""
    heights = np.zeros((side, side))
    step, wobble = side, 100.0
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        across = corners + np.roll(corners, -1, axis=0)
        heights[half::step, half::step] = _wobbled(across + np.roll(across, -1, axis=1), wobble, random)
        centres = heights[half::step, half::step]
        along_rows = centres + np.roll(centres, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = _wobbled(along_rows, wobble, random)
        along_columns = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = _wobbled(along_columns, wobble, random)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return np.asarray(heights / heights.max(), np.float64)


def _wobbled(sums: Frame, wobble: float, random: np.random.Generator) -> Frame:
    return np.asarray(sums / 4 + wobble * random.uniform(-wobble, wobble, sums.shape), np.float64)
