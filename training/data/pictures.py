"""Readers of pictures: official files -> ``x`` uint8 (n, side, side), ``label``, and ``writer`` or ``font``.

Ink is dark or light, as the source has it. Each reader is a function of the paths of a source's files.
"""

import csv
import gzip
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.errors import DigitsError
from app.imaging.decode import decode
from app.imaging.formats import inspect
from app.imaging.pixels import Grey
from training.data.arrays import Arrays
from training.errors import DataError

KENSANATA_HANDS = ("0001_CH4M", "0025_RO4F")  # scanned in full; the others are at 16×16, for choosing a model
KENSANATA_SIDE = 96
CLOTHES = 5_000
PICTURE_SIDE = 112
INDEX = "index.csv"

_FONT_PATTERN = ":lang=en:scalable=true:symbol=false"
_FONT_FORMAT = "%{family[0]}\t%{style[0]}\t%{file}\t%{index}\n"
_UPRIGHT = {"Regular", "Book", "Roman", "Normal", "Medium"}


def kensanata(paths: Sequence[Path]) -> Arrays:
    """The scanned digits of `KENSANATA_HANDS`; ``paths``: the repository as a zip file, HAND/DIGIT/NAME.png."""
    pattern = rf"({'|'.join(KENSANATA_HANDS)})/(\d)/[^/]+\.png$"
    found = _zipped(paths[0], pattern)
    return stacked([(squared(picture, KENSANATA_SIDE), place[2], place[1]) for picture, place in found], "writer")


def hand_drawn_shapes(paths: Sequence[Path]) -> Arrays:
    """The drawings; ``paths``: the repository as a zip file, data/user.NAME/images/SHAPE/NAME.png, all 70×70."""
    found = _zipped(paths[0], r"data/user\.([^/]+)/images/([^/]+)/[^/]+\.png$")
    return stacked([(picture, place[2], place[1]) for picture, place in found], "writer")


def fashion_mnist(paths: Sequence[Path]) -> Arrays:
    """The first `CLOTHES` training pictures, light on dark; ``paths``: images and labels, as idx files in gzip."""
    pixels, labels = (np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) for path in paths)
    images = pixels[16:].reshape(-1, 28, 28)  # after the magic number and three sizes
    return {"x": images[:CLOTHES], "label": labels[8:][:CLOTHES].astype(np.str_)}


def fonts(characters: str, side: int, paths: Sequence[Path]) -> Arrays:
    """The ``characters`` in one style of each font family, light on dark.

    ``paths``: a folder of font files; without it, the installed fonts that fontconfig (fc-list) finds.
    """
    found = []
    for family, file, index in _font_files(paths[0]):
        try:
            font = ImageFont.truetype(file, 2 * side, index=index)
            missing = _glyph("\U0010ffff", font, side)
            glyphs = [(character, _glyph(character, font, side)) for character in characters]
        except OSError:  # a damaged file, or one that FreeType cannot scale
            continue
        found += [
            (glyph, character, family)
            for character, glyph in glyphs
            if glyph is not None and not (missing is not None and np.array_equal(glyph, missing))
        ]
    return stacked(found, "font")


def indexed_pictures(paths: Sequence[Path]) -> Arrays:
    """The pictures that index.csv (columns file and kind) lists; ``paths``: a zip file of them."""
    with zipfile.ZipFile(paths[0]) as archive:
        rows = list(csv.DictReader(StringIO(archive.read(INDEX).decode("utf-8-sig"))))
        return stacked([(squared(_decoded(archive.read(row["file"])), PICTURE_SIDE), row["kind"], "") for row in rows])


def _zipped(path: Path, pattern: str) -> Iterator[tuple[Grey, re.Match[str]]]:
    """The pictures of a zip file whose names match, with the match."""
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if place := re.search(pattern, name):
                yield _decoded(archive.read(name)), place


def _font_files(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Family, file and index in the file: one style of each family, an upright one of usual weight if there is one."""
    if folder.is_dir():
        found = [(path.stem, str(path), 0) for path in sorted(folder.rglob("*")) if path.suffix in {".ttf", ".otf"}]
    else:
        command = shutil.which("fc-list")
        if command is None:
            raise DataError(f"fc-list, of fontconfig, is needed to find fonts; or put font files into {folder}")
        listed = subprocess.run([command, _FONT_PATTERN, "--format", _FONT_FORMAT], capture_output=True, check=True)
        lines = [line.split("\t") for line in listed.stdout.decode().splitlines()]
        lines.sort(key=lambda line: (line[0], line[1] not in _UPRIGHT, line))
        found = [(family, file, int(index)) for family, _, file, index in lines]
    families = set()
    for family, file, index in found:
        if family not in families:
            families.add(family)
            yield family, file, index


def _glyph(character: str, font: ImageFont.FreeTypeFont, side: int) -> Grey | None:
    """White on black, its longest side five sixths of ``side``; None if it has no ink."""
    canvas = Image.new("L", (8 * side, 8 * side))
    ImageDraw.Draw(canvas).text((2 * side, 2 * side), character, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        return None
    glyph = canvas.crop(box)
    glyph.thumbnail((side * 5 // 6, side * 5 // 6), Image.Resampling.BOX)
    picture = Image.new("L", (side, side))
    picture.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return np.asarray(picture)


def _decoded(content: bytes) -> Grey:
    try:
        return decode(inspect(content)).grey
    except DigitsError as error:
        raise DataError(f"a picture of it is unreadable: {error}") from error


def squared(grey: Grey, side: int) -> Grey:
    """The picture in a square of ``side`` pixels; its borders are continued on the shorter side."""
    height, width = grey.shape
    down, right = max(width - height, 0), max(height - width, 0)
    square = cv2.copyMakeBorder(grey, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_REPLICATE)
    return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def stacked(found: Sequence[tuple[Grey, str, str]], group: str | None = None) -> Arrays:
    """The layout above, from picture, label and group of each sample."""
    if not found:
        raise DataError("it has no picture where one is expected")
    arrays: Arrays = {
        "x": np.stack([picture for picture, _, _ in found]),
        "label": np.array([label for _, label, _ in found], np.str_),
    }
    if group is not None:
        arrays[group] = np.array([name for _, _, name in found], np.str_)
    return arrays
