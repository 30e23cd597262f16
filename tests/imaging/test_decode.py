"""Encoded bytes -> grey: every format, depth and orientation; broken, foreign and oversized files."""

import math
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType
from app.imaging.decode import decode
from app.imaging.formats import inspect
from tests.drawings import (
    EXACT,
    FORMATS,
    Grey,
    as_stored,
    coloured,
    digit_drawn,
    encoded,
    transparent,
    turned,
)
from tests.hostile import seven as drawing
from tests.hostile import tiff
from tests.server import ROOT

LOSSY_LEVELS = 12  # of 255: the most that JPEG at quality 95 changes a pixel


def decoded(data: bytes) -> Grey:
    return decode(inspect(data)).grey


def levels_between(one: Grey, other: Grey) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def half_transparent() -> Image.Image:
    return transparent(255 - drawing(), (0, 0, 0))


RGB_MASKS = (0xFF0000, 0xFF00, 0xFF)
EXACTLY_READ: dict[str, Callable[[Grey], bytes]] = {
    "PNG": lambda grey: encoded(grey, "PNG"),
    "WebP": lambda grey: encoded(grey, "WEBP", lossless=True),
    "BMP": lambda grey: encoded(grey, "BMP"),
    "TIFF": lambda grey: encoded(grey, "TIFF"),
    "GIF": lambda grey: encoded(grey, "GIF"),
    "RGB PNG": lambda grey: encoded(Image.fromarray(grey).convert("RGB"), "PNG"),
    "palette PNG": lambda grey: encoded(Image.fromarray(grey).convert("P"), "PNG"),
    "palette BMP": lambda grey: encoded(Image.fromarray(grey).convert("P"), "BMP"),
    "big-endian 16-bit TIFF": lambda grey: encoded((grey.astype(np.uint16) * 257).astype(">u2"), "TIFF"),
    "32-bit TIFF": lambda grey: encoded(grey.astype(np.int32), "TIFF"),
    "float TIFF": lambda grey: encoded(grey.astype(np.float32) / 255, "TIFF"),
    "LZW TIFF": lambda grey: encoded(grey, "TIFF", compression="tiff_lzw"),
    "16-bit Zstandard TIFF": lambda grey: encoded(grey.astype(np.uint16) * 257, "TIFF", compression="zstd"),
    "CMYK TIFF": lambda grey: encoded(Image.fromarray(grey).convert("RGB").convert("CMYK"), "TIFF"),
    "16-bit CMYK TIFF": lambda grey: tiff_of_inks(grey),
    "deflated TIFF of planes": lambda grey: tiff_of_planes(grey),
    "interlaced GIF": lambda grey: encoded(grey, "GIF", interlace=1),
    "HEIC": lambda grey: encoded(grey, "HEIC", **EXACT["HEIC"]),
    "10-bit HEIC": lambda grey: encoded(grey.astype(np.uint16) * 257, "HEIC", **EXACT["HEIC"]),
    "10-bit RGB HEIC": lambda grey: deep_heic("RGB;16", np.dstack([grey] * 3)),
    "HEIC of tiles": lambda grey: encoded(grey, "HEIC", tile_size=64, **EXACT["HEIC"]),
    "HEIC with a thumbnail": lambda grey: encoded(grey, "HEIC", thumbnails=[64], **EXACT["HEIC"]),
    "AVIF": lambda grey: encoded(grey, "AVIF", **EXACT["AVIF"]),
    "10-bit AVIF": lambda grey: deep_avif(grey, 10),
    "Windows BMP with an unused fourth byte": lambda grey: windows_bmp(grey),
    "BMP with junk in the fourth byte": lambda grey: windows_bmp(grey, unused=0x7 << 24),
    "BMP with masks": lambda grey: windows_bmp(grey, *RGB_MASKS, unused=0x7 << 24),
    "BMP with masks in another order": lambda grey: windows_bmp(grey, 0xFF00, 0xFF0000, 0xFF000000, unused=0x9),
    "BMP with masks of 10 bits": lambda grey: windows_bmp(grey, 0x3FF00000, 0xFFC00, 0x3FF),
    "BMP of version 4 without a mask of alpha": lambda grey: windows_bmp(grey, *RGB_MASKS, version=108),
    "BMP of version 5 with zero alpha": lambda grey: windows_bmp(grey, *RGB_MASKS, 0xFF000000, version=124),
    "TIFF with an unspecified channel": lambda grey: unspecified_tiff(with_fourth(grey, 0)),
    "grey TIFF with an unspecified channel": lambda grey: unspecified_tiff(with_fourth(grey, 9, "LA")),
    "palette PNG of transparent colours": lambda grey: encoded(
        Image.fromarray(grey).convert("P"), transparency=bytes(256)
    ),
}
TRANSPARENT: dict[str, Callable[[], bytes]] = {
    "RGBA PNG": lambda: encoded(half_transparent(), "PNG"),
    "RGBA WebP": lambda: encoded(half_transparent(), "WEBP", lossless=True, exact=True),
    "BMP with a mask of alpha": lambda: by_opencv(np.array(half_transparent()), "BMP"),
    "RGBA TIFF": lambda: encoded(half_transparent(), "TIFF"),
    "RGBA HEIC": lambda: encoded(half_transparent(), "HEIC", **EXACT["HEIC"]),
    "premultiplied grey TIFF": lambda: encoded(half_transparent().convert("LA"), "TIFF").replace(
        struct.pack("<HHIHH", 338, 3, 1, 2, 0), struct.pack("<HHIHH", 338, 3, 1, 1, 0)
    ),
    "premultiplied HEIC": lambda: encoded(half_transparent().convert("RGBa"), "HEIC", **EXACT["HEIC"]),
    "10-bit RGBA HEIC": lambda: deep_heic("RGBA;16", np.array(half_transparent())),
    "RGBA AVIF": lambda: encoded(half_transparent(), "AVIF", **EXACT["AVIF"]),
    "grey and alpha PNG": lambda: encoded(half_transparent().convert("LA"), "PNG"),
}


def tiff_of_inks(grey: Grey) -> bytes:
    """CMYK of 16 bits, black alone."""
    black = (255 - grey).astype("<u2") * 257
    inks = np.dstack([np.zeros_like(black)] * 3 + [black]).tobytes()
    data = tiff_of(size_of(grey) | {262: 5, 277: 4}, [inks + struct.pack("<4I", *[16] * 4)])
    return data.replace(struct.pack("<HHII", 258, 4, 1, 8), struct.pack("<HHII", 258, 4, 4, len(data) - 16))


def tiff_of(tags: dict[int, int], parts: list[bytes], places: int = 273, lengths: int = 279) -> bytes:
    """``parts``: strips, or tiles, which the tags ``places`` and ``lengths`` list."""
    count, lists = len(parts), 8 + 2 + 12 * (len(tags) + 2) + 4
    after = lists + 8 * count
    numbers = [*accumulate(map(len, parts[:-1]), initial=after), *map(len, parts)]
    where = ((lists, count), (lists + 4 * count, count)) if count > 1 else ((after,), (len(parts[0]),))
    entries = [*tags.items(), (places, *where[0]), (lengths, *where[1])]
    return tiff(*sorted(entries), after=struct.pack(f"<{2 * count}I", *numbers) + b"".join(parts))


def size_of(grey: Grey) -> dict[int, int]:
    """The tags of a grey TIFF of one strip, but not where it is."""
    height, width = grey.shape
    return {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height}


def tiff_of_planes(grey: Grey) -> bytes:
    return tiff_of(size_of(grey) | {259: 8, 262: 2, 277: 3, 284: 2}, [zlib.compress(grey.tobytes())] * 3)


def deep_heic(mode: str, pixels: Grey) -> bytes:
    file = BytesIO()
    pillow_heif.from_bytes(mode, pixels.shape[1::-1], deep(pixels, 16).tobytes()).save(file, **EXACT["HEIC"])
    return file.getvalue()


def deep_avif(grey: Grey, bits: int) -> bytes:
    return cv2.imencode(".avif", deep(grey, bits), [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100])[
        1
    ].tobytes()


def windows_bmp(grey: Grey, *masks: int, bits: int = 32, unused: int = 0, version: int = 40) -> bytes:
    """``masks``: of red, green and blue, and one of alpha, whose bits are those of ``unused``."""
    values = np.full(grey.shape, unused, np.uint64)
    for mask in masks[:3] or (0xFF0000, 0xFF00, 0xFF):
        lowest = mask & -mask
        values |= np.rint(grey / 255.0 * (mask // lowest)).astype(np.uint64) * np.uint64(lowest)
    row_bytes = -(-grey.shape[1] * bits // 32) * 4
    rows = b"".join(row.tobytes().ljust(row_bytes, b"\0") for row in values[::-1].astype(f"<u{bits // 8}"))
    height, width = grey.shape
    compression = 3 if masks else 0
    header = struct.pack("<IiiHHIIiiII", version, width, height, 1, bits, compression, len(rows), 0, 0, 0, 0)
    header = (header + struct.pack(f"<{len(masks)}I", *masks)).ljust(version, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


def with_fourth(grey: Grey, fourth: int, mode: str = "RGBA") -> Image.Image:
    """Grey colours, with a last channel of level ``fourth``."""
    return Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, fourth)])).convert(mode)


def unspecified_tiff(image: Image.Image) -> bytes:
    """The last channel is none of the kinds of alpha."""
    data = encoded(image, "TIFF")
    return data.replace(struct.pack("<HHIHH", 338, 3, 1, 2, 0), struct.pack("<HHIHH", 338, 3, 1, 0, 0))


def deep(grey: Grey, bits: int) -> NDArray[np.uint16]:
    """0 to 255 as 0 to the highest value of ``bits``."""
    levels: NDArray[np.uint16] = np.rint(grey * ((2**bits - 1) / 255)).astype(np.uint16)
    return levels


def by_opencv(pixels: NDArray[Any], kind: str = "TIFF") -> bytes:
    return cv2.imencode("." + kind.lower(), pixels)[1].tobytes()


@pytest.mark.parametrize("how", EXACTLY_READ)
def test_lossless_files_are_decoded_exactly(how: str) -> None:
    assert levels_between(decoded(EXACTLY_READ[how](drawing())), drawing()) <= 1


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", {}), ("RGB", {}), ("CMYK", {}), ("L", {"progressive": True})],
    ids=["grey", "RGB", "CMYK", "progressive"],
)
def test_jpegs_of_every_kind_are_decoded(mode: str, options: dict[str, Any]) -> None:
    image = Image.fromarray(drawing()).convert("RGB").convert(mode)

    assert levels_between(decoded(encoded(image, "JPEG", quality=95, **options)), drawing()) <= LOSSY_LEVELS


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_images_are_black_and_white(kind: str) -> None:
    image = Image.fromarray(drawing()).convert("1")

    assert levels_between(decoded(encoded(image, kind)), np.array(image.convert("L"))) == 0


@pytest.mark.parametrize("how", TRANSPARENT)
def test_transparency_is_composited_over_white(how: str) -> None:
    assert levels_between(decoded(TRANSPARENT[how]()), drawing()) <= 1


@pytest.mark.parametrize("alpha", [0, 1, 255])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_that_is_the_same_everywhere_does_not_count(kind: str, alpha: int) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}

    assert levels_between(decoded(encoded(with_fourth(drawing(), alpha), kind, **options)), drawing()) <= 1


DARK_THINGS: dict[str, tuple[slice, slice]] = {
    "nothing else": (slice(0), slice(0)),
    "a speck": (slice(4, 9), slice(6, 12)),
    "a line along the edge": (slice(1), slice(None)),
    "a caption": (slice(142, 148), slice(20, 110)),
}


@pytest.mark.parametrize("pen", [200, 255])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("what", DARK_THINGS)
def test_light_ink_on_a_transparent_ground_is_shown_on_black_whatever_dark_is_beside_it(
    what: str, kind: str, pen: int
) -> None:
    picture = np.array(transparent(255 - drawing(), (pen, pen, pen)))
    picture[DARK_THINGS[what]] = (60, 60, 60, 255)
    expected = np.rint((255.0 - drawing()) * pen / 255).astype(np.uint8)
    expected[DARK_THINGS[what]] = 60
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}

    assert levels_between(decoded(encoded(Image.fromarray(picture), kind, **options)), expected) <= 1


def test_dark_ink_with_a_white_outline_is_shown_on_white() -> None:
    outline: Grey = cv2.dilate(255 - drawing(), np.ones((5, 5))).astype(np.uint8)
    picture = Image.alpha_composite(transparent(outline, (255, 255, 255)), transparent(255 - drawing(), (0, 0, 0)))

    assert levels_between(decoded(encoded(picture)), drawing()) <= 2


@pytest.mark.parametrize(("paper", "pen"), [(0, 255), (76, 255), (255, 0), (200, 60)])
def test_a_card_with_ink_on_a_transparent_ground_continues_around_it(paper: int, pen: int) -> None:
    """A round one."""
    levels = np.rint(paper + (pen - paper) * ((255.0 - drawing()) / 255)).astype(np.uint8)
    card = cv2.circle(np.zeros_like(levels), (65, 75), 64, 255, -1)
    picture = Image.fromarray(np.dstack([levels, levels, levels, card]))

    assert levels_between(decoded(encoded(picture)), np.where(card > 0, levels, paper).astype(np.uint8)) <= 1


@pytest.mark.parametrize(("level", "ground"), [(0, 255), (90, 255), (255, 0)])
def test_what_is_erased_from_a_card_shows_the_ground(level: int, ground: int) -> None:
    expected = np.rint(level + (ground - level) * ((255.0 - drawing()) / 255)).astype(np.uint8)

    assert levels_between(decoded(encoded(transparent(drawing(), (level, level, level)))), expected) <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_bits_in_use_of_16_become_0_to_255(channels: int, bits: int, kind: str) -> None:
    """Grey or colours, and opaque alpha. One hot pixel does not count."""
    pixels = deep(drawing(), bits)
    pixels[3, 3] = 65535
    if channels > 1:
        pixels = np.dstack([pixels] * 3 + [np.full_like(pixels, 65535)])[:, :, :channels]
    expected = drawing()
    expected[3, 3] = 255

    assert levels_between(decoded(by_opencv(pixels, kind)), expected) <= 1


NO_VALUES = [math.nan, math.inf, -math.inf, 1e38, -3.4e38, -9999, -32768]


@pytest.mark.parametrize("value", NO_VALUES)
@pytest.mark.parametrize("scale", [1 / 255, 1.0, 8.0])
@pytest.mark.parametrize("where", ["one", "scattered", "a block"])
def test_pixels_without_a_value_become_paper(where: str, scale: float, value: float) -> None:
    missing = np.zeros(drawing().shape, bool)
    places: dict[str, tuple[Any, Any]] = {"one": (3, 3), "scattered": np.s_[::7, ::5], "a block": np.s_[:12, :]}
    missing[places[where]] = True
    floats = np.where(missing, value, drawing() * scale).astype(np.float32)

    expected = np.where(missing, 255, drawing()).astype(np.uint8)
    assert levels_between(decoded(by_opencv(floats)), expected) <= 1


def test_ink_among_pixels_without_a_value_is_shown() -> None:
    ink = drawing() < 100

    grey = decoded(by_opencv(np.where(ink, 0.5, np.nan).astype(np.float32)))

    assert np.array_equal(grey, np.where(ink, 0, 255))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_becomes_white(kind: str) -> None:
    image = Image.fromarray(np.where(drawing() < 128, 0, 99).astype(np.uint8)).convert("P")

    grey = decoded(encoded(image, kind, transparency=99))

    assert np.array_equal(grey, np.where(drawing() < 128, 0, 255))


def test_lightness_and_colour_are_read() -> None:
    """CIE L*a*b*."""
    white = np.where(drawing() < 128, 0, 255).astype(np.uint8)
    data = encoded(Image.merge("LAB", [Image.fromarray(white), *[Image.new("L", (130, 150), 128)] * 2]), "TIFF")

    assert levels_between(decoded(data), white) <= LOSSY_LEVELS


def test_colours_become_their_luminance() -> None:
    paper_and_pen = coloured(255 - drawing(), pen=(0, 0, 255), paper=(255, 255, 0))

    assert levels_between(decoded(encoded(paper_and_pen)), np.array(paper_and_pen.convert("L"))) <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG", "HEIC", "AVIF"])
def test_only_the_first_frame_counts(kind: str) -> None:
    later = [Image.new("L", (130, 150), 200), Image.new("L", (130, 150), 0)]
    data = encoded(drawing(), kind, save_all=True, append_images=later, **EXACT.get(kind, {}))

    assert levels_between(decoded(data), drawing()) == 0


def packed(levels: Grey, bits: int) -> bytes:
    """A grey TIFF of ``bits`` per pixel."""
    in_bits = np.unpackbits(levels[:, :, None], axis=2)[:, :, -bits:]
    return tiff_of(size_of(levels) | {258: bits}, [np.packbits(in_bits.reshape(len(levels), -1), axis=1).tobytes()])


@pytest.mark.parametrize("bits", [2, 4])
def test_a_tiff_of_few_bits_is_read(bits: int) -> None:
    levels = drawing() >> np.uint8(8 - bits)

    assert levels_between(decoded(packed(levels, bits)), levels * np.uint8(255 // (2**bits - 1))) == 0


def tiled(grey: Grey, orientation: int, side: int = 64) -> bytes:
    """A TIFF of tiles, uncompressed."""
    height, width = grey.shape
    padded = np.pad(grey, ((0, -height % side), (0, -width % side)))
    down, across = (length // side for length in padded.shape)
    tiles = padded.reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side * side)
    return tiff_of(size_of(grey) | {274: orientation, 322: side, 323: side}, [*map(bytes, tiles)], 324, 325)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiled_tiff_is_turned_as_a_whole(orientation: int) -> None:
    data = tiled(np.array(as_stored(drawing(), orientation)), orientation)

    assert levels_between(decoded(data), drawing()) == 0


@pytest.mark.parametrize(
    ("kind", "brand"),
    [(kind, brand) for kind in ("HEIC", "AVIF") for brand in ("mif1", "msf1", "miaf")]
    + [("HEIC", "heic"), ("HEIC", "heix"), ("HEIC", "hevc"), ("AVIF", "avis")],
)
def test_any_brand_of_the_format_will_do(kind: str, brand: str) -> None:
    data = encoded(drawing(), kind, **EXACT[kind])

    assert levels_between(decoded(data[:8] + brand.encode() + data[12:]), drawing()) == 0


def test_the_orientation_in_the_boxes_counts_and_not_that_of_exif() -> None:
    data = turned(drawing(), 6, "HEIC").replace(b"irot", b"free")

    assert levels_between(decoded(data), np.array(as_stored(drawing(), 6))) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIC", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_obeyed(kind: str, orientation: int) -> None:
    allowed = LOSSY_LEVELS if kind == "JPEG" else 0

    assert levels_between(decoded(turned(drawing(), orientation, kind)), drawing()) <= allowed


# Broken files


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "HEIC", "AVIF"])  # test_formats has the others
def test_a_file_truncated_anywhere_is_undecodable_and_logs_nothing(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = encoded(digit_drawn(7), kind)
    for length in range(12, len(whole) - 1):
        with pytest.raises(UndecodableImage):
            decoded(whole[:length])

    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bits_give_a_picture_or_one_of_our_errors(kind: str) -> None:
    whole = bytearray(encoded(drawing(), kind))
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = whole.copy()
        for place in random.integers(0, len(whole), 4):
            damaged[place] ^= 1 << int(random.integers(8))
        try:
            grey = decoded(bytes(damaged))
        except (UndecodableImage, UnsupportedMediaType, TooLarge):
            continue
        assert grey.dtype == np.uint8
        assert grey.ndim == 2


UNKNOWN = {
    "nothing": b"",
    "text": b"a plain text, long enough to be something",
    "PDF": b"%PDF-1.7\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "WAVE": b"RIFF\x24\0\0\0WAVEfmt ",
    "cut signature": b"\x89PNG",
    "no GIF version": b"GIF88a\1\0\1\0",
    "MP4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_content_of_no_known_format_is_unsupported(what: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        inspect(UNKNOWN[what])


UNREADABLE: dict[str, dict[int, int]] = {  # what the message says -> the tags that say so, without values of others
    "is compressed with LERC": {259: 34887},
    "is compressed with WebP": {259: 50001},
    "is compressed with method 65000": {259: 65000},
    "has 1 channel of 64-bit floats": {258: 64, 339: 3},
    "has 1 channel of 10-bit integers": {258: 10},
    "has 1 channel of 12-bit integers": {258: 12, 259: 7},
    "has 2 channels of 8-bit integers": {277: 2},
    "has colours of kind 32803": {262: 32803},
}


@pytest.mark.parametrize("why", UNREADABLE)
def test_a_tiff_of_a_kind_that_cannot_be_read_says_which_and_what_to_do(why: str) -> None:
    data = tiff_of(size_of(drawing()) | UNREADABLE[why], [bytes(10**6)])

    with pytest.raises(UndecodableImage, match=f"^The TIFF {why}, which cannot be read: save it"):
        decoded(data)
    with pytest.raises(UndecodableImage, match="is broken"):
        decoded(tiff_of(size_of(drawing()), [bytes(9)]))


INCOMPLETE: dict[str, Callable[[], bytes]] = {
    "height": lambda: changed_tag(encoded(drawing(), "TIFF"), 257, 300),
    "rows per strip": lambda: changed_tag(encoded(drawing(), "TIFF"), 278, 40),
    "height of tiles": lambda: changed_tag(tiled(drawing(), 1), 257, 300),
    "planes": lambda: tiff_of(size_of(drawing()) | {262: 2, 277: 3, 284: 2}, [bytes(drawing())] * 2),
    "place of a tile": lambda: tiled(drawing(), 1).replace(struct.pack("<I", 158 + 8 * 9), bytes(4)),
}


def changed_tag(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another value."""
    place = re.search(struct.pack("<H", tag) + b"[\3\4]\0\1\0\0\0", data)
    assert place
    return data[: place.end()] + struct.pack("<I", value) + data[place.end() + 4 :]


@pytest.mark.parametrize("what", INCOMPLETE)
def test_a_tiff_whose_strips_or_tiles_do_not_cover_it_is_undecodable(what: str) -> None:
    with pytest.raises(UndecodableImage, match="is broken"):
        decoded(INCOMPLETE[what]())


# Size and memory


@pytest.mark.parametrize("kind", FORMATS)
def test_more_pixels_than_the_caller_allows_are_too_large(kind: str) -> None:
    data = encoded(drawing(), kind)

    assert inspect(data, max_pixels=130 * 150).width == 130
    with pytest.raises(TooLarge):
        inspect(data, max_pixels=130 * 150 - 1)


# Decodes a file in a fresh process. Prints the rise of its peak memory, the memory it keeps, and the estimate, in KiB.
_MEASURING = """
import sys
from pathlib import Path
from app.imaging.codecs import configure_codecs
from app.imaging.decode import decode
from app.imaging.formats import MAX_PIXELS, inspect, memory_needed
from app.inference.memory import configure_malloc
from PIL import Image
from tests.drawings import digit_drawn, encoded

def kib(name):
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0])

configure_malloc()
configure_codecs(MAX_PIXELS)
Image.init()  # loads every format
decode(inspect(encoded(digit_drawn(7))))
peak, held = kib("VmHWM:"), kib("VmRSS:")
image = inspect(Path(sys.argv[1]).read_bytes())
estimated = memory_needed(image) // 1024
decode(image)
del image
print(kib("VmHWM:") - peak, kib("VmRSS:") - held, estimated)
"""


_FAST: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"method": 0},
    "HEIC": {"enc_params": {"preset": "ultrafast"}},
    "AVIF": {"speed": 10},
}


def large(kind: str) -> bytes:
    """A drawing on 12 million pixels, with its paper transparent where ``kind`` says so."""
    grey = drawing().repeat(24, axis=0).repeat(26, axis=1)
    colour = Image.fromarray(grey).convert("RGB")
    if "transparent" in kind:
        colour.putalpha(Image.fromarray(255 - grey))
    if "16-bit" in kind:
        return by_opencv(deep(np.array(colour), 16), kind.split()[-1])
    options: dict[str, Any] = _FAST[kind.split()[-1]]
    if "strip" in kind:
        options = options | {"tiffinfo": {278: len(grey)}, "strip_size": 2**31}
    if "progressive" in kind:
        options = {"progressive": True, "subsampling": 0}
    return encoded(colour.convert("CMYK") if "CMYK" in kind else colour, kind.split()[-1], **options)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "kind",
    [
        "PNG",
        "16-bit transparent PNG",
        "progressive JPEG",
        "transparent TIFF",
        "one strip TIFF",
        "CMYK TIFF",
        "transparent WEBP",
        "HEIC",
        "transparent HEIC",
        "AVIF",
        "transparent AVIF",
    ],
)
def test_a_large_picture_takes_no_more_memory_than_estimated_and_returns_it(kind: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(large(kind))
    command = [sys.executable, "-c", _MEASURING, str(tmp_path / "picture")]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    peak, kept, estimated = map(int, ran.stdout.split())

    assert peak <= estimated < 5 * peak
    assert kept < 24_000  # a codec's own code and tables


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_large_picture_is_halved_and_turned_upright(kind: str, orientation: int) -> None:
    whole = drawing().repeat(16, axis=0).repeat(16, axis=1)

    picture = decode(inspect(turned(whole, orientation, kind)))

    assert (picture.height, picture.width) == whole.shape
    step = 4 if kind == "JPEG" else 2
    assert levels_between(picture.grey, whole[::step, ::step]) <= (2 if kind == "JPEG" else 0)
