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
_JPEG_PIXELS = _JPEG_FRAMES | {_SOS, 0xC4, 0xCC, 0xDB, 0xDD}  # with their tables and the restart interval
_JPEG_APPS = {0xE0: (b"JFIF\0", 18), 0xE1: (b"Exif\0", 4), 0xEE: (b"Adobe", 16)}  # how they start; least bytes
_JPEG_COEFFICIENTS = 64  # of a block
_WEBP_CHUNKS = {b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"EXIF", b"XMP "}  # with the orientation


class Encoded(NamedTuple):
    """An image whose header was read. ``width``, ``height``: as stored, in pixels.

    ``data``: a file of the parts that decide pixels. ``header``: Pillow's, of formats not read here. ``orientation``:
    as in EXIF, where decoders do not obey it. ``is_cut``: the file ends within the data of PNG and JPEG, or before
    their end mark. ``exif``: chunks of a PNG that may hold the orientation, each as a file. ``channels``, ``scans``: of
    a JPEG. ``is_buffered``: it has several scans, so that a decoder holds all coefficients. ``largest_part``:
    pixels of the largest picture in a HEIC or AVIF file, which may be a tile or thumbnail.
    """

    data: bytes
    kind: str
    width: int
    height: int
    header: Image.Image | None = None
    orientation: int = 1
    is_cut: bool = False
    exif: tuple[bytes, ...] = ()
    channels: int = 0
    scans: int = 0
    is_buffered: bool = False
    largest_part: int = 0

    @property
    def pixels(self) -> int:
        """How many are decoded at once."""
        return max(self.width * self.height, self.largest_part)


# `read_` functions raise ValueError, IndexError or struct.error if the file is broken.


def read_jpeg(jpeg: bytes) -> Encoded:
    view, frame, kept = memoryview(jpeg), memoryview(b""), [memoryview(b"\xff\xd8")]
    scans, finished, is_buffered, is_cut = 0, 0, False, True
    for marker, start, end in _segments(jpeg):
        segment = view[start:end]
        if marker == _EOI:
            is_cut = False
            break
        if marker in _JPEG_PIXELS or _is_of_app(marker, segment):
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


def read_gif(gif: bytes) -> Encoded:
    """The first frame, on a screen that holds it."""
    place = 13 + _colour_table_bytes(gif[10])
    screen, control = bytearray(gif[:place]), b""
    while gif[place] == 0x21:  # an extension
        end = place + 3 + sum(map(len, _blocks(gif, place + 2)))
        if gif[place + 1] == 0xF9 and end == place + 8:
            control = gif[place:end]  # transparency
        place = end
    if gif[place] != 0x2C:
        raise ValueError("no frame")
    left, top, width, height = struct.unpack_from("<HHHH", gif, place + 1)
    screen_width, screen_height = struct.unpack_from("<HH", gif, 6)
    width, height = max(screen_width, left + width), max(screen_height, top + height)
    if max(width, height) > 0xFFFF:
        raise ValueError("the frame is off the screen")
    struct.pack_into("<HH", screen, 6, width, height)
    data = place + 11 + _colour_table_bytes(gif[place + 9])
    frame = [bytes(screen), control, gif[place:data], *_blocks(gif, data), b"\0;"]
    return Encoded(b"".join(frame), "GIF", width, height)


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


def _is_of_app(marker: int, segment: memoryview) -> bool:
    start, least = _JPEG_APPS.get(marker, (b"", 0))
    return len(segment) >= least > 0 and segment[4 : 4 + len(start)] == start


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks(gif: bytes, place: int) -> Iterator[bytes]:
    """Blocks with the byte of their length, without the empty one that ends them. The file may end first."""
    for _ in range(MAX_PARTS):
        size = gif[place] if place < len(gif) else 0
        if not size:
            return
        block = gif[place + 1 : place + 1 + size]
        yield bytes([len(block)]) + block
        place += 1 + size
    raise ValueError("too many blocks")
