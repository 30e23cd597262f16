"""What the tags of a TIFF say: which decoder reads it, and with what it is compressed."""

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_COMPRESSION = 259
_TILE_WIDTH = 322
_EXTRA_SAMPLES = 338
_BIG_TIFF = 43  # the third byte, or the fourth

_OLD_JPEG, _LZMA, _ZSTD = 6, 34925, 50000
_PILLOW_COMPRESSIONS = {_OLD_JPEG, _LZMA, _ZSTD}  # that OpenCV does not read
_READABLE = {1, 2, 3, 4, 5, 7, 8, 32773, 32946} | _PILLOW_COMPRESSIONS
_NAMES = {
    9: "JBIG",
    10: "JBIG",
    22610: "JPEG XR",
    32766: "NeXT",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI Log",
    34677: "SGI Log",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}


def tags_of(header: Image.Image | None) -> Mapping[int, Any]:
    """Empty for other formats."""
    tags: Mapping[int, Any] = getattr(header, "tag_v2", {})
    return tags


def needs_pillow(tags: Mapping[int, Any]) -> bool:
    """Whether OpenCV cannot read it, would turn each of its tiles by itself, or drop alpha or multiply it twice."""
    turned_in_tiles = _TILE_WIDTH in tags and tags.get(ORIENTATION, 1) != 1
    unknown = _compression(tags) in _PILLOW_COMPRESSIONS or tags.get(_BITS_PER_SAMPLE) in {(2,), (4,)}
    has_alpha = _EXTRA_SAMPLES in tags and set(tags.get(_BITS_PER_SAMPLE, ())) == {8}
    return turned_in_tiles or unknown or has_alpha


def unreadable_compression(tiff: bytes) -> str | None:
    """The name of its compression, if that is why it cannot be read."""
    with suppress(Exception):  # a dozen types, by defect
        file = BytesIO(tiff)
        directory = ImageFileDirectory_v2(file.read(16 if _BIG_TIFF in tiff[2:4] else 8))
        file.seek(directory.next)
        directory.load(file)
        compression = _compression(directory)
        return None if compression in _READABLE else _NAMES.get(compression, f"method {compression}")
    return None


def _compression(tags: Mapping[int, Any]) -> int:
    return int(tags.get(_COMPRESSION, 1))
