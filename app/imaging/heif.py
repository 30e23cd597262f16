"""HEIC and AVIF files: which of the two a file is, and how large the pictures in it are. Decodes no pixel.

libheif and libavif read these files. Neither limits how much a small image may be put together from, and libavif
decodes any size that the AV1 data claim, so that is checked here: boxes of ISO/IEC 14496-12 and 23008-12.
"""

from collections.abc import Iterator
from contextlib import suppress

from app.imaging.av1 import Size, claimed_sizes

Box = memoryview  # what a box contains, without its length and kind

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
_MAX_BRANDS = 64
_MAX_BOXES = 10_000  # side by side
_MAX_TABLE_BYTES = 128 * 1024  # of a box that lists items: libheif takes at most 1,000 of them
_MAX_PARTS = 8  # all parts together, in sizes of the largest picture: telephones write 1 to 3
_MAX_SHARE = 4  # of the file, for the data of all items together
_HEVC_DEPTH = 17  # the byte of a box hvcC with the bits above 8
_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")


def format_of(data: bytes) -> str | None:
    """HEIC or AVIF, by the brands of the file; None for any other file."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4]), 16 + 4 * _MAX_BRANDS)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def as_still(avif: bytes) -> bytes:
    """The file with the brand of a still picture, whose first picture is read even if it is an animation."""
    return avif[:8] + b"avif" + avif[12:]


def inspect_boxes(data: bytes) -> tuple[int, int, int]:
    """Width and height as stored, and the pixels of the largest picture in the file: a tile, a thumbnail, a mask.

    Raises ValueError where boxes are broken.
    """
    meta = _meta(data)
    sizes = _sizes(meta)
    return *_size_of_primary(meta, sizes), max(width * height for width, height in sizes.values())


def check_parts(data: bytes) -> None:
    """Raises ValueError where decoding would take more pixels than the boxes say.

    That is where AV1 data have another size, and where far more is put together than the largest picture has.
    """
    meta = _meta(data)
    sizes = _sizes(meta)
    areas = {item: width * height for item, (width, height) in sizes.items()}
    if sum(areas.get(part, 0) for part in _parts(meta)) > _MAX_PARTS * max(areas.values()):
        raise ValueError("the image is put together from too much")
    av1 = _items_of(b"av01", meta)
    for item, units in _data_of(av1, meta, Box(data)):
        if any(size != sizes.get(item) for size in claimed_sizes(units)):
            raise ValueError("the AV1 data have another size")


def is_deep_or_transparent(data: bytes) -> bool:
    """Whether some HEVC data have more than 8 bits, or there is an alpha channel."""
    properties = list(_boxes(_child(_child(_meta(data), b"iprp"), b"ipco")))
    deep = any(kind == b"hvcC" and content[_HEVC_DEPTH] & 7 for kind, content in properties)
    return deep or any(kind == b"auxC" and bytes(content[4:]).startswith(_ALPHA) for kind, content in properties)


def _boxes(data: Box) -> Iterator[tuple[bytes, Box]]:
    """Kind and content of the boxes side by side in ``data``."""
    for _ in range(_MAX_BOXES):
        if len(data) < 8:
            return
        length, head = int.from_bytes(data[:4]), 8
        if length == 1:
            length, head = int.from_bytes(data[8:16]), 16
        length = length or len(data)
        if not head <= length <= len(data):
            raise ValueError("a box is longer than what it lies in")
        yield bytes(data[4:8]), data[head:length]
        data = data[length:]
    raise ValueError("too many boxes")


def _meta(data: bytes) -> Box:
    """The only box of its kind in the file."""
    found = []
    with suppress(ValueError):  # telephones append what is no box
        for kind, content in _boxes(Box(data)):
            if kind == b"meta":
                found.append(content[4:])
    (meta,) = found
    return meta


def _child(data: Box, kind: bytes) -> Box:
    """The only box of ``kind``; without one, an empty one."""
    found = [content for name, content in _boxes(data) if name == kind]
    if len(found) > 1:
        raise ValueError("a box twice")
    return found[0] if found else Box(b"")


class _Fields:
    """Big-endian integers, read one after the other. Raises ValueError at the end."""

    def __init__(self, data: Box) -> None:
        if len(data) > _MAX_TABLE_BYTES:
            raise ValueError("too many items")
        self._data = data

    def read(self, size: int) -> int:
        if size > len(self._data):
            raise ValueError("a box ends early")
        value, self._data = int.from_bytes(self._data[:size]), self._data[size:]
        return value


def _sizes(meta: Box) -> dict[int, Size]:
    """Width and height by item (boxes ispe and ipma)."""
    properties = _child(meta, b"iprp")
    known: dict[int, Size] = {}
    for index, (kind, content) in enumerate(_boxes(_child(properties, b"ipco")), start=1):
        if kind == b"ispe":
            known[index] = int.from_bytes(content[4:8]), int.from_bytes(content[8:12])
    sizes: dict[int, Size] = {}
    for kind, content in _boxes(properties):
        if kind == b"ipma":
            fields = _Fields(content)
            version, are_wide = fields.read(1), fields.read(3) & 1
            for _ in range(fields.read(4)):
                item = fields.read(4 if version else 2)
                for _ in range(fields.read(1)):
                    index = fields.read(2) & 0x7FFF if are_wide else fields.read(1) & 0x7F
                    if index in known:
                        sizes.setdefault(item, known[index])
    return sizes


def _size_of_primary(meta: Box, sizes: dict[int, Size]) -> Size:
    """Of the item that the file is about (box pitm)."""
    fields = _Fields(_child(meta, b"pitm"))
    version, _ = fields.read(1), fields.read(3)
    width, height = sizes.get(fields.read(4 if version else 2), (0, 0))
    if not width * height:
        raise ValueError("the image has no pixels")
    return width, height


def _parts(meta: Box) -> Iterator[int]:
    """Items that others are put together from, each as often as it is used (box iref)."""
    references = _child(meta, b"iref")
    for kind, content in _boxes(references[4:]):
        if kind == b"dimg":
            fields, size = _Fields(content), 4 if references[0] else 2
            fields.read(size)
            yield from (fields.read(size) for _ in range(fields.read(2)))


def _items_of(kind: bytes, meta: Box) -> set[int]:
    """Items of ``kind`` (box iinf)."""
    infos = _child(meta, b"iinf")
    items = set()
    for _, info in _boxes(infos[8 if infos[0] else 6 :]):
        size = 4 if info[0] == 3 else 2  # of an item's number
        if info[6 + size : 10 + size] == kind:
            items.add(int.from_bytes(info[4 : 4 + size]))
    return items


def _data_of(items: set[int], meta: Box, file: Box) -> Iterator[tuple[int, Box]]:
    """The data of ``items`` (box iloc)."""
    fields = _Fields(_child(meta, b"iloc"))
    version, _, sizes, more = (fields.read(size) for size in (1, 3, 1, 1))
    offset_size, length_size, base_size, index_size = sizes >> 4, sizes & 15, more >> 4, more & 15 if version else 0
    left = _MAX_SHARE * len(file)
    for _ in range(fields.read(4 if version == 2 else 2)):
        item = fields.read(4 if version == 2 else 2)
        inside = _child(meta, b"idat") if version and fields.read(2) & 15 == 1 else file
        fields.read(2)
        base = fields.read(base_size)
        data = []
        for _ in range(fields.read(2)):
            fields.read(index_size)
            start, length = base + fields.read(offset_size), fields.read(length_size)
            data.append(inside[start : start + length])
            left -= max(1, length)
            if left < 0:
                raise ValueError("too much data")
        if item in items:
            yield item, data[0] if len(data) == 1 else Box(b"".join(data))
