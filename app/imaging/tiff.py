"""With what a TIFF is compressed, where that is why it cannot be read."""

from contextlib import suppress
from io import BytesIO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_COMPRESSION = 259  # the tag
_BIG_TIFF = 43  # the third byte, or the fourth
_READABLE = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}
_NAMES = {34661: "JBIG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}


def unreadable_compression(tiff: bytes) -> str | None:
    """Its name, or None where the compression can be read."""
    with suppress(Exception):  # a dozen types, by defect
        file = BytesIO(tiff)
        directory = ImageFileDirectory_v2(file.read(16 if _BIG_TIFF in tiff[2:4] else 8))
        file.seek(directory.next)
        directory.load(file)
        compression = int(directory.get(_COMPRESSION, 1))
        return None if compression in _READABLE else _NAMES.get(compression, f"method {compression}")
    return None
