"""Encoded bytes -> grey. Owns formats, limits, orientation, transparency and depth; knows nothing of ink.

Pillow reads headers (format, size, orientation) before a pixel is decoded; OpenCV decodes, in a third of the time.
Both must find the file good: what either refuses is broken. Of a small PNG without metadata the size is read here.
"""

from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray
from PIL import Image

from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType

Grey = NDArray[np.uint8]

MAX_PIXELS = 50_000_000

_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}  # those that decide pixels
_BARE_BYTES = 64 * 1024  # the largest PNG of which it is seen whether it has metadata
_READERS = {"JPEG": ["JPEG", "MPO"]}  # cameras append pictures to a JPEG: Pillow calls that MPO
_REDUCED_PX = 800  # a JPEG is decoded at 1/2, 1/4 or 1/8 as long as its longest side stays at least this
_REDUCED_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_BLOCK_PIXELS = 2**18
_BLANK_RANGE = 16  # grey levels: a picture with less than this over white shows nothing
_ORIENTATION = 0x0112  # EXIF's tag
_METADATA = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # where Pillow finds it
_FLIP_AND_TURN: dict[int, tuple[int | None, int | None]] = {  # EXIF 2.3, table 4: (cv2.flip code, cv2.rotate code)
    2: (1, None),
    3: (None, cv2.ROTATE_180),
    4: (0, None),
    5: (1, cv2.ROTATE_90_COUNTERCLOCKWISE),
    6: (None, cv2.ROTATE_90_CLOCKWISE),
    7: (1, cv2.ROTATE_90_CLOCKWISE),
    8: (None, cv2.ROTATE_90_COUNTERCLOCKWISE),
}

cv2.setNumThreads(1)  # requests share the cores; threads within one picture would fight over them
Image.MAX_IMAGE_PIXELS = None  # our own bound answers instead, with our own error
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else each broken image writes to standard error


@dataclass(frozen=True)
class Encoded:
    """An image whose header was read and whose pixels were not. ``width``, ``height``: as stored, in pixels.

    ``header``: as Pillow read it; None for what has no metadata.
    """

    data: bytes
    kind: str
    width: int
    height: int
    header: Image.Image | None


@dataclass(frozen=True)
class Decoded:
    """``grey``: uint8, oriented, perhaps reduced. ``width``, ``height``: of the original, oriented, in pixels."""

    grey: Grey
    width: int
    height: int


def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Encoded:
    """What the header tells. Raises UnsupportedMediaType, UndecodableImage, or TooLarge beyond ``max_pixels``."""
    kind = _format_of(data)
    try:
        header = None if _is_bare(data, kind) else Image.open(BytesIO(data), formats=_READERS.get(kind, [kind]))
    except Exception as error:  # a dozen kinds, by format and by what is broken
        raise UndecodableImage(f"The {kind} header is broken: save the image again and resend it.") from error
    width, height = header.size if header else (int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    if width * height > max_pixels:
        raise TooLarge(f"The image has more than {max_pixels} pixels: scale it down and resend it.")
    return Encoded(data, kind, width, height, header)


def decode(image: Encoded) -> Decoded:
    """Grey, orientation obeyed, transparency composited over white (over black where white would hide the ink).

    Raises UndecodableImage.
    """
    header = image.header
    try:
        data = _essential_chunks(image.data) if image.kind == "PNG" else image.data
        if header is None:
            grey = _to_grey(_imdecode(data, cv2.IMREAD_UNCHANGED))
        elif header.mode == "CMYK":  # OpenCV would take a TIFF's fourth ink for transparency
            grey = _orient(np.array(header.convert("L")), header)
        elif header.mode == "LA" and image.kind == "TIFF":  # whose transparency OpenCV would leave out
            grey = _composite(*(np.array(band) for band in header.split()))
        elif image.kind == "JPEG":  # never transparent, and turned upright by OpenCV itself
            grey = _uint8(_imdecode(data, _REDUCED_FLAGS[_reduction(image.width, image.height)]))
        else:
            grey = _orient(_to_grey(_imdecode(data, cv2.IMREAD_UNCHANGED)), header)
    except Exception as error:  # cv2.error, OSError, and what a codec may raise next
        raise UndecodableImage(f"The {image.kind} data is broken: save the image again and resend it.") from error
    turned = (grey.shape[0] > grey.shape[1]) != (image.height > image.width)
    return Decoded(grey, *((image.height, image.width) if turned else (image.width, image.height)))


def encode_png(grey: Grey) -> bytes:
    """A grey image, uint8 (height, width), as PNG."""
    _, data = cv2.imencode(".png", grey)
    return data.tobytes()


def _format_of(data: bytes) -> str:
    for kind, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise UnsupportedMediaType("The content is no image of a known format: send PNG, JPEG, WebP, BMP, TIFF or GIF.")


def _is_bare(data: bytes, kind: str) -> bool:
    """Whether it is a small PNG that holds a header, pixels and nothing else. Raises as `_essential_chunks` does."""
    whole = len(data) <= _BARE_BYTES and data[12:16] == b"IHDR" and data[-8:-4] == b"IEND"
    return kind == "PNG" and whole and _essential_chunks(data) == data


def _essential_chunks(png: bytes) -> bytes:
    """The file without what decides no pixel. Raises ValueError when a chunk claims to be longer than the file.

    OpenCV reserves and clears what a chunk claims, up to 4 GiB; libpng prints the names of broken profiles and texts.
    """
    place = len(_SIGNATURES["PNG"][0])
    kept = [png[:place]]
    while place < len(png):
        kind = png[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(png[place : place + 4])  # length, kind and checksum around the data
        if end > len(png):
            raise ValueError("a chunk is longer than the file")
        if kind in _PNG_CHUNKS:
            kept.append(png[place:end])
        place = end
        if kind == b"IEND":
            break
    return b"".join(kept)


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


def _to_grey(pixels: MatLike) -> Grey:
    """uint8 (height, width) of any depth and any number of channels, in OpenCV's order (BGR, BGRA)."""
    if pixels.dtype == np.uint16:
        pixels = _uint8(pixels.astype(np.uint16) >> 8)
    elif pixels.dtype != np.uint8:  # scientific TIFFs: whatever range they use becomes ours
        floats = np.nan_to_num(pixels.astype(np.float32))
        pixels = cv2.normalize(floats, floats, 0, 255, cv2.NORM_MINMAX)
    bytes_ = _uint8(pixels)
    if bytes_.ndim == 2:
        return bytes_
    if bytes_.shape[2] == 4:
        return _composite(_uint8(cv2.cvtColor(bytes_, cv2.COLOR_BGRA2GRAY)), bytes_[:, :, 3])
    return _uint8(cv2.cvtColor(bytes_, cv2.COLOR_BGR2GRAY))


def _composite(grey: Grey, alpha: Grey) -> Grey:
    """Over white, unless that shows nothing: a white stroke on a transparent ground goes over black."""
    over_white = _over(grey, alpha, 255)
    return over_white if np.ptp(over_white) >= _BLANK_RANGE else _over(grey, alpha, 0)


def _over(grey: Grey, alpha: Grey, ground: int) -> Grey:
    composite = np.empty_like(grey)
    rows = max(1, _BLOCK_PIXELS // grey.shape[1])  # floats of 50 million pixels at once would be 800 MB
    for top in range(0, len(grey), rows):
        block = np.s_[top : top + rows]
        share = alpha[block].astype(np.float32) / 255
        composite[block] = grey[block] * share + ground * (1 - share) + 0.5
    return composite


def _orient(grey: Grey, header: Image.Image) -> Grey:
    """Turned upright as EXIF (or XMP) says. Unreadable metadata is no reason to refuse a readable picture."""
    if header.format == "TIFF" or _METADATA.isdisjoint(header.info):  # decoders turn TIFFs themselves
        return grey
    try:
        orientation = header.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a dozen kinds, by what is broken
        return grey
    flip, turn = _FLIP_AND_TURN.get(orientation, (None, None))
    flipped = grey if flip is None else cv2.flip(grey, flip)
    return _uint8(flipped if turn is None else cv2.rotate(flipped, turn))


def _uint8(pixels: MatLike) -> Grey:
    return pixels.astype(np.uint8, copy=False)
