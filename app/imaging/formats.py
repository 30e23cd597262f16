"""Encoded bytes -> what their header says: format, size, orientation and the cost of decoding. Decodes no pixel."""

from io import BytesIO

from PIL import Image
from pillow_heif import HeifImageFile

from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType
from app.imaging import heif
from app.imaging.headers import Encoded, essential_webp, orientation_of, read_bmp, read_jpeg
from app.imaging.png import read_png
from app.imaging.tiff import is_covered, unreadable_kind

MAX_PIXELS = 64_000_000  # telephones of "50 megapixels" make 8192 × 6144
FORMATS = "PNG, JPEG, WebP, HEIC, AVIF, BMP, TIFF or GIF"
SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

_SIGNATURES = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_READERS = {"PNG": read_png, "JPEG": read_jpeg, "BMP": read_bmp}
_MAX_READS = 50_000  # of a header, by Pillow: 0.1 s
_MAX_SCANS = 50  # of a JPEG: cameras and programs write 1 to 20, and each is a pass over all pixels

_FREE_PIXELS = 2**20  # up to this, memory is not counted
_BYTES_PER_PIXEL = {  # of light and of heavy pictures
    "PNG": (4.5, 17),
    "WEBP": (4.5, 9),
    "GIF": (4.5, 14),
    "BMP": (14, 14),
    "TIFF": (11, 24),
    "HEIC": (10, 22),
    "AVIF": (12, 22),
}
_BYTES_PER_PIXEL_JPEG = 0.5  # reduced, but several scans keep the coefficients of 16 bits per channel


def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Encoded:
    """Read the header. Raises UnsupportedMediaType, UndecodableImage, or TooLarge beyond ``max_pixels``."""
    kind = _format_of(data)
    try:
        image = _READERS[kind](data) if kind in _READERS else _read_by_pillow(data, kind)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # tests raise warnings
        raise _too_many_pixels(max_pixels) from error
    except Exception as error:  # a dozen types, by format and defect
        raise undecodable(data, kind, error) from error
    if image.pixels > max_pixels:
        raise _too_many_pixels(max_pixels)
    if image.scans > _MAX_SCANS:
        raise TooLarge(f"The JPEG has more than {_MAX_SCANS} scans: save the image again and resend it.")
    return image


def undecodable(data: bytes, kind: str, error: Exception) -> UndecodableImage:
    """The error of a file that is broken, or of a kind that no decoder knows. ``error``: Pillow's or OpenCV's."""
    if kind == "TIFF" and (why := unreadable_kind(data, error)):
        return UndecodableImage(
            f"The TIFF {why}, which cannot be read: save it as grey or RGB of 8 or 16 bits, with LZW, deflate or none."
        )
    return UndecodableImage(f"The {kind} data is broken: save the image again and resend it.")


def memory_needed(image: Encoded) -> int:
    """Upper bound of the bytes that decoding takes, from measurements; 0 for a small image."""
    if image.pixels <= _FREE_PIXELS:
        return 0
    if image.kind == "JPEG":
        per_pixel = _BYTES_PER_PIXEL_JPEG + (2 * image.channels if image.is_buffered else 0)
    else:
        per_pixel = _BYTES_PER_PIXEL[image.kind][_is_heavy(image)]
    return int(per_pixel * image.pixels)


def _is_heavy(image: Encoded) -> bool:
    """Whether it has transparency, four inks, 32 bits per channel, or is a HEIC of more than 8."""
    header = image.header
    return not image.is_opaque or (
        header is not None and (header.mode in {"CMYK", "I", "F"} or header.info.get("bit_depth", 8) > 8)
    )


def _format_of(data: bytes) -> str:
    for kind, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if container := heif.format_of(data):
        return container
    raise UnsupportedMediaType(f"This is not a supported image format: send {FORMATS}.")


def _read_by_pillow(data: bytes, kind: str) -> Encoded:
    largest_part = 0
    if kind in ("HEIC", "AVIF"):
        data, largest_part = heif.as_still(data, kind), heif.largest_part(data)
    elif kind == "WEBP":
        data = essential_webp(data)
    file = _BoundedReader(data)
    header = HeifImageFile(file) if kind == "HEIC" else Image.open(file, formats=[kind])  # type: ignore[no-untyped-call]
    if kind == "TIFF" and not is_covered(header):
        raise ValueError("strips or tiles are missing")
    is_opaque = not header.has_transparency_data
    return Encoded(data, kind, *header.size, header, orientation_of(header), is_opaque, largest_part=largest_part)


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
