"""A BMP whose colours lie in bit fields: OpenCV and Pillow know some layouts only, and OpenCV mixes up others."""

import struct

import numpy as np
from numpy.typing import NDArray

from app.imaging.pixels import Grey

_BIT_FIELDS = 3  # the compression
_WITH_ALPHA = 56  # bytes of a header that has a mask of alpha
_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in grey: ITU-R BT.601, as OpenCV has it
_ROWS = 16  # at a time: intermediate results are several times as large as the picture


def has_bit_fields(bmp: bytes) -> bool:
    """Whether masks say where red, green, blue and perhaps alpha lie in a pixel."""
    return bmp[30:34] == struct.pack("<I", _BIT_FIELDS) and bmp[14] >= 40


def read_bit_fields(bmp: bytes, step: int) -> tuple[Grey, Grey]:
    """Grey and alpha of each ``step``-th row and column. Raises an error of any kind if the file is broken."""
    start, version, width, height, _, bits = struct.unpack_from("<IIiiHH", bmp, 10)
    *masks, opaque = struct.unpack_from("<4I", bmp, 54)
    opaque = opaque if version >= _WITH_ALPHA else 0
    strides = (-(-width * bits // 32) * 4, bits // 8)
    pixels: NDArray[np.uint32] = np.ndarray((abs(height), width), f"<u{bits // 8}", bmp, start, strides)
    pixels = pixels[:: -1 if height > 0 else 1][::step, ::step]
    grey, alpha = np.empty(pixels.shape, np.uint8), np.full(pixels.shape, 255, np.uint8)
    for top in range(0, len(pixels), _ROWS):
        rows = pixels[top : top + _ROWS].astype(np.uint32)
        levels = [(rows & np.uint32(mask)) / max(mask, 1) for mask in (*masks, opaque)]
        grey[top : top + _ROWS] = 255 * sum(map(np.multiply, _WEIGHTS, levels)) + 0.5
        if opaque:
            alpha[top : top + _ROWS] = 255 * levels[3] + 0.5
    return grey, alpha
