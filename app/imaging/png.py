"""The chunks of a PNG that decide pixels, and a bound on what they inflate to."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from app.imaging.headers import MAX_PARTS, Encoded

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}  # the chunks that decide pixels
_EXIF_KEYWORDS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_EXIF = dict.fromkeys((b"iTXt", b"tEXt", b"zTXt"), _EXIF_KEYWORDS) | {b"eXIf": (b"",)}  # how they start
_MAX_EXIF = 4  # chunks: Pillow inflates each to at most 1 MB
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
    kept, exif, is_cut, has_pixels = [_SIGNATURE], [], False, False
    for kind, chunk, is_whole in _chunks(png):
        if kind in _PIXELS:
            kept.append(chunk)
        elif not has_pixels and chunk.startswith(_EXIF.get(kind, ()), 8):
            exif.append((kind, chunk))
        has_pixels |= kind == b"IDAT"
        is_cut = kind == b"IDAT" and not is_whole
    files = tuple(_file_with(chunk) for _, chunk in sorted(exif)[:_MAX_EXIF])  # eXIf comes first
    return Encoded(b"".join([*kept, _END]), "PNG", width, height, is_cut=is_cut, exif=files)


def bounded_png(image: Encoded) -> bytes:
    """The data of a PNG, with an end if they are cut: libpng decides then whether pixels are missing.

    Raises ValueError if they inflate to far more than the pixels need: libpng would inflate them all. Raises zlib.error
    if data that are cut are broken as well.
    """
    png = image.data
    if not image.is_cut:
        _check_inflated(png)
        return png
    deflate = zlib.compressobj(1)
    stream = b"".join(map(deflate.compress, _inflated(png))) + deflate.flush()
    others = [chunk for kind, chunk, _ in _chunks(png) if kind != b"IDAT"]
    return b"".join([_SIGNATURE, *others[:-1], _chunk(b"IDAT", stream), others[-1]])


def _check_inflated(png: bytes) -> None:
    """Raises ValueError as above. An invalid deflate stream passes: libpng reports it."""
    pixels = _png_bytes(png)
    if len(png) <= (_UNCHECKED_SMALL_BYTES if pixels <= _SMALL_BYTES else min(pixels, _UNCHECKED_BYTES)):
        return
    with suppress(zlib.error):
        for _ in _inflated(png):
            pass


def _inflated(png: bytes) -> Iterator[bytes]:
    """The data, in parts of at most 1 MB. Raises ValueError as above, and zlib.error."""
    limit = 2 * _png_bytes(png) + 4096  # twice: interlaced rows are padded
    stream = zlib.decompressobj()
    for kind, chunk, _ in _chunks(png):
        data = memoryview(chunk)[8:-4] if kind == b"IDAT" else memoryview(b"")
        for start in range(0, len(data), _INFLATE_STEP_BYTES):
            part = stream.decompress(data[start : start + _INFLATE_STEP_BYTES])
            limit -= len(part)
            if limit < 0:
                raise ValueError("the data are longer than the image")
            yield part


def _png_bytes(png: bytes) -> int:
    """Of the filtered rows."""
    width, height, depth, colours = struct.unpack_from(">IIBB", png, 16)
    return int(height * (1 + width * depth * _CHANNELS.get(colours, 1) // 8))


def _file_with(chunk: bytes) -> bytes:
    """A PNG of one pixel, which Pillow decodes when it looks for XMP."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    data = _chunk(b"IDAT", zlib.compress(bytes(2)))
    return _SIGNATURE + header + chunk + data + _END


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, chunk, and whether the file has all of it: OpenCV would allocate what a chunk claims, up to 4 GiB."""
    place = len(_SIGNATURE)
    for _ in range(MAX_PARTS):
        kind = png[place + 4 : place + 8]
        if len(kind) < 4:
            return
        end = place + 12 + int.from_bytes(png[place : place + 4])
        if end > len(png):
            yield kind, _chunk(kind, png[place + 8 : end - 4]), False
            return
        yield kind, png[place:end], True
        if kind == b"IEND":
            return
        place = end
    raise ValueError("too many chunks")
