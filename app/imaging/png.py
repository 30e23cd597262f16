"""The chunks of a PNG that decide pixels, and a bound on what they inflate to."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO

from PIL import Image

from app.imaging.headers import MAX_PARTS, Encoded, orientation_of

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}  # the chunks that decide pixels
_METADATA = (b"eXIf", b"iTXtXML:com.adobe.xmp\0", b"tEXtRaw profile type exif\0", b"zTXtRaw profile type exif\0")
_MAX_METADATA = 4  # chunks: Pillow inflates each to at most 1 MB
_WITH_ALPHA = {4, 6}  # colour types
_CHANNELS = {2: 3, 4: 2, 6: 4}  # by colour type; the others have one
_UNCHECKED_BYTES = 2**20  # data that is not test-inflated: at most 1 GB, within 3 s
_UNCHECKED_SMALL_BYTES = 2048  # the same for a small image: within 10 ms, as the event loop waits
_SMALL_BYTES = 2**16  # of pixels
_INFLATE_STEP_BYTES = 1024  # compressed bytes at a time, at most 1 MB inflated


def read_png(png: bytes) -> Encoded:
    """Raises ValueError or struct.error if there is no header, or too many chunks."""
    if png[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("no header")
    width, height = struct.unpack_from(">II", png, 16)
    kept, is_opaque = [_SIGNATURE], png[25] not in _WITH_ALPHA
    metadata: list[bytes] = []
    kind = b""
    for kind, chunk in _chunks(png):
        if kind in _PIXELS:
            kept.append(chunk)
        elif chunk.startswith(_METADATA, 4) and len(metadata) < _MAX_METADATA and not kept[-1].startswith(b"IDAT", 4):
            metadata.append(chunk)
        is_opaque &= kind != b"tRNS"
    orientation = next((each for each in map(_orientation_in, metadata) if each != 1), 1)
    data = b"".join([*kept, _END])
    return Encoded(data, "PNG", width, height, None, orientation, is_opaque, is_cut=kind == b"IDAT")


def check_inflated(png: bytes, *, is_cut: bool) -> None:
    """Raises ValueError if the data inflate to far more than the pixels need, as libpng would inflate them all.

    Also if the file is cut within data that are needed: libpng would write a line to stderr.
    """
    width, height, depth, colours = struct.unpack_from(">IIBB", png, 16)
    pixels = height * (1 + width * depth * _CHANNELS.get(colours, 1) // 8)  # bytes of the filtered rows
    if not is_cut and len(png) <= (_UNCHECKED_SMALL_BYTES if pixels <= _SMALL_BYTES else min(pixels, _UNCHECKED_BYTES)):
        return
    left = 2 * pixels + 4096  # twice: interlaced rows are padded
    stream = zlib.decompressobj()
    with suppress(zlib.error):  # libpng reports it
        for kind, chunk in _chunks(png):
            data = memoryview(chunk)[8:-4] if kind == b"IDAT" else b""
            for start in range(0, len(data), _INFLATE_STEP_BYTES):
                left -= len(stream.decompress(data[start : start + _INFLATE_STEP_BYTES]))
                if left < 0:
                    raise ValueError("the data are longer than the image")
    if is_cut and left > pixels + 4096:
        raise ValueError("the data are shorter than the image")


def _orientation_in(chunk: bytes) -> int:
    """1 if there is none. As Pillow finds it in a picture of one pixel, which it may decode."""
    pixel = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        chunk,
        _chunk(b"IDAT", zlib.compress(bytes(2))),
    )
    with suppress(Exception):  # a dozen types, by defect
        return orientation_of(Image.open(BytesIO(b"".join([_SIGNATURE, *pixel, _END])), formats=["PNG"]))
    return 1


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and chunk. The last may be cut: it is made whole, as OpenCV would allocate what it claims, up to 4 GiB."""
    place = len(_SIGNATURE)
    for _ in range(MAX_PARTS):
        kind = png[place + 4 : place + 8]
        if len(kind) < 4:
            return
        end = place + 12 + int.from_bytes(png[place : place + 4])
        yield kind, png[place:end] if end <= len(png) else _chunk(kind, png[place + 8 : end - 4])
        if kind == b"IEND":
            return
        place = end
    raise ValueError("too many chunks")
