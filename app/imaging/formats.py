"""Encoded bytes -> what their header says: format, size, and the cost of decoding. Decodes no pixel.

Pillow reads the header. A small PNG without metadata is read here instead, which is three times as fast.
"""

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

from PIL import Image

from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType
from app.imaging import heif
from app.imaging.tiff import ORIENTATION, tags_of, unreadable_compression

MAX_PIXELS = 50_000_000
FORMATS = "PNG, JPEG, WebP, HEIC, AVIF, BMP, TIFF or GIF"

_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_READERS = {"JPEG": ["JPEG", "MPO"]}  # Pillow calls a JPEG with further images appended MPO
_MAX_READS = 50_000  # of a header: 0.1 s. 10 MiB of fill bytes or empty chunks would take seconds
_MAX_SCANS = 50  # of a JPEG: cameras and programs write 1 to 20, and each is a pass over all pixels

_PNG_SIGNATURE_BYTES = 8
_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}  # by colour type; the others have one
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}  # the ones that decide pixels
_BARE_BYTES = 64 * 1024  # a PNG up to this size is searched for metadata here
_UNCHECKED_BYTES = 256 * 1024  # PNG data that is not test-inflated: at most 270 MB, within a second
_UNCHECKED_SMALL_BYTES = 2048  # the same for a small image: within 10 ms, as the event loop waits
_INFLATE_STEP_BYTES = 1024  # compressed bytes at a time, at most 1 MB inflated

_LARGE_PIXELS = 2**22  # above this, decoded at half size: 50 megapixels take 60 to 240 MiB instead of 100 to 770
_FREE_PIXELS = 2**20  # up to this, memory is not counted
_BYTES_PER_PIXEL = 16  # four channels of 16 bits, twice
_BYTES_PER_PIXEL_HALVED = 5.5  # four channels of 8 bits, and the results
_BYTES_PER_PIXEL_WEBP = 8.5  # with transparency, twice
_BYTES_PER_PIXEL_JPEG = 0.5
_BYTES_PER_PIXEL_AVIF = 15
_BYTES_PER_PIXEL_HEIC = 12
_BYTES_PER_PIXEL_HEIC_MAX = 22  # with more than 8 bits or transparency
_MAX_BITS_PER_PIXEL = 4 * 64
_BITS_PER_SAMPLE = 258  # the tag of TIFF


class Encoded(NamedTuple):
    """An image whose header was read. ``width``, ``height``: as stored, in pixels.

    ``header``: Pillow's, None for a PNG without metadata, HEIC and AVIF. ``scans``: how many a JPEG has.
    ``largest_part``: pixels of the largest picture in a HEIC or AVIF file, which may be a tile or thumbnail.
    """

    data: bytes
    kind: str
    width: int
    height: int
    header: Image.Image | None
    scans: int
    largest_part: int = 0

    @property
    def pixels(self) -> int:
        """How many are decoded at once."""
        return max(self.width * self.height, self.largest_part)


def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Encoded:
    """Read the header. Raises UnsupportedMediaType, UndecodableImage, or TooLarge beyond ``max_pixels``."""
    kind = _format_of(data)
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])  # of a PNG
    header, largest_part = None, 0
    try:
        if kind in ("HEIC", "AVIF"):
            width, height, largest_part = heif.inspect_boxes(data)
            data = heif.as_still(data) if kind == "AVIF" else data
        elif not _is_bare(data, kind):
            header = Image.open(_BoundedReader(data), formats=_READERS.get(kind, [kind]))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # tests raise warnings
        raise _too_many_pixels(max_pixels) from error
    except Exception as error:  # a dozen types, by format and defect
        raise undecodable(data, kind) from error
    if header is not None:
        width, height = header.size
    if max(width * height, largest_part) > max_pixels:
        raise _too_many_pixels(max_pixels)
    scans = data.count(b"\xff\xda") if kind == "JPEG" else 0
    if scans > _MAX_SCANS:
        raise TooLarge(f"The JPEG has more than {_MAX_SCANS} scans: save the image again and resend it.")
    return Encoded(data, kind, width, height, header, scans, largest_part)


def undecodable(data: bytes, kind: str) -> UndecodableImage:
    """The error of a file that is broken, or whose compression no decoder knows."""
    compression = unreadable_compression(data) if kind == "TIFF" else None
    if compression:
        return UndecodableImage(
            f"The TIFF is compressed with {compression}, which cannot be read: save it with LZW, deflate or none."
        )
    return UndecodableImage(f"The {kind} data is broken: save the image again and resend it.")


def is_halved(image: Encoded) -> bool:
    """Whether the image is so large that it is decoded at half its width and height."""
    if image.width * image.height <= _LARGE_PIXELS or image.kind in ("JPEG", "HEIC"):
        return False
    return tags_of(image.header).get(ORIENTATION, 1) in range(1, 5)  # OpenCV squashes TIFFs of the other orientations


def memory_needed(image: Encoded) -> int:
    """Upper bound of the bytes that decoding takes, from measurements; 0 for a small image."""
    if image.pixels <= _FREE_PIXELS:
        return 0
    per_pixel = _BYTES_PER_PIXEL_HALVED if is_halved(image) else _BYTES_PER_PIXEL
    if image.header and image.kind == "JPEG":  # reduced, but several scans keep the coefficients of 16 bits per band
        per_pixel = _BYTES_PER_PIXEL_JPEG + (2 * len(image.header.getbands()) if image.scans > 1 else 0)
    elif image.header and image.kind == "WEBP" and image.header.has_transparency_data:
        per_pixel = max(per_pixel, _BYTES_PER_PIXEL_WEBP)
    elif image.kind == "TIFF":
        per_pixel += _tiff_bytes_per_pixel(tags_of(image.header))
    elif image.kind == "AVIF":
        per_pixel = _BYTES_PER_PIXEL_AVIF
    elif image.kind == "HEIC":
        is_heavy = heif.is_deep_or_transparent(image.data)
        per_pixel = _BYTES_PER_PIXEL_HEIC_MAX if is_heavy else _BYTES_PER_PIXEL_HEIC
    return int(per_pixel * image.pixels)


def essential_chunks(png: bytes) -> bytes:
    """The PNG with only the chunks that decide pixels. Raises ValueError if a chunk claims to exceed the file.

    OpenCV allocates what a chunk claims, up to 4 GiB; libpng prints the names inside broken profiles and texts.
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


def check_inflated(png: bytes) -> None:
    """Raises ValueError if the data inflate to far more than the pixels need: libpng would inflate them all.

    ``png``: its essential chunks. An invalid deflate stream passes: libpng reports it.
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
        for start in range(0, len(data), _INFLATE_STEP_BYTES):
            try:
                inflated += len(stream.decompress(data[start : start + _INFLATE_STEP_BYTES]))
            except zlib.error:
                return
            if inflated > 2 * expected + 4096:  # twice: interlaced rows are padded
                raise ValueError("the data are longer than the image")
        place = end + 4


def _format_of(data: bytes) -> str:
    for kind, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if container := heif.format_of(data):
        return container
    raise UnsupportedMediaType(f"The content is no image of a known format: send {FORMATS}.")


def _too_many_pixels(max_pixels: int) -> TooLarge:
    return TooLarge(f"The image has more than {max_pixels} pixels: scale it down and resend it.")


class _BoundedReader(BytesIO):
    """Limits the number of reads: Pillow reads a header by single bytes and chunks."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MAX_READS:
            raise ValueError("the header has too many parts")
        return super().read(size)


def _is_bare(data: bytes, kind: str) -> bool:
    """Whether this is a small, whole PNG of nothing but essential chunks."""
    whole = len(data) <= _BARE_BYTES and data[12:16] == b"IHDR" and data[-8:-4] == b"IEND"
    return kind == "PNG" and whole and essential_chunks(data) == data


def _tiff_bytes_per_pixel(tags: Mapping[int, Any]) -> float:
    """Of the stored pixels: a strip, which may be the whole image, is held beside the decoded ones."""
    try:
        return min(max(0, float(sum(tags.get(_BITS_PER_SAMPLE, (8,))))), _MAX_BITS_PER_PIXEL) / 8
    except (TypeError, ValueError):  # tags of the wrong type
        return 8
