"""TIFF files that Pillow's errors do not explain: kinds that no decoder reads, and pixels that are nowhere stored."""

from contextlib import suppress
from io import BytesIO

from PIL import ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_BITS, _COMPRESSION, _COLOURS, _CHANNELS, _PLANES, _FORM = 258, 259, 262, 277, 284, 339  # tags
_BIG_TIFF = 43  # the third byte, or the fourth
_READABLE = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000}  # compressions
_JPEG = {6, 7}
_NAMES = {34661: "JBIG", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL"}
_FORMS = {1: "integers", 2: "signed integers", 3: "floats", 5: "complex numbers", 6: "complex numbers"}
_USUAL_BITS, _USUAL_CHANNELS, _USUAL_COLOURS = {1, 8, 16}, {1, 3, 4}, {0, 1, 2, 3, 5, 6, 8}


def unreadable_kind(tiff: bytes, error: Exception) -> str | None:
    """What the file has that no decoder reads, if that may be the reason of ``error``; None if it is broken."""
    with suppress(Exception):  # a dozen types, by defect
        file = BytesIO(tiff)
        directory = ImageFileDirectory_v2(file.read(16 if _BIG_TIFF in tiff[2:4] else 8))
        file.seek(directory.next)
        directory.load(file)
        compression = int(directory.get(_COMPRESSION, 1))
        if compression not in _READABLE:
            return f"is compressed with {_NAMES.get(compression, f'method {compression}')}"
        bits, channels, form = max(directory[_BITS]), directory.get(_CHANNELS, 1), directory.get(_FORM, (1,))[0]
        if isinstance(error, UnidentifiedImageError) or (compression in _JPEG and bits > 8):
            if (colours := directory[_COLOURS]) not in _USUAL_COLOURS:
                return f"has colours of kind {colours}"
            if form != 1 or channels not in _USUAL_CHANNELS or bits not in _USUAL_BITS:
                return f"has {channels} channel{'s' * (channels > 1)} of {bits}-bit {_FORMS.get(form, 'values')}"
    return None


def is_covered(header: ImageFile.ImageFile) -> bool:
    """Whether the strips or tiles of an uncompressed file hold all its pixels. libtiff checks those of the others."""
    tags, covered = getattr(header, "tag_v2", {}), 0
    planes = tags.get(_CHANNELS, 1) if tags.get(_PLANES) == 2 else 1
    for decoder, box, offset, _ in header.tile:
        if decoder == "libtiff":
            return True
        if box and offset:
            left, top, right, bottom = box
            covered += (right - left) * (bottom - top)
    return bool(covered >= planes * header.width * header.height)
