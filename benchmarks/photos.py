"""A synthetic 12-megapixel photograph of a digit, and what OpenCV needs to decode it."""

import time

import cv2
import numpy as np

WIDTH_PX, HEIGHT_PX = 4000, 3000
QUALITY = 90
_PEN_PX = 90
_SEVEN = np.array([[1400, 780], [1950, 740], [2560, 730], [2330, 1250], [2060, 1800], [1880, 2300]], np.int32)
_LIGHT, _DIM, _INK = 205.0, 150.0, 60.0  # grey levels of two corners of the paper, and of the ink
_NOISE = 14.0  # grey levels, before blurring


def photo() -> bytes:
    """A JPEG of 12 megapixels: a 7 on paper, light from one side, camera noise; the same bytes every time."""
    rows, columns = np.mgrid[0 : 1 : HEIGHT_PX * 1j, 0 : 1 : WIDTH_PX * 1j].astype(np.float32)
    light = _LIGHT + (_DIM - _LIGHT) * (0.7 * columns + 0.3 * rows)
    pen = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    cv2.polylines(pen, [_SEVEN], isClosed=False, color=255, thickness=_PEN_PX, lineType=cv2.LINE_AA)
    covered = cv2.GaussianBlur(pen, (0, 0), 3).astype(np.float32)[:, :, None] / 255
    noise = np.random.default_rng(0).normal(0, _NOISE, (HEIGHT_PX, WIDTH_PX, 3)).astype(np.float32)
    warm = np.array([0.90, 0.97, 1.0], np.float32)  # blue, green, red
    picture = light[:, :, None] * warm * (1 - covered) + _INK * covered + cv2.GaussianBlur(noise, (0, 0), 0.6)
    _, jpeg = cv2.imencode(".jpg", np.clip(picture, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return jpeg.tobytes()


def full_decode_ms(jpeg: bytes, flags: int = cv2.IMREAD_COLOR) -> float:
    """Milliseconds of `cv2.imdecode` at full size, on one thread."""
    cv2.setNumThreads(1)
    started = time.perf_counter()
    cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)
    return (time.perf_counter() - started) * 1000
