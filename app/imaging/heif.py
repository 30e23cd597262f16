"""HEIC and AVIF files: which of the two a file is, and how large the pictures in it are. Decodes no pixel.

libheif and libavif read these files. libheif does not limit how much a small image may be put together from, and
libavif decodes any size that the AV1 data claim, so that is checked here: boxes of ISO/IEC 14496-12 and 23008-12, and
the AV1 specification, version 1.0.0 with errata 1.
"""

from collections.abc import Iterator
from contextlib import suppress

Box = memoryview  # what a box contains, without its length and kind

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
_MAX_BRANDS = 64
_MAX_BOXES = 10_000  # side by side
_MAX_TABLE_BYTES = 128 * 1024  # of a box that lists items: libheif takes at most 1,000 of them
_MAX_ITEMS = 1000  # as libheif
_MAX_PARTS = 8  # all parts together, in sizes of the largest picture: telephones write 1 to 3
_MAX_SHARE = 4  # of the file, for the data of all items together
_MAX_UNITS = 64  # of AV1 data: encoders write 1 to 4
_HEADER_BYTES = 128  # of a unit, up to the size in a sequence header: fewer are needed
_SEQUENCE_HEADER = 1  # a kind of unit: AV1, 6.2.2


def format_of(data: bytes) -> str | None:
    """HEIC or AVIF, by the brands of the file; None for any other file."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4]), 16 + 4 * _MAX_BRANDS)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def as_still(data: bytes, kind: str) -> bytes:
    """The file with the brand of a still picture, whose first picture is read even if it is an animation."""
    return data[:8] + kind.lower().encode() + data[12:]


def largest_part(data: bytes) -> int:
    """Pixels of the largest picture in the file: the image, a tile, a thumbnail, a mask.

    Raises ValueError, IndexError or EOFError where boxes are broken, AV1 data are larger, or far more is put together.
    """
    meta = _child(Box(data), b"meta")[4:]
    areas = _areas(_child(meta, b"iprp"))
    largest = max(areas.values())
    if sum(areas.get(part, 0) for part in _parts(_child(meta, b"iref"))) > _MAX_PARTS * largest:
        raise ValueError("the image is put together from too much")
    left = _MAX_UNITS  # of all items together
    for units in _data_of_items(meta, Box(data)) if format_of(data) == "AVIF" else ():
        with suppress(EOFError):  # EXIF, for example, which is no AV1 data
            for area in _claimed_areas(units):
                left -= 1
                if area > largest or left < 0:
                    raise ValueError("the AV1 data are larger, or have too many headers")
    return largest


class _Bits:
    """Integers, read one after the other. Raises EOFError at the end, ValueError for data that would take long."""

    def __init__(self, data: Box) -> None:
        if len(data) > _MAX_TABLE_BYTES:
            raise ValueError("too many items")
        self.data, self.place = data, 0

    def take(self, bits: int) -> int:
        self.place += bits
        if self.place > 8 * len(self.data):
            raise EOFError("the data end early")
        value = int.from_bytes(self.data[(self.place - bits) // 8 : -(-self.place // 8)]) >> -self.place % 8
        return value & ((1 << bits) - 1)


def _boxes(data: Box) -> Iterator[tuple[bytes, Box]]:
    """Kind and content of the boxes side by side in ``data``."""
    for _ in range(_MAX_BOXES):
        if len(data) < 8:
            return
        length, head = int.from_bytes(data[:4]), 8
        if length == 1:
            length, head = int.from_bytes(data[8:16]), 16
        length = length or len(data)
        if not head <= length <= len(data):  # telephones append what is no box. Decoders refuse it elsewhere
            return
        yield bytes(data[4:8]), data[head:length]
        data = data[length:]
    raise ValueError("too many boxes")


def _child(data: Box, kind: bytes) -> Box:
    """The only box of ``kind``; without one, an empty one."""
    found = [content for name, content in _boxes(data) if name == kind]
    if len(found) > 1:
        raise ValueError("a box twice")
    return found[0] if found else Box(b"")


def _areas(properties: Box) -> dict[int, int]:
    """Pixels by item (boxes ispe and ipma)."""
    known = {
        index: int.from_bytes(content[4:8]) * int.from_bytes(content[8:12])
        for index, (kind, content) in enumerate(_boxes(_child(properties, b"ipco")), start=1)
        if kind == b"ispe"
    }
    areas: dict[int, int] = {}
    tables = [content for kind, content in _boxes(properties) if kind == b"ipma"]
    if sum(map(len, tables)) > _MAX_TABLE_BYTES:
        raise ValueError("too many items")
    for content in tables:
        table = _Bits(content)
        version, flags = table.take(8), table.take(24)
        for _ in range(table.take(32)):
            item = table.take(32 if version else 16)
            for _ in range(table.take(8)):
                table.take(1)  # whether a reader must know the property
                index = table.take(15 if flags & 1 else 7)
                if index in known:
                    areas.setdefault(item, known[index])
    return areas


def _parts(references: Box) -> Iterator[int]:
    """Items that others are put together from, each as often as it is used (box iref)."""
    if len(references) > _MAX_TABLE_BYTES:
        raise ValueError("too many items")
    for kind, content in _boxes(references[4:]):
        if kind == b"dimg":
            table, bits = _Bits(content), 32 if references[0] else 16
            table.take(bits)
            yield from (table.take(bits) for _ in range(table.take(16)))


def _data_of_items(meta: Box, file: Box) -> Iterator[Box]:
    """The data of each item, of any kind (box iloc)."""
    table = _Bits(_child(meta, b"iloc"))
    version, _ = table.take(8), table.take(24)
    offset_bits, length_bits, base_bits, index_bits = (8 * table.take(4) for _ in range(4))
    left, idat = _MAX_SHARE * len(file), _child(meta, b"idat")
    items = table.take(32 if version == 2 else 16)
    if items > _MAX_ITEMS:
        raise ValueError("too many items")
    for _ in range(items):
        table.take(32 if version == 2 else 16)  # the item
        inside = idat if version and table.take(16) & 15 == 1 else file
        table.take(16)
        base = table.take(base_bits)
        data = []
        for _ in range(table.take(16)):
            table.take(index_bits if version else 0)
            start, length = base + table.take(offset_bits), table.take(length_bits)
            data.append(inside[start : start + length])
            left -= max(1, length)
            if left < 0:
                raise ValueError("too much data")
        yield Box(b"".join(data))


def _claimed_areas(units: Box) -> Iterator[int]:
    """Pixels, by each sequence header in AV1 data (5.3)."""
    for _ in range(_MAX_UNITS):
        if not units:
            return
        unit = _Bits(units[:_HEADER_BYTES])
        kind, has_extension, has_length, _ = unit.take(5) & 15, unit.take(1), unit.take(1), unit.take(1)
        unit.take(8 * has_extension)
        length = 0
        for shift in range(0, 56, 7) if has_length else ():
            goes_on, digits = unit.take(1), unit.take(7)
            length |= digits << shift
            if not goes_on:
                break
        start = unit.place // 8
        end = start + length if has_length else len(units)
        if kind == _SEQUENCE_HEADER:
            yield _sequence_area(_Bits(units[start : min(end, start + _HEADER_BYTES)]))
        units = units[end:]
    raise ValueError("too many units")


def _sequence_area(header: _Bits) -> int:
    """Of the largest of its frames (5.5)."""
    header.take(4)  # profile, still picture
    if header.take(1):  # the short form, for still pictures
        header.take(5)  # level
    else:
        if header.take(1):
            raise ValueError("a picture has no timing")
        has_delays = header.take(1)
        for _ in range(header.take(5) + 1):
            header.take(12)  # operating point
            if header.take(5) > 7:  # level
                header.take(1)  # tier
            if has_delays and header.take(1):
                header.take(4)  # delay
    width_bits, height_bits = header.take(4) + 1, header.take(4) + 1
    return (header.take(width_bits) + 1) * (header.take(height_bits) + 1)
