"""Metadata, and what follows the picture, decide nothing: neither whether it is read nor what that costs."""

import struct
import zlib
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.errors import DigitsError, TooLarge, UndecodableImage
from app.imaging.decode import decode
from app.imaging.formats import inspect, memory_needed
from app.imaging.heif import largest_part
from tests.drawings import Grey, coloured, encoded, transparent, turned
from tests.hostile import adam7, avif, box, claiming, png_chunk, seven

MIDDLE = 40  # bytes before its end, a file is cut within its pixels
FRAME = Image.new("L", (130, 150), 90)
PROGRESSIVE = {"progressive": True}


def decoded(data: bytes) -> Grey:
    return decode(inspect(data)).grey


def colour() -> Image.Image:
    return coloured(255 - seven(), pen=(20, 30, 200), paper=(250, 240, 220))


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


JUNK = np.random.default_rng(0).bytes(3000)
LONG = b"k\0\0" + zlib.compress(bytes(3 * 2**20))
CHUNKS = "bKGD cHRM eXIf gAMA hIST iCCP iTXt pHYs sPLT sRGB tEXt tIME zTXt acTL"
SEGMENTS = {
    "JFIF": segment(0xE0, b"JFIF\0\1"),
    "EXIF": segment(0xE1, b"Exif\0\0" + JUNK),
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<"),
    "profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\xff\xda" * 100),
    "further pictures": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
    "Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\xff\xff"),
    "Adobe": segment(0xEE, b"Adobe\0"),
    "comment": segment(0xFE, JUNK),
    "of no length": b"\xff\xe5\0\0",
}


@pytest.mark.parametrize("kind", CHUNKS.split())
def test_no_chunk_of_metadata_refuses_a_png(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = encoded(seven())
    chunks = [png_chunk(kind.encode(), data) for data in (b"", b"abc", JUNK, LONG)]
    wrong_checksums = [chunk[:-1] + bytes([chunk[-1] ^ 1]) for chunk in chunks]
    for chunk, place in product(chunks + wrong_checksums, (33, len(whole) - 12, len(whole))):
        assert np.array_equal(decoded(whole[:place] + chunk + whole[place:]), seven()), (chunk[:30], place)

    assert capfd.readouterr().err == ""  # libpng would print names out of broken chunks


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "progressive"])
def test_no_segment_of_metadata_refuses_a_jpeg(mode: str, name: str) -> None:
    options = PROGRESSIVE if mode == "progressive" else {}
    whole = encoded(colour().convert("RGB" if options else mode), "JPEG", **options)
    tables = whole.index(b"\xff\xdb")
    for place in (2, tables, whole.index(b"\xff\xda"), len(whole) - 2):
        assert np.array_equal(decoded(whole[:place] + SEGMENTS[name] + whole[place:]), decoded(whole)), place


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("how", ["EXIF", "XMP", "compressed XMP"])
def test_the_orientation_of_a_png_is_obeyed_beside_broken_metadata(how: str) -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP, zip=how.startswith("compressed"))
    data = turned(seven(), 6, "PNG") if how == "EXIF" else encoded(np.rot90(seven()), pnginfo=info)
    broken = png_chunk(b"eXIf", b"junk") + png_chunk(b"iCCP", b"") + png_chunk(b"zTXt", b"XML:com.adobe.xmp\0\0junk")

    assert np.array_equal(decoded(data[:33] + broken + data[33:]), seven())


FILES: dict[str, Callable[[], bytes]] = {
    "grey PNG": lambda: encoded(seven()),
    "RGBA PNG": lambda: encoded(transparent(255 - seven(), (0, 0, 0))),
    "palette PNG": lambda: encoded(Image.fromarray(seven()).convert("P")),
    "interlaced PNG": lambda: adam7(seven()),
    "grey JPEG": lambda: encoded(seven(), "JPEG"),
    "colour JPEG": lambda: encoded(colour(), "JPEG"),
    "CMYK JPEG": lambda: encoded(colour().convert("CMYK"), "JPEG"),
    "JPEG with restart markers": lambda: encoded(colour(), "JPEG", restart_marker_blocks=5),
    "progressive JPEG": lambda: encoded(seven(), "JPEG", **PROGRESSIVE),
    "progressive colour JPEG": lambda: encoded(colour(), "JPEG", **PROGRESSIVE),
    "turned JPEG": lambda: turned(seven(), 6, "JPEG"),
    "GIF": lambda: encoded(seven(), "GIF"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_its_last_bytes_is_read_whole_or_not_at_all(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = FILES[name]()
    whole, read = decoded(data), []
    for missing in [*range(1, 100), *range(100, len(data) - 12, 7)]:
        try:
            grey = decoded(data[:-missing])
        except DigitsError:
            continue
        assert np.array_equal(grey, whole), missing
        read.append(missing)

    assert {1, 2} <= set(read)
    assert max(read) < MIDDLE
    assert [line for line in capfd.readouterr().err.splitlines() if not line.startswith("libpng error")] == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_whose_last_third_is_zeros_is_refused(name: str) -> None:
    data = FILES[name]()

    with pytest.raises(UndecodableImage):
        decoded(data[: len(data) * 2 // 3] + bytes(len(data)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_later_frames_may_be_missing(kind: str) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(seven(), kind, save_all=True, append_images=[FRAME, FRAME.rotate(180)], **lossless)

    for missing in range(1, 60):
        assert np.array_equal(decoded(data[:-missing]), seven()), missing


def test_a_jpeg_is_read_over_a_false_marker_up_to_the_next_restart() -> None:
    data = encoded(seven(), "JPEG", restart_marker_blocks=3)
    place = len(data) * 2 // 3

    differing = decoded(data[:place] + b"\xff\x9f" + data[place:]) != decoded(data)

    assert 0 < np.count_nonzero(differing) <= 3 * 64


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("tail", [JUNK, bytes(20), encoded(FRAME, "JPEG")], ids=["junk", "zeros", "picture"])
def test_what_follows_the_picture_decides_nothing(kind: str, tail: bytes) -> None:
    data = encoded(seven(), kind)

    assert np.array_equal(decoded(data + tail), decoded(data))


def test_a_gif_whose_frame_is_larger_than_its_screen_is_read_whole() -> None:
    assert np.array_equal(decoded(claiming("GIF", 1, 1)), seven())


def test_a_thumbnail_a_profile_and_a_video_cost_a_jpeg_nothing() -> None:
    plain = encoded(Image.new("RGB", (2000, 2000), "white"), "JPEG")
    thumbnail = segment(0xE1, b"Exif\0\0II*\0" + encoded(FRAME, "JPEG", **PROGRESSIVE))
    burdened = plain[:2] + thumbnail + SEGMENTS["profile"] + plain[2:] + b"ftypmp42" + b"\xff\xda" * 1000

    assert memory_needed(inspect(burdened)) == memory_needed(inspect(plain)) > 0


@pytest.mark.parametrize(
    "repeated", [segment(0xE1, b"Exif\0\0"), segment(0xEE, b"Adobe" + bytes(9))], ids=["EXIF", "Adobe"]
)
def test_few_segments_of_one_kind_reach_the_decoder(repeated: bytes) -> None:
    whole = encoded(seven(), "JPEG")
    image = inspect(whole[:2] + repeated * 60_000 + whole[2:])

    assert 0 < image.data.count(repeated) <= 16
    assert np.array_equal(decode(image).grey, decoded(whole))


LEAST_SIZE = b"\x0a\3\x18\0\0"  # a sequence header of AV1, for one pixel


AVIFS: dict[str, Callable[[int], bytes]] = {  # how often something is repeated -> a file
    "items": lambda count: avif(items=count),
    "tables of properties": lambda count: avif(tables=box(b"ipma", bytes(200)) * count),
    "references": lambda count: avif(parts=box(b"cdsc", bytes(200)) * count),
    "sequence headers": lambda count: avif(items=count // 20, data=LEAST_SIZE * 20),
}


@pytest.mark.parametrize(
    ("what", "few"), [("items", 1000), ("tables of properties", 600), ("references", 600), ("sequence headers", 60)]
)
def test_an_avif_may_list_no_more_than_encoders_write(what: str, few: int) -> None:
    assert largest_part(AVIFS[what](few)) == 1
    with pytest.raises(ValueError, match="too many"):
        largest_part(AVIFS[what](few + few // 3 + 1))


@pytest.mark.parametrize(("width", "height"), [(8160, 6144), (8192, 6144), (8000, 8000)])
def test_pictures_of_the_largest_common_sensors_are_not_too_large(width: int, height: int) -> None:
    assert inspect(claiming("GIF", width, height)).width == width
    with pytest.raises(TooLarge):
        inspect(claiming("GIF", width + 3000, height))
