"""Distortions of drawings before preprocessing: writer, pen, paper, camera. Pure functions of a random generator.

A drawing is alpha, float32 (height, width) in [0, 1], 1 = pen. `photograph` turns it into a grey picture, uint8.
Worker processes import this module.
"""

import cv2
import numpy as np

from app.imaging.pixels import Grey
from training.drawing.pens import Alpha


def warp(alpha: Alpha, random: np.random.Generator, strength: float = 1.0) -> Alpha:
    """Randomly slanted, rotated, stretched and bent, with a margin added.

    Elastic displacements after Simard, Steinkraus and Platt 2003: a coarse random field, interpolated.
    """
    height, width = alpha.shape
    side = max(height, width)
    pad = side // 5 + 2
    rows, columns = height + 2 * pad, width + 2 * pad
    angle = random.normal(0, 0.13 * strength)
    shear = random.normal(0, 0.16 * strength)
    stretch_x, stretch_y = np.exp(random.normal(0, 0.12 * strength, 2))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = matrix @ np.array([[stretch_x, shear], [0, stretch_y]])
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    x, y = x - columns / 2 + 0.5, y - rows / 2 + 0.5
    cells = int(random.integers(3, 7))
    size = side * random.uniform(0, 0.075) * strength * (3 / cells)
    field = random.normal(0, size, (cells + 2, cells + 2, 2)).astype(np.float32)
    bend = cv2.resize(field, (columns, rows), interpolation=cv2.INTER_CUBIC)
    source_x = (matrix[0, 0] * x + matrix[0, 1] * y + width / 2 - 0.5).astype(np.float32) + bend[..., 0]
    source_y = (matrix[1, 0] * x + matrix[1, 1] * y + height / 2 - 0.5).astype(np.float32) + bend[..., 1]
    return cv2.remap(alpha, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).astype(np.float32)


def change_pen(alpha: Alpha, random: np.random.Generator) -> Alpha:
    """Thicker or thinner strokes, at three times the size: stroke width changes by thirds of a pixel."""
    factor = 3
    large = cv2.resize(alpha, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    change = int(random.integers(-3, 8))  # in thirds of a pixel
    if change:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (abs(change) + 1, abs(change) + 1))
        large = cv2.dilate(large, kernel) if change > 0 else cv2.erode(large, kernel)
    if random.random() < 0.5:  # hard edges
        large = np.clip((large - 0.5) * random.uniform(1.5, 6) + 0.5, 0, 1)
    return np.clip(large, 0, 1).astype(np.float32)


def outline(alpha: Alpha, random: np.random.Generator) -> Alpha:
    """Hollow strokes, as from edge filters or outline pens, at three times the size."""
    large = cv2.resize(alpha, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    padded = np.pad((large > random.uniform(0.3, 0.6)).astype(np.float32), 4)
    size = int(random.integers(2, 4))
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (size, size))
    hollow: Alpha = np.clip(cv2.dilate(padded, kernel) - cv2.erode(padded, kernel), 0, 1).astype(np.float32)
    return hollow


def squared(alpha: Alpha, random: np.random.Generator) -> Alpha:
    """Cropped to its ink and resized towards a square, as many programs do; half of the time black and white."""
    x, y, width, height = cv2.boundingRect((alpha > 0.2).astype(np.uint8))
    if not width or not height:
        return alpha
    side = int(random.integers(12, 29))
    longest = max(width, height)
    shorter = random.uniform(0.5, 1) * longest
    size = [round(side * max(length, min(shorter, 2 * length)) / longest) for length in (width, height)]
    cut = cv2.resize(alpha[y : y + height, x : x + width], size, interpolation=cv2.INTER_AREA)
    if random.random() < 0.5:  # local threshold: a global one would erase hairlines
        cut = (cut > random.uniform(0.3, 0.6) * cv2.dilate(cut, np.ones((5, 5)))).astype(np.float32)
    return np.pad(cut / cut.max(), 1).astype(np.float32)


def strike(alpha: Alpha, random: np.random.Generator) -> Alpha:
    """A straight, dotted or zigzag line across the drawing, thinner than its strokes."""
    height, width = alpha.shape
    side = max(height, width)
    steps = min(max(8, side // 2), 21)
    x = np.linspace(-0.05, 1.05, steps) * width
    start, end = random.uniform(0.05, 0.95, 2)
    y = (start + (end - start) * np.linspace(0, 1, steps)) * height
    kind = random.random()
    if kind < 0.5:
        y += side * random.uniform(0.03, 0.09) * np.where(np.arange(steps) % 4 < 2, 1, -1)
    points = np.stack([x, y] if random.random() < 0.75 else [y * width / height, x * height / width], axis=1)
    pieces = [points] if kind < 0.75 else [points[at : at + 2] for at in range(0, steps - 1, 2 + (steps > 20))]
    frame = np.zeros(alpha.shape, np.uint8)
    thickness = max(1, round(side * random.uniform(0.01, 0.05)))
    lines = [np.round(piece * 16).astype(np.int32) for piece in pieces]
    cv2.polylines(frame, lines, False, int(random.uniform(120, 255)), thickness, cv2.LINE_AA, 4)
    struck: Alpha = np.maximum(alpha, frame.astype(np.float32) / np.float32(255))
    return struck


def photograph(alpha: Alpha, random: np.random.Generator) -> Grey:
    """A picture of the drawing, with paper, light, ruled lines, dirt, blur, noise, compression and polarity."""
    grown = _on_sheet(alpha, random)
    height, width = grown.shape
    side = max(height, width)
    paper = np.full((height, width), random.uniform(150, 255), np.float32)
    if random.random() < 0.5:
        paper *= _light(random, height, width)
    contrast = random.uniform(35, 230)
    if random.random() < 0.25:
        _rule(paper, random, contrast)
    picture = paper - grown * np.minimum(contrast, paper)
    if random.random() < 0.15:
        for _ in range(random.integers(1, 6)):
            x, y = int(random.integers(width)), int(random.integers(height))
            cv2.circle(picture, (x, y), int(random.integers(0, max(2, side // 50))), float(random.uniform(0, 200)), -1)
    if random.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.3, 0.012 * side + 0.6)).astype(np.float32)
    if random.random() < 0.5:
        picture += random.normal(0, random.uniform(0.5, min(8.0, contrast / 8)), picture.shape).astype(np.float32)
    grey = np.clip(picture, 0, 255).astype(np.uint8)
    chance = random.random()
    if chance < 0.08:
        _add_noise(grey, random, contrast)
    elif chance < 0.14:
        _kill_pixels(grey, random)
    if random.random() < 0.35:
        quality = int(random.integers(25, 95))
        _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
        assert decoded is not None
        grey = decoded.astype(np.uint8)
    negative: Grey = 255 - grey
    return negative if random.random() < 0.3 else grey


def as_grey(alpha: Alpha) -> Grey:
    """The drawing as it is, light on dark."""
    return (np.clip(alpha, 0, 1) * 255).astype(np.uint8)


def _add_noise(grey: Grey, random: np.random.Generator, contrast: float) -> None:
    """Add sensor noise or photon noise in place. Photon noise grows with brightness."""
    if random.random() < 0.6:
        noise = random.normal(0, contrast * random.uniform(0.05, 0.25), grey.shape)
    else:
        photons = random.uniform(2, 12)
        noise = (255.0 - grey) - random.poisson((255 - grey) / 255 * photons) / photons * 255
    np.copyto(grey, np.clip(grey + noise, 0, 255).astype(np.uint8))


def _kill_pixels(grey: Grey, random: np.random.Generator) -> None:
    """Set random pixels to black or white in place."""
    dead = random.random(grey.shape) < random.uniform(0.002, 0.2)
    grey[dead] = np.where(random.random(grey.shape) < 0.5, 0, 255)[dead]


def _on_sheet(alpha: Alpha, random: np.random.Generator) -> Alpha:
    """Cropped to its ink, with a random margin or almost none."""
    x, y, width, height = cv2.boundingRect((alpha > 0.2).astype(np.uint8))
    if not width or not height:
        return alpha
    cut = alpha[y : y + height, x : x + width]
    if random.random() < 0.15:  # the ink touches the border on some sides
        top, bottom, left, right = (int(side) for side in random.integers(0, 4, 4))
    else:
        most = int(max(width, height) * random.uniform(0.1, 1.2)) + 3
        top, bottom, left, right = (int(side) for side in random.integers(2, most, 4))
    return cv2.copyMakeBorder(cut, top, bottom, left, right, cv2.BORDER_CONSTANT).astype(np.float32)


def _light(random: np.random.Generator, height: int, width: int) -> Alpha:
    """A gradient, a vignette or the soft edge of a shadow; 1 = full light."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle = random.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    depth = random.uniform(0.05, 0.45)
    kind = random.random()
    if kind < 0.5:
        light = 1 - depth * (along + 1.4) / 2.8
    elif kind < 0.8:
        light = 1 - depth * (x**2 + y**2) / 2
    else:
        edge = random.uniform(-0.7, 0.7)
        light = 1 - depth / (1 + np.exp(-(along - edge) * random.uniform(3, 15)))
    return np.asarray(light, np.float32)


def _rule(paper: Alpha, random: np.random.Generator, contrast: float) -> None:
    """Draw ruled lines, a grid or a frame onto the paper, usually paler than the ink."""
    height, width = paper.shape
    side = max(height, width)
    level = float(paper.mean() - contrast * random.uniform(0.1, 0.6))
    thickness = 1 if side < 60 else int(random.integers(1, 3))
    if random.random() < 0.3:  # a frame
        inset = int(random.integers(0, max(1, side // 20) + 1))
        cv2.rectangle(paper, (inset, inset), (width - 1 - inset, height - 1 - inset), level, thickness)
        return
    gap = max(6, int(side * random.uniform(0.15, 0.5)))
    start = int(random.integers(gap))
    for y in range(start, height, gap):
        cv2.line(paper, (0, y), (width, y + int(random.integers(-2, 3))), level, thickness)
    if random.random() < 0.4:
        for x in range(start, width, gap):
            cv2.line(paper, (x, 0), (x + int(random.integers(-2, 3)), height), level, thickness)
