"""Encoded bytes -> grey. Owns formats, limits, orientation, transparency and depth; knows nothing of ink.

Pillow reads headers (format, size, orientation) before a pixel is decoded; OpenCV decodes, in a third of the time.
Both must find the file good: what either refuses is broken. Of a small PNG without metadata the size is read here.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

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
_PNG_SIGNATURE_BYTES = 8
_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}  # by colour type; the others have one
_INFLATED_AT_ONCE = 1024  # compressed bytes, which become 1 MB at most
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}  # those that decide pixels
_BARE_BYTES = 64 * 1024  # the largest PNG of which it is seen whether it has metadata
_UNCHECKED_BYTES = 256 * 1024  # of a large PNG's data: they inflate to 270 MB at most, within a second
_UNCHECKED_SMALL_BYTES = 2048  # of a small one's: within 10 ms, while the event loop waits
_MOST_READS = 50_000  # of a header, a tenth of a second; 10 MiB of fill bytes or empty chunks would take seconds
_MOST_SCANS = 50  # of a JPEG: cameras and programs write 1 to 20, and each costs a pass over all of its pixels
_READERS = {"JPEG": ["JPEG", "MPO"]}  # cameras append pictures to a JPEG: Pillow calls that MPO
_REDUCED_PX = 800  # a JPEG is decoded at 1/2, 1/4 or 1/8 as long as its longest side stays at least this
_REDUCED_FLAGS = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_LARGE_PIXELS = 2**22  # more are halved as they come: 50 million then take 60 to 240 MiB, not 100 to 770
# To one channel of its own depth; turned by `_orient` alone. OpenCV holds its answer twice: hence halved before.
_HALVED = cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_BYTES_A_PIXEL = 5.25  # of a halved picture on its way: four channels of 8 bits, and what becomes of them
_BYTES_A_PIXEL_WHOLE = 16  # four channels of 16 bits, twice
_BYTES_A_PIXEL_WEBP = 8.5  # with transparency, twice
_FREE_PIXELS = 2**20  # not counted
_BLOCK_PIXELS = 2**18
_BLANK_RANGE = 16  # grey levels: a picture with less than this over white shows nothing
_ORIENTATION = 0x0112  # EXIF's tag
_MOST_BITS = 4 * 64  # of a pixel
_BITS_PER_SAMPLE, _ROWS_PER_STRIP, _TILE_WIDTH = 258, 278, 322  # TIFF's
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

# Pieces of Pillow's 16 MB stay with the process, larger ones do not: 370 MB after one CMYK TIFF of 50 megapixels.
Image.core.set_block_size(2**30)  # type: ignore[attr-defined]
cv2.setNumThreads(1)  # requests share the cores; threads within one picture would fight over them
warnings.filterwarnings("ignore", module=r"PIL\.")  # Python would keep each: their words hold numbers of the file's
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else each broken image writes to standard error


class Encoded(NamedTuple):
    """An image whose header was read and whose pixels were not. ``width``, ``height``: as stored, in pixels.

    ``header``: as Pillow read it; None for what has no metadata. ``scans``: of a JPEG.
    """

    data: bytes
    kind: str
    width: int
    height: int
    header: Image.Image | None
    scans: int


class Decoded(NamedTuple):
    """``grey``: uint8, oriented, perhaps reduced. ``width``, ``height``: of the original, oriented, in pixels."""

    grey: Grey
    width: int
    height: int


def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Encoded:
    """What the header tells. Raises UnsupportedMediaType, UndecodableImage, or TooLarge beyond ``max_pixels``."""
    kind = _format_of(data)
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])  # of a PNG
    if kind == "PNG" and data[12:16] == b"IHDR" and width * height > max_pixels:
        raise _too_many_pixels(max_pixels)
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow bears with twice that; without, a GIF of 500 bytes takes 4 GB
    try:
        header = None if _is_bare(data, kind) else Image.open(_Reader(data), formats=_READERS.get(kind, [kind]))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # raised where warnings are
        raise _too_many_pixels(max_pixels) from error
    except Exception as error:  # a dozen kinds, by format and by what is broken
        raise UndecodableImage(f"The {kind} header is broken: save the image again and resend it.") from error
    if header is not None:
        width, height = header.size
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels)
    scans = data.count(b"\xff\xda") if kind == "JPEG" else 0
    if scans > _MOST_SCANS:
        raise TooLarge(f"The JPEG has more than {_MOST_SCANS} scans: save the image again and resend it.")
    return Encoded(data, kind, width, height, header, scans)


def memory_needed(image: Encoded) -> int:
    """How many bytes decoding takes, about and at most; 0 for what is no matter. Measured, see _LARGE_PIXELS."""
    pixels, header = image.width * image.height, image.header
    if pixels <= _FREE_PIXELS:
        return 0
    a_pixel = _BYTES_A_PIXEL if _is_halved(image) else _BYTES_A_PIXEL_WHOLE
    if header is None:
        pass
    elif image.kind == "JPEG":  # reduced; of several scans all coefficients are held, 16 bits each
        samples = [across * down for _, across, down, _ in header.layer]  # type: ignore[attr-defined]
        a_pixel = 0.5 + (2 * sum(samples) / max(1, *samples) if image.scans > 1 else 0)
    elif image.kind == "WEBP" and header.has_transparency_data:
        a_pixel = max(a_pixel, _BYTES_A_PIXEL_WEBP)
    elif image.kind == "TIFF":
        tags: Mapping[int, Any] = header.tag_v2  # type: ignore[attr-defined]
        a_pixel += _strip_bytes_a_pixel(tags, image.height)
    return int(a_pixel * pixels)


def decode(image: Encoded) -> Decoded:
    """Grey, orientation obeyed, transparency composited over white (over black where white would hide the ink).

    Raises UndecodableImage.
    """
    header = image.header
    data = image.data
    try:
        if image.kind == "PNG":
            if header is not None:
                data = _essential_chunks(data)
            _check_inflated(data)
        if _is_halved(image):
            header = header or Image.open(BytesIO(data), formats=[image.kind])
            grey = _orient(_halved(data, header), header)
        elif header is None:
            grey = _to_grey(_imdecode(data, cv2.IMREAD_UNCHANGED))
        elif header.mode == "CMYK":  # OpenCV would take a TIFF's fourth ink for transparency
            reduction = _reduction(image.width, image.height)
            header.draft(None, (image.width // reduction, image.height // reduction))  # only a JPEG can
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


def _too_many_pixels(max_pixels: int) -> TooLarge:
    return TooLarge(f"The image has more than {max_pixels} pixels: scale it down and resend it.")


def _format_of(data: bytes) -> str:
    for kind, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise UnsupportedMediaType("The content is no image of a known format: send PNG, JPEG, WebP, BMP, TIFF or GIF.")


class _Reader(BytesIO):
    """Bounds how often it is read from: Pillow takes a byte or a chunk at a time."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS:
            raise ValueError("the header has too many parts")
        return super().read(size)


def _is_bare(data: bytes, kind: str) -> bool:
    """Whether it is a small PNG that holds a header, pixels and nothing else. Raises as `_essential_chunks` does."""
    whole = len(data) <= _BARE_BYTES and data[12:16] == b"IHDR" and data[-8:-4] == b"IEND"
    return kind == "PNG" and whole and _essential_chunks(data) == data


def _essential_chunks(png: bytes) -> bytes:
    """The file without what decides no pixel. Raises ValueError when a chunk claims to be longer than the file.

    OpenCV reserves and clears what a chunk claims, up to 4 GiB; libpng prints the names of broken profiles and texts.
    """
    place = _PNG_SIGNATURE_BYTES
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


def _check_inflated(png: bytes) -> None:
    """Raises ValueError when its data inflate to far more than its pixels: libpng would inflate them all.

    ``png``: of its essential chunks. What is no deflate stream, libpng judges.
    """
    width, height, depth, colours = struct.unpack_from(">IIBB", png, 16)
    expected = height * (1 + width * depth * _PNG_CHANNELS.get(colours, 1) // 8)
    if len(png) <= max(_UNCHECKED_SMALL_BYTES, min(expected // 16, _UNCHECKED_BYTES)):
        return
    stream = zlib.decompressobj()
    inflated, place = 0, _PNG_SIGNATURE_BYTES
    while place < len(png) and not stream.eof:
        end = place + 8 + int.from_bytes(png[place : place + 4])
        data = memoryview(png)[place + 8 : end] if png[place + 4 : place + 8] == b"IDAT" else memoryview(b"")
        for start in range(0, len(data), _INFLATED_AT_ONCE):
            try:
                inflated += len(stream.decompress(data[start : start + _INFLATED_AT_ONCE]))
            except zlib.error:
                return
            if inflated > 2 * expected + 4096:  # twice: interlaced rows are padded
                raise ValueError("the data are longer than the picture")
        place = end + 4


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


def _strip_bytes_a_pixel(tags: Mapping[int, Any], height: int) -> float:
    """What a TIFF's strip takes that is held whole, in bytes for each pixel of the picture."""
    if _TILE_WIDTH in tags:
        return 0
    try:
        rows = min(max(0, int(tags.get(_ROWS_PER_STRIP, height))), height)
        return min(max(0, float(sum(tags.get(_BITS_PER_SAMPLE, (8,))))), _MOST_BITS) / 8 * rows / height
    except (TypeError, ValueError, OverflowError):  # tags of other types than they should be
        return 8


def _is_halved(image: Encoded) -> bool:
    large = image.width * image.height > _LARGE_PIXELS and image.kind != "JPEG"
    if not large or image.kind != "TIFF" or image.header is None:
        return large
    return image.header.tag_v2.get(_ORIENTATION, 1) in range(1, 5)  # type: ignore[attr-defined] # OpenCV squashes others


def _halved(data: bytes, header: Image.Image) -> Grey:
    """Half as high and half as wide. What OpenCV would hold with all of its channels goes through Pillow, by blocks."""
    transparent = header.has_transparency_data
    if header.format == "WEBP" and transparent:  # which Pillow would hold four times
        return _to_grey(_imdecode(data, cv2.IMREAD_UNCHANGED))
    if not (transparent or header.mode == "CMYK" or header.format == "GIF"):
        return _to_grey(_imdecode(data, _HALVED))
    header.load()
    width, height = header.size
    over_white, over_black = (np.empty(((height + 1) // 2, (width + 1) // 2), np.uint8) for _ in range(2))
    for block in _blocks(over_white, _BLOCK_PIXELS // 8):
        part = header.crop((0, 2 * block.start, width, min(2 * block.stop, height)))
        size = (over_white.shape[1], len(over_white[block]))
        if not transparent:
            over_white[block] = cv2.resize(np.array(part.convert("L")), size, interpolation=cv2.INTER_AREA)
            continue
        colours = np.array(part.convert("RGBA"))
        grey, alpha = _uint8(cv2.cvtColor(colours, cv2.COLOR_RGBA2GRAY)), colours[:, :, 3]
        for ground, over in ((255, over_white), (0, over_black)):
            over[block] = cv2.resize(_over(grey, alpha, ground), size, interpolation=cv2.INTER_AREA)
    return over_white if not transparent or np.ptp(over_white) >= _BLANK_RANGE else over_black


def _to_grey(pixels: MatLike) -> Grey:
    """uint8 (height, width) of any depth and any number of channels, in OpenCV's order (BGR, BGRA)."""
    if pixels.dtype not in (np.uint8, np.uint16):  # scientific TIFFs: whatever range they use becomes ours
        floats = np.nan_to_num(pixels.astype(np.float32, copy=False), copy=False)
        pixels = _uint8(cv2.normalize(floats, floats, 0, 255, cv2.NORM_MINMAX))
    if pixels.dtype == np.uint8 and pixels.ndim == 2:
        return _uint8(pixels)
    grey = np.empty(pixels.shape[:2], np.uint8)
    alpha = np.empty_like(grey) if pixels.shape[2:] == (4,) else None
    for block in _blocks(grey):
        part = pixels[block]
        part = _uint8(np.right_shift(part, 8) if part.dtype == np.uint16 else part)
        if alpha is not None:
            alpha[block] = part[:, :, 3]
            part = _uint8(cv2.cvtColor(part, cv2.COLOR_BGRA2GRAY))
        elif part.ndim == 3:
            part = _uint8(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY))
        grey[block] = part
    return grey if alpha is None else _composite(grey, alpha)


def _blocks(grey: Grey, pixels: int = _BLOCK_PIXELS) -> Iterator[slice]:
    """Its rows, some at a time: what they become on the way is several times as large as the picture."""
    rows = max(1, pixels // grey.shape[1])
    return (slice(top, min(top + rows, len(grey))) for top in range(0, len(grey), rows))


def _composite(grey: Grey, alpha: Grey) -> Grey:
    """Over white, unless that shows nothing: a white stroke on a transparent ground goes over black."""
    if alpha.min() == 255:
        return grey
    over_white = _over(grey, alpha, 255)
    return over_white if np.ptp(over_white) >= _BLANK_RANGE else _over(grey, alpha, 0)


def _over(grey: Grey, alpha: Grey, ground: int) -> Grey:
    composite = np.empty_like(grey)
    for block in _blocks(grey):
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
