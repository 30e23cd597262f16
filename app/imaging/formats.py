"""Encoded bytes -> what their header says: format, size, orientation and the cost of decoding. Decodes no pixel."""

from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

from PIL import Image

from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType
from app.imaging import heif
from app.imaging.headers import Encoded, essential_webp, read_bmp, read_gif, read_jpeg
from app.imaging.png import read_png
from app.imaging.tiff import ORIENTATION, tags_of, unreadable_compression

MAX_PIXELS = 64_000_000  # telephones of "50 megapixels" make 8192 × 6144
FORMATS = "PNG, JPEG, WebP, HEIC, AVIF, BMP, TIFF or GIF"

_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_READERS = {"PNG": read_png, "JPEG": read_jpeg, "GIF": read_gif, "BMP": read_bmp}
_MAX_READS = 50_000  # of a header, by Pillow: 0.1 s
_MAX_SCANS = 50  # of a JPEG: cameras and programs write 1 to 20, and each is a pass over all pixels
_METADATA = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # Pillow's keys for EXIF and XMP

_LARGE_PIXELS = 2**22  # above this, decoded at half size: 64 megapixels take 80 to 310 MiB instead of 130 to 990
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


def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Encoded:
    """Read the header. Raises UnsupportedMediaType, UndecodableImage, or TooLarge beyond ``max_pixels``."""
    kind = _format_of(data)
    try:
        if kind in _READERS:
            image = _READERS[kind](data)
        else:
            image = (_read_boxes if kind in ("HEIC", "AVIF") else _read_by_pillow)(data, kind)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # tests raise warnings
        raise _too_many_pixels(max_pixels) from error
    except Exception as error:  # a dozen types, by format and defect
        raise undecodable(data, kind) from error
    if image.pixels > max_pixels:
        raise _too_many_pixels(max_pixels)
    if image.scans > _MAX_SCANS:
        raise TooLarge(f"The JPEG has more than {_MAX_SCANS} scans: save the image again and resend it.")
    return image._replace(orientation=_orientation_of_png(image.exif)) if image.exif else image


def undecodable(data: bytes, kind: str) -> UndecodableImage:
    """The error of a file that is broken, or whose compression no decoder knows."""
    compression = unreadable_compression(data) if kind == "TIFF" else None
    if compression:
        return UndecodableImage(
            f"The TIFF is compressed with {compression}, which cannot be read: save it with LZW, deflate or none."
        )
    return UndecodableImage(f"The {kind} data is broken: save the image again and resend it.")


def orientation_of(header: Image.Image) -> int:
    """As EXIF or XMP says, 1 if they are unreadable or a decoder obeys them anyway."""
    if header.format == "TIFF" or _METADATA.isdisjoint(header.info):
        return 1
    try:
        return int(header.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a dozen types, by defect
        return 1


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
    if image.kind == "JPEG":  # reduced, but several scans keep the coefficients of 16 bits per channel
        per_pixel = _BYTES_PER_PIXEL_JPEG + (2 * image.channels if image.is_buffered else 0)
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


def _format_of(data: bytes) -> str:
    for kind, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if container := heif.format_of(data):
        return container
    raise UnsupportedMediaType(f"The content is no image of a known format: send {FORMATS}.")


def _read_boxes(data: bytes, kind: str) -> Encoded:
    """Of HEIC and AVIF."""
    width, height, largest_part = heif.inspect_boxes(data)
    data = heif.as_still(data) if kind == "AVIF" else data
    return Encoded(data, kind, width, height, largest_part=largest_part)


def _read_by_pillow(data: bytes, kind: str) -> Encoded:
    data = essential_webp(data) if kind == "WEBP" else data
    header = Image.open(_BoundedReader(data), formats=[kind])
    return Encoded(data, kind, *header.size, header, orientation_of(header))


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


def _orientation_of_png(files: tuple[bytes, ...]) -> int:
    """Of the first that has one. Each holds one chunk: a broken one must not hide the others."""
    for file in files:
        with suppress(Exception):
            header = Image.open(BytesIO(file), formats=["PNG"])
            if ORIENTATION in header.getexif():
                return orientation_of(header)
    return 1


def _tiff_bytes_per_pixel(tags: Mapping[int, Any]) -> float:
    """Of the stored pixels: a strip, which may be the whole image, is held beside the decoded ones."""
    try:
        return min(max(0, float(sum(tags.get(_BITS_PER_SAMPLE, (8,))))), _MAX_BITS_PER_PIXEL) / 8
    except (TypeError, ValueError):  # tags of the wrong type
        return 8
