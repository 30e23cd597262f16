"""Encoded bytes -> the size, and the parts that decide pixels. PNG has a module of its own; Pillow reads the others.

Decoders get nothing else: metadata, thumbnails, later frames and what follows the picture cannot make them refuse it.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

MAX_PARTS = 100_000  # chunks, segments or blocks of a file: 0.1 s. 10 MiB of empty ones would take seconds

# Neither a stuffed or fill byte nor a restart, which stand within a scan. The search takes 3 ms for 10 MB, `find` 9
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_JPEG_END = re.compile(rb"\xff\xd9")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_JPEG_PROGRESSIVE = {0xC2, 0xCA}
_JPEG_FRAMES = {0xC0, 0xC1, 0xC3, 0xC9, 0xCB} | _JPEG_PROGRESSIVE
_JPEG_KEPT = _JPEG_FRAMES | {_SOS, 0xC4, 0xCC, 0xDB, 0xDD, 0xE1}  # with tables, the restart interval and EXIF
_ADOBE, _ADOBE_BYTES = 0xEE, 16  # which colours a file has. Pillow cannot read a shorter segment
_JPEG_APPS, _MAX_APPS = {0xE1, _ADOBE}, 16  # segments of EXIF and XMP: Pillow takes quadratic time for many
_JPEG_COEFFICIENTS = 64  # of a block
_METADATA = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # Pillow's keys for EXIF and XMP
_ORIENTATION = 0x0112
_WEBP_CHUNKS = {b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"EXIF", b"XMP "}  # with the orientation


class Encoded(NamedTuple):
    """An image whose header was read. ``width``, ``height``: as stored, in pixels.

    ``data``: a file of the parts that decide pixels. ``header``: Pillow's, of formats not read here. ``orientation``:
    as in EXIF, where decoders do not obey it. ``largest_part``: pixels of the largest picture in a HEIC or AVIF file,
    perhaps a tile. ``is_cut``: a PNG or JPEG ends within its data, or before its end mark. Of a JPEG: ``channels``;
    ``scans``; ``is_buffered``, it has several, so that a decoder holds all coefficients.
    """

    data: bytes
    kind: str
    width: int
    height: int
    header: Image.Image | None = None
    orientation: int = 1
    is_opaque: bool = True
    largest_part: int = 0
    is_cut: bool = False
    channels: int = 0
    scans: int = 0
    is_buffered: bool = False

    @property
    def pixels(self) -> int:
        """How many are decoded at once."""
        return max(self.width * self.height, self.largest_part)


def orientation_of(header: Image.Image) -> int:
    """As EXIF or XMP says, 1 if they are unreadable or a decoder obeys them anyway."""
    if header.format in ("TIFF", "HEIF") or _METADATA.isdisjoint(header.info):
        return 1
    try:
        return int(header.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a dozen types, by defect
        return 1


# `read_` functions raise ValueError, IndexError or struct.error if the file is broken.


def read_jpeg(jpeg: bytes) -> Encoded:
    view, frame, kept = memoryview(jpeg), memoryview(b""), [memoryview(b"\xff\xd8")]
    scans, finished, is_buffered, is_cut, apps = 0, 0, False, True, 0
    for marker, start, end in _segments(jpeg):
        segment = view[start:end]
        if marker == _EOI:
            is_cut = False
            break
        if marker in _JPEG_KEPT or (marker == _ADOBE and len(segment) >= _ADOBE_BYTES):
            apps += marker in _JPEG_APPS
            if marker not in _JPEG_APPS or apps <= _MAX_APPS:
                kept.append(segment)
        if marker in _JPEG_FRAMES:
            if frame:
                raise ValueError("two frames")
            frame = segment
        elif marker == _SOS:
            channels = segment[4]
            first, last, bits = segment[5 + 2 * channels : 8 + 2 * channels]
            scans += 1
            finished += channels * (last + 1 - first) * (bits & 15 == 0)  # 0: to the last bit
            is_buffered |= frame[1] in _JPEG_PROGRESSIVE or channels < frame[9]
            if not is_buffered:  # decoders get over false markers in a lone scan
                found = _JPEG_END.search(jpeg, start)
                is_cut = found is None
                kept[-1] = view[start : found.start() if found else None]
                break
    height, width, channels = struct.unpack_from(">HHB", frame, 5)
    if not scans or (is_cut and finished < _JPEG_COEFFICIENTS * channels):
        raise ValueError("scans are missing")
    if not is_cut:
        kept.append(memoryview(b"\xff\xd9"))
    return Encoded(
        b"".join(kept), "JPEG", width, height, is_cut=is_cut, channels=channels, scans=scans, is_buffered=is_buffered
    )


def read_bmp(bmp: bytes) -> Encoded:
    """All of it: what follows the pixels of a BMP is never read."""
    is_old = bmp[14:18] == b"\x0c\0\0\0"  # of OS/2
    width, height = struct.unpack_from("<HH" if is_old else "<ii", bmp, 18)
    return Encoded(bmp, "BMP", width, abs(height))


def essential_webp(webp: bytes) -> bytes:
    """Without frames after the first, and without a last chunk that is cut. Pillow reads its header."""
    kept, place, has_frame = [b"WEBP"], 12, False
    for _ in range(MAX_PARTS):
        kind, size = webp[place : place + 4], int.from_bytes(webp[place + 4 : place + 8], "little")
        end = place + 8 + size
        if len(kind) < 4 or end > len(webp):
            break
        if kind in _WEBP_CHUNKS and not (has_frame and kind == b"ANMF"):
            kept.append(webp[place:end] + bytes(size % 2))
        has_frame |= kind == b"ANMF"
        place = end + size % 2
    data = b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(data)) + data


def _segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """Markers, with the start and end of their segments; of a scan, with its data. The last is `_EOI`, unless cut."""
    place = 2
    for _ in range(MAX_PARTS):
        found = _JPEG_MARKER.search(jpeg, place)
        if not found:
            return
        start = found.start()
        marker = jpeg[start + 1]
        if marker == _SOI:  # without a segment
            place = start + 2
            continue
        place = start + 2 + max(2, int.from_bytes(jpeg[start + 2 : start + 4]))
        if marker == _SOS:
            following = _JPEG_MARKER.search(jpeg, place)
            place = following.start() if following else len(jpeg)
        elif marker != _EOI and place > len(jpeg):
            return
        yield marker, start, place
        if marker == _EOI:
            return
    raise ValueError("too many segments")
