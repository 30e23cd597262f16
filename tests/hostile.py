"""Synthetic hostile files of every format: bombs, broken files and valid oddities."""

import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from tests.drawings import FORMATS, Grey, digit_drawn, encoded, enlarged, placed

_SMALL_TIFF = ((256, 28), (257, 28), (258, 8), (259, 1), (262, 1))
_PNG = b"\x89PNG\r\n\x1a\n"


def seven() -> Grey:
    """Dark on light, taller than wide."""
    return 255 - placed(enlarged(digit_drawn(7), 120), (150, 130), 20, 5)


# Sizes claimed by a header


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, interlaced: int = 0) -> bytes:
    """8-bit grey. ``data``: the filtered rows, not yet deflated."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced))
    return _PNG + header + png_chunk(b"IDAT", zlib.compress(data, 9)) + png_chunk(b"IEND", b"")


def png_claiming(width: int, height: int) -> bytes:
    return png(width, height, bytes(1000))


def tiff(*entries: tuple[int, ...], after: bytes = b"", following: int = 0) -> bytes:
    """``entries``: tag and value of type LONG, or where values are, and how many. ``following``: the next directory."""
    directory = b"".join(struct.pack("<HHII", tag, 4, *(count or [1]), value) for tag, value, *count in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", following) + after


def tiff_claiming(width: int, height: int) -> bytes:
    return tiff((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 9))


def webp_claiming(width: int, height: int) -> bytes:
    pixels = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\0" * 17
    chunk = b"WEBPVP8L" + struct.pack("<I", len(pixels)) + pixels
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk


_SIZES = {  # what stands before the size, how many bytes before, and how the size is written
    "JPEG": (b"\xff\xc0", 5, ">HH"),
    "GIF": (b"GIF87a", 6, "<HH"),
    "BMP": (b"BM", 18, "<ii"),
    "HEIC": (b"ispe", 8, ">II"),
    "AVIF": (b"ispe", 8, ">II"),
}


def claiming(kind: str, width: int, height: int, **options: object) -> bytes:
    """A square claims it, or any GIF or BMP. In a grid, each tile."""
    if kind in _OTHERS:
        return _OTHERS[kind](width, height)
    mark, offset, layout = _SIZES[kind]
    data = bytearray(encoded(seven(), kind, **options))
    struct.pack_into(layout, data, data.rindex(mark) + offset, width, height)
    return bytes(data)


_OTHERS: dict[str, Callable[[int, int], bytes]] = {"PNG": png_claiming, "TIFF": tiff_claiming, "WEBP": webp_claiming}


# Bombs


def jpeg_of_scans(count: int, side_px: int = 64) -> bytes:
    """A progressive JPEG whose last scan is repeated: each takes a pass over all pixels for a hundred bytes."""
    data = encoded(Image.new("L", (side_px, side_px), 200), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    scans = data.count(b"\xff\xda")
    last = data.rindex(b"\xff\xda")
    return data[:end] + data[last:end] * (count - scans) + data[end:]


def gif_frame_claiming(width: int, height: int) -> bytes:
    """A small screen and a large first frame."""
    data = bytearray(encoded(seven(), "GIF"))
    place = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[place + 5 : place + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def gif_disposing_of(width: int, height: int) -> bytes:
    """The first frame has to be cleared before the next, for which Pillow would allocate its size at once."""
    data = gif_frame_claiming(width, height)
    place = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    return data[:place] + b"\x21\xf9\x04\x08\0\0\0\0" + data[place:]


def webp_canvas_claiming(width: int, height: int) -> bytes:
    """Animated: a large canvas and small frames."""
    frames = [Image.new("L", (120, 120), level) for level in (9, 200)]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


@cache
def bombs() -> dict[str, bytes]:
    """Too many pixels or too much work, by their header: 413."""
    claims = {f"{kind} of 256 million pixels": claiming(kind, 16_000, 16_000) for kind in FORMATS}
    return claims | {
        "BMP of the most negative height": claiming("BMP", 28, -(2**31)),
        "TIFF of 4 billion pixels a side": tiff_claiming(2**32 - 1, 2**32 - 1),
        "TIFF with two sizes": tiff(
            (256, 60_000), (257, 60_000), *_SMALL_TIFF, (273, 8), (277, 1), (278, 28), (279, 9)
        ),
        "GIF with a frame larger than its screen": gif_frame_claiming(60_000, 60_000),
        "GIF with a frame to be cleared": gif_disposing_of(60_000, 60_000),
        "WebP with a canvas larger than its frames": webp_canvas_claiming(16_000, 16_000),
        "JPEG of 2,000 scans": jpeg_of_scans(2000),
        "HEIC with tiles of 256 million pixels": claiming("HEIC", 16_000, 16_000, tile_size=128),
    }


# Broken


@cache
def broken() -> dict[str, bytes]:
    """Of a known format and undecodable: 422."""
    whole = encoded(seven())
    loop = tiff((256, 28), (257, 28), following=8)
    claims = {f"{kind} of no pixels": claiming(kind, 0, 0) for kind in FORMATS if kind not in ("GIF", "WEBP")}
    claims |= {f"{kind} cut in the middle": _two_thirds(encoded(seven(), kind)) for kind in FORMATS}
    empty_chunks = png_chunk(b"abCD", b"") * 200_000
    size_later = png_chunk(b"abCD", whole[16:29]) + png_claiming(30_000, 30_000)[8:]
    return claims | {
        "PNG that inflates to 100 MB more than its pixels": png(28, 28, bytes(100 * 2**20)),
        "PNG of two sizes": whole[:33] + png_claiming(30_000, 30_000)[8:33] + whole[33:],
        "PNG whose size comes second": whole[:8] + size_later,
        "PNG with a text that claims 2 GiB": whole[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + whole[33:],
        "PNG of 200,000 empty chunks": whole[:33] + empty_chunks + whole[33:],
        "progressive JPEG cut in the middle": _two_thirds(encoded(seven(), "JPEG", progressive=True)),
        "JPEG of 100,000 empty segments": b"\xff\xd8" + b"\xff\xe2\0\2" * 10**5 + encoded(seven(), "JPEG")[2:],
        "GIF with a comment of 200,000 blocks": _gif_with(b"\x21\xfe" + b"\1a" * 200_000 + b"\0"),
        "TIFF whose directory is itself the next": loop,
        "TIFF of tiles of 4 billion pixels": tiff(*_SMALL_TIFF, (322, 65_520), (323, 65_520), (324, 8), (325, 9)),
        "TIFF of 100,000 tags": b"II+\0\x08\0\0\0"
        + struct.pack("<QQ", 16, 100_000)
        + struct.pack("<HHQQ", 60_000, 4, 1, 1) * 100_000
        + bytes(8),
        "BMP of pixels beyond its end": claiming("BMP", 5000, 5000),
        "HEIC of 25 tiles, each as large as itself": heic_of_25_tiles(),
        "HEIC of two sizes": claiming("HEIC", 3000, 3000),
        "AVIF of two sizes": claiming("AVIF", 28, 28),
        "HEIC of 500,000 boxes": encoded(seven(), "HEIC")[:24] + b"\0\0\0\x08free" * 500_000,
        "AVIF of 65,000 items": avif(items=65_000),
        "AVIF without boxes": b"\0\0\0\x10ftypavif\0\0\0\0" + bytes(100),
    }


def _two_thirds(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def heic_of_25_tiles() -> bytes:
    """All are decoded, and one is seen."""
    data = encoded(seven(), "HEIC", tile_size=32)
    return data.replace(struct.pack(">HH", 130, 150), struct.pack(">HH", 32, 32)).replace(
        struct.pack(">II", 130, 150), struct.pack(">II", 32, 32)
    )


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def avif(*, items: int = 1, data: bytes = b"", tables: bytes = b"", parts: bytes = b"") -> bytes:
    """Of one pixel, each item with the same ``data``."""
    entry = struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(data))  # in box idat, one extent
    size = box(b"ipco", box(b"ispe", struct.pack(">III", 0, 1, 1)))
    of_item = box(b"ipma", struct.pack(">IIHBB", 0, 1, 1, 1, 1))
    found = box(b"iloc", struct.pack(">IHH", 1 << 24, 0x4400, items) + entry * items) + box(b"idat", data)
    meta = bytes(4) + box(b"iprp", size + of_item + tables) + box(b"iref", bytes(4) + parts) + found
    return box(b"ftyp", b"avif\0\0\0\0") + box(b"meta", meta)


# Valid but odd


def adam7(grey: Grey) -> bytes:
    """An interlaced PNG, which Pillow cannot write."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [b"\0" + line.tobytes() for top, left, down, right in passes for line in grey[top::down, left::right]]
    return png(grey.shape[1], grey.shape[0], b"".join(rows), interlaced=1)


def _jpeg_with(marker: int, data: bytes) -> bytes:
    whole = encoded(seven(), "JPEG")
    return whole[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + whole[2:]


def _gif_with(extension: bytes) -> bytes:
    whole = encoded(seven(), "GIF")
    place = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:place] + extension + whole[place:]


@cache
def odd() -> dict[str, bytes]:
    """Pictures of a seven that are valid in spite of their oddities: 200."""
    grey = seven()
    whole, jpeg = encoded(grey), encoded(grey, "JPEG")
    inflating = b"k\0\0" + zlib.compress(bytes(100 * 2**20), 9)
    looping = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)
    rotating = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + struct.pack("<HHII", 0x0112, 3, 2**31, 8) * 5000
    return {
        "JPEG and HTML at once": _jpeg_with(0xFE, b"<script>alert(1)</script>") + b"<html>",
        "JPEG with EXIF that points to itself": _jpeg_with(0xE1, looping),
        "JPEG with 5,000 orientations": _jpeg_with(0xE1, rotating[:65_000]),
        "JPEG with noise for a profile": _jpeg_with(0xE2, b"ICC_PROFILE\0\1\1" + np.random.default_rng(0).bytes(5000)),
        "JPEG of a million fill bytes": jpeg[:2] + b"\xff" * 10**6 + jpeg[2:],
        "WebP with noise for EXIF and a profile": encoded(
            grey, "WEBP", lossless=True, exif=b"Exif\0\0II*\0noise", icc_profile=b"noise"
        ),
        "interlaced PNG": adam7(grey),
        "PNG with a text that inflates to 100 MB": whole[:33] + png_chunk(b"zTXt", inflating) + whole[33:],
        "PNG with a profile that inflates to 100 MB": whole[:33] + png_chunk(b"iCCP", inflating) + whole[33:],
        "PNG whose data claim 2 GiB": whole[:33] + struct.pack(">I", 2**31 - 1) + whole[37:],
        "HEIC with a film behind it": encoded(grey, "HEIC") + b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\xff\xd8\xff\xda",
        "AVIF with a note behind it": encoded(grey, "AVIF") + b"SEFT",
    }
