"""Encoded bytes -> grey: depth, transparency and orientation. Knows no ink.

OpenCV decodes, in a third of Pillow's time, except where it would misread the picture or take too much memory.
"""

from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from PIL import Image

from app.imaging.bmp import bit_field_pixels, has_bit_fields
from app.imaging.formats import undecodable
from app.imaging.headers import Encoded, orientation_of
from app.imaging.pixels import Grey, as_uint8, to_grey
from app.imaging.png import check_inflated

_REDUCED_PX = 400  # a JPEG is decoded at 1/2, 1/4 or 1/8 as long as its longest side stays at least this
_REDUCED_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
# One channel at the original depth, as stored
_OPAQUE_FLAGS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_LARGE_PIXELS = 2**22  # above this, halved
_BITS_PER_SAMPLE = 258  # the tag of TIFF
# Two ends for a JPEG that has none, with every restart marker: pixels that are missing differ between them.
_JPEG_ENDS = [
    b"".join(filler + bytes([0xFF, 0xD0 + number]) for number in range(8)) + b"\xff\xd9"
    for filler in (bytes(64), b"\x5a\xc3\x71\x2e" * 16)
]
_FLIP_AND_TURN: dict[int, tuple[int | None, int | None]] = {  # EXIF 2.3, table 4: (cv2.flip code, cv2.rotate code)
    2: (1, None),
    3: (None, cv2.ROTATE_180),
    4: (0, None),
    5: (1, cv2.ROTATE_90_COUNTERCLOCKWISE),
    6: (None, cv2.ROTATE_90_CLOCKWISE),
    7: (1, cv2.ROTATE_90_CLOCKWISE),
    8: (None, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


class Decoded(NamedTuple):
    """``grey``: uint8, upright, perhaps reduced. ``width``, ``height``: of the upright original, in pixels."""

    grey: Grey
    width: int
    height: int


def decode(image: Encoded, reduced_px: int = _REDUCED_PX) -> Decoded:
    """Grey, upright, transparency composited over white (over black where white would hide the ink).

    A JPEG may be reduced, but not below ``reduced_px`` on its longest side. Raises UndecodableImage.
    """
    try:
        grey = _decode(image, reduced_px)
    except Exception as error:  # cv2.error, OSError, and whatever else a codec raises
        raise undecodable(image.data, image.kind, error) from error
    height, width = grey.shape
    if image.kind == "JPEG":
        is_turned = (height > width) != (image.height > image.width)
        width, height = (image.height, image.width) if is_turned else (image.width, image.height)
    if grey.size > _LARGE_PIXELS:
        grey = as_uint8(cv2.resize(grey, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA))
    return Decoded(grey, width, height)


def encode_png(grey: Grey) -> bytes:
    """A grey image, uint8 (height, width), as PNG."""
    _, data = cv2.imencode(".png", grey)
    return data.tobytes()


def _decode(image: Encoded, reduced_px: int) -> Grey:
    if image.kind == "JPEG":
        return _jpeg(image, reduced_px)
    if image.kind == "BMP" and has_bit_fields(image.data):
        return to_grey(bit_field_pixels(image.data))
    if image.header and not _needs_opencv(image.header):
        pixels = _pillow_pixels(image.header)
    else:
        if image.kind == "PNG":
            check_inflated(image.data, is_cut=image.is_cut)
        pixels = _imdecode(image.data, _OPAQUE_FLAGS if image.is_opaque else cv2.IMREAD_UNCHANGED)
    return _orient(to_grey(pixels), image.orientation)


def _jpeg(image: Encoded, reduced_px: int) -> Grey:
    """Never transparent. OpenCV turns it upright; Pillow decodes what OpenCV cannot, or not without lines on stderr."""
    longest = max(image.width, image.height)
    reduction = max((each for each in _REDUCED_FLAGS if longest >= each * reduced_px), default=1)
    if image.is_cut:
        length = len(image.data.rstrip(b"\0"))  # zeros may fill what was never written; one may belong to the data
        data = image.data[: length + 1].rstrip(b"\xff")
        one, other = (_jpeg_by_pillow(data + end, reduction) for end in _JPEG_ENDS)
        if not np.array_equal(one, other):
            raise ValueError("pixels are missing")
        return one
    if image.channels == 4:
        return _jpeg_by_pillow(image.data, reduction)
    return as_uint8(_imdecode(image.data, _REDUCED_FLAGS[reduction]))


def _jpeg_by_pillow(data: bytes, reduction: int) -> Grey:
    picture = Image.open(BytesIO(data), formats=["JPEG"])
    picture.draft("L", (picture.width // reduction, picture.height // reduction))
    return _orient(np.array(picture.convert("L")), orientation_of(picture))


def _imdecode(data: bytes, flags: int) -> MatLike:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("OpenCV cannot decode it")
    return pixels


def _needs_opencv(header: Image.Image) -> bool:
    """Pillow makes 8 bits of colours of 16, no grey of L*a*b*, and takes longer for WebP."""
    bits = getattr(header, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    return (
        header.format == "WEBP" or header.mode == "LAB" or (len(bits) > 1 and max(bits) > 8 and header.mode != "CMYK")
    )


def _pillow_pixels(picture: Image.Image) -> MatLike:
    """As OpenCV would decode it."""
    if picture.has_transparency_data:
        straight = picture.convert("LA") if picture.mode == "La" else picture
        return cv2.cvtColor(np.array(straight.convert("RGBA")), cv2.COLOR_RGBA2BGRA)
    if picture.mode.startswith("I;16"):
        return np.array(picture).astype(np.uint16)
    return np.array(picture if picture.mode in {"I", "F"} else picture.convert("L"))


def _orient(grey: Grey, orientation: int) -> Grey:
    flip, turn = _FLIP_AND_TURN.get(orientation, (None, None))
    flipped = grey if flip is None else cv2.flip(grey, flip)
    return as_uint8(flipped if turn is None else cv2.rotate(flipped, turn))
