"""Encoded bytes -> grey: depth, transparency and orientation. Knows no ink.

OpenCV decodes, in a third of Pillow's time, except where it would misread the picture or take too much memory.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
import pillow_heif
from cv2.typing import MatLike
from PIL import Image

from app.imaging import heif, tiff
from app.imaging.bmp import has_bit_fields, read_bit_fields
from app.imaging.formats import is_halved, orientation_of, undecodable
from app.imaging.headers import Encoded
from app.imaging.pixels import Grey, as_uint8, composite, multiply, on_ground, to_grey
from app.imaging.png import bounded_png

_REDUCED_PX = 400  # a JPEG is decoded at 1/2, 1/4 or 1/8 as long as its longest side stays at least this
_REDUCED_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
# One channel at the original depth. `_orient` alone turns it: OpenCV would hold a second copy.
_HALVED_FLAGS = cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_BLOCK_PIXELS = 2**15  # of the half size, converted at a time: intermediate results are many times as large
_DEEP_MODES = {"I", "I;16", "I;16B", "I;16L", "F"}  # Pillow's, of more than 8 bits
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


def decode(image: Encoded) -> Decoded:
    """Grey, upright, transparency composited over white (over black where white would hide the ink).

    Raises UndecodableImage.
    """
    try:
        grey = _decode(image)
    except Exception as error:  # cv2.error, OSError, and whatever else a codec raises
        raise undecodable(image.data, image.kind) from error
    if image.kind == "HEIC":  # never reduced; libheif turns and crops it
        return Decoded(grey, grey.shape[1], grey.shape[0])
    turned = (grey.shape[0] > grey.shape[1]) != (image.height > image.width)
    return Decoded(grey, *((image.height, image.width) if turned else (image.width, image.height)))


def encode_png(grey: Grey) -> bytes:
    """A grey image, uint8 (height, width), as PNG."""
    _, data = cv2.imencode(".png", grey)
    return data.tobytes()


def _decode(image: Encoded) -> Grey:
    data, header = image.data, image.header
    if image.kind == "JPEG":
        return _jpeg(image)
    if image.kind == "PNG":
        data = bounded_png(image)
    if image.kind in ("HEIC", "AVIF"):
        heif.check_parts(data)
    if image.kind == "HEIC":
        return to_grey(_heic_pixels(data))
    if image.kind == "BMP" and has_bit_fields(data):
        return composite(*read_bit_fields(data, 2 if is_halved(image) else 1))
    if is_halved(image) or image.kind == "AVIF":
        header = header or Image.open(BytesIO(data), formats=[image.kind])
    orientation = orientation_of(header) if header and image.kind == "AVIF" else image.orientation
    if header and is_halved(image):
        return _orient(_halved(data, header), orientation)
    if header and _needs_pillow(header):
        return _orient(to_grey(_pillow_pixels(header)), orientation)
    unspecified = image.kind == "BMP" or (header and image.kind == "TIFF" and not header.has_transparency_data)
    return _orient(to_grey(_imdecode(data, cv2.IMREAD_UNCHANGED), has_alpha=not unspecified), orientation)


def _jpeg(image: Encoded) -> Grey:
    """Never transparent. OpenCV turns it upright; Pillow decodes what OpenCV cannot, or not without lines on stderr."""
    reduction = _reduction(image.width, image.height)
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


def _reduction(width: int, height: int) -> int:
    reduction = 1
    while reduction < 8 and max(width, height) >= 2 * reduction * _REDUCED_PX:
        reduction *= 2
    return reduction


def _imdecode(data: bytes, flags: int) -> MatLike:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("OpenCV cannot decode it")
    return pixels


def _heic_pixels(data: bytes) -> MatLike:
    """Upright, its channels in OpenCV's order."""
    picture = pillow_heif.open_heif(data, bgr_mode=True)
    if picture.premultiplied_alpha:
        return _pillow_pixels(pillow_heif.open_heif(data).to_pillow())
    return np.asarray(picture)


def _needs_pillow(header: Image.Image) -> bool:
    """Whether OpenCV would misread it, or take twice the memory for it (AVIF)."""
    if header.format == "TIFF" and tiff.needs_pillow(tiff.tags_of(header)):
        return True
    return header.format == "AVIF" or header.mode == "CMYK"  # a fourth ink is no transparency


def _pillow_pixels(picture: Image.Image) -> MatLike:
    """As OpenCV would decode it."""
    if picture.has_transparency_data:
        straight = picture.convert("LA") if picture.mode == "La" else picture
        return cv2.cvtColor(np.array(straight.convert("RGBA")), cv2.COLOR_RGBA2BGRA)
    return np.array(picture if picture.mode in _DEEP_MODES else picture.convert("L"))


def _halved(data: bytes, header: Image.Image) -> Grey:
    """At half the size. Where OpenCV would hold all channels, Pillow decodes, and the rest is done block by block."""
    transparent = header.has_transparency_data
    if header.format == "WEBP" and transparent:  # Pillow would hold four copies
        return to_grey(_imdecode(data, cv2.IMREAD_UNCHANGED))
    if not (transparent or _needs_pillow(header) or header.format == "GIF"):
        return to_grey(_imdecode(data, _HALVED_FLAGS))
    header.load()
    if "A" in header.getbands():
        lowest, highest = header.getchannel("A").getextrema()
        transparent = lowest != highest
    width, height = header.size
    grey, alpha = (np.empty(((height + 1) // 2, (width + 1) // 2), np.uint8) for _ in range(2))
    for block in _blocks(grey):
        part = header.crop((0, 2 * block.start, width, min(2 * block.stop, height)))
        size = (grey.shape[1], len(grey[block]))
        if not transparent:
            grey[block] = cv2.resize(np.array(part.convert("L")), size, interpolation=cv2.INTER_AREA)
            continue
        levels, opaque = (np.array(band) for band in part.convert("LA").split())
        grey[block] = cv2.resize(multiply(levels, opaque), size, interpolation=cv2.INTER_AREA)
        alpha[block] = cv2.resize(opaque, size, interpolation=cv2.INTER_AREA)
    return on_ground(grey, alpha) if transparent else grey


def _blocks(grey: Grey) -> Iterator[slice]:
    """Slices of its rows, about `_BLOCK_PIXELS` each."""
    rows = max(1, _BLOCK_PIXELS // grey.shape[1])
    return (slice(top, min(top + rows, len(grey))) for top in range(0, len(grey), rows))


def _orient(grey: Grey, orientation: int) -> Grey:
    flip, turn = _FLIP_AND_TURN.get(orientation, (None, None))
    flipped = grey if flip is None else cv2.flip(grey, flip)
    return as_uint8(flipped if turn is None else cv2.rotate(flipped, turn))
