"""A BMP whose colours lie in bit fields: OpenCV and Pillow know some layouts only, and OpenCV mixes up others."""

import struct

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

_BIT_FIELDS = 3  # the compression
_WITH_ALPHA = 56  # bytes of a header that has a mask of alpha


def has_bit_fields(bmp: bytes) -> bool:
    """Whether masks say where red, green, blue and perhaps alpha lie in a pixel."""
    return bmp[30:34] == struct.pack("<I", _BIT_FIELDS) and bmp[14] >= 40


def bit_field_pixels(bmp: bytes) -> MatLike:
    """As OpenCV would decode it, BGR or BGRA. Raises an error of any kind if the file is broken."""
    start, version, width, height, _, bits = struct.unpack_from("<IIiiHH", bmp, 10)
    red, green, blue, alpha = struct.unpack_from("<4I", bmp, 54)
    masks = (blue, green, red, alpha) if alpha and version >= _WITH_ALPHA else (blue, green, red)
    strides = (-(-width * bits // 32) * 4, bits // 8)
    pixels: NDArray[np.uint32] = np.ndarray((abs(height), width), f"<u{bits // 8}", bmp, start, strides)
    upright = pixels[:: -1 if height > 0 else 1]
    levels: MatLike = cv2.merge(
        [((upright & mask) * np.float32(255 / max(mask, 1)) + 0.5).astype(np.uint8) for mask in masks]
    )
    return levels
