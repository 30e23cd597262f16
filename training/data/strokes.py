"""Readers of pen strokes: official files -> one layout. Each is a function of the paths of a source's files.

The layout: ``points`` int16 (n, 2), x to the right and y down, the longest side of a sample 1000; where each stroke
starts in ``points`` and each sample in the strokes (one entry more than there are); ``label``, and ``writer`` as a
number where it is known.
"""

import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.arrays import Arrays
from training.errors import DataError

EXTENT = 1000  # of a sample's longest side

OMNIGLOT_KEPT = {  # alphabets for choosing a model, so not to learn from
    "Balinese",
    "Early_Aramaic",
    "Greek",
    "Japanese_(katakana)",
    "Korean",
    "Latin",
    "Sanskrit",
    "Tagalog",
}

_INCLUDE = re.compile(r"^\.INCLUDE\s+(\S+).*$", re.MULTILINE)
_WRITER = re.compile(r"^\.WRITER_ID\s+(\S+)", re.MULTILINE)
_COMMENT = re.compile(r"^\.COMMENT\s+\d\s+(\d+)", re.MULTILINE)  # of pendigits: digit, writer, number
_SEGMENT = re.compile(
    r"^\.SEGMENT[ \t]+(?:DIGIT|CHARACTER)[ \t]+([\d,-]+)[ \t]+(?:[^\"\s]+[ \t]+)?\"((?:\\.|[^\"\\])+)\"", re.MULTILINE
)


class Drawn(NamedTuple):
    """One sample. ``strokes``: (n, 2) each, in any unit, y down."""

    label: str
    strokes: Sequence[NDArray[np.float64]]
    writer: str | None = None


def pack(samples: Iterable[Drawn]) -> Arrays:
    """The layout above. Samples without a point are left out."""
    points: list[NDArray[np.int16]] = []
    kept: list[Drawn] = []
    for sample in samples:
        strokes = [stroke for stroke in sample.strokes if len(stroke)]
        if strokes:
            together = np.concatenate(strokes)
            low, extent = together.min(0), float(np.ptp(together, axis=0).max())
            points += [np.rint((stroke - low) * (EXTENT / max(extent, 1e-9))).astype(np.int16) for stroke in strokes]
            kept.append(sample._replace(strokes=strokes))
    arrays: Arrays = {
        "points": np.concatenate(points) if points else np.zeros((0, 2), np.int16),
        "stroke_start": np.cumsum([0, *map(len, points)], dtype=np.int32),
        "sample_start": np.cumsum([0, *(len(sample.strokes) for sample in kept)], dtype=np.int32),
        "label": np.array([sample.label for sample in kept], np.str_),
    }
    if kept and kept[0].writer is not None:  # numbers, because some sources have names
        _, arrays["writer"] = np.unique([str(sample.writer) for sample in kept], return_inverse=True)
    return arrays


def pendigits(paths: Sequence[Path]) -> Arrays:
    """The digits of UCI's training part; ``paths``: the zip file, which holds UNIPEN text packed by compress(1)."""
    gzip = shutil.which("gzip")
    if gzip is None:
        raise DataError("the program gzip is needed to unpack pendigits-orig.tra.Z: Python cannot read .Z files")
    with zipfile.ZipFile(paths[0]) as archive:
        packed = archive.read("pendigits-orig.tra.Z")
    text = subprocess.run([gzip, "-dc"], input=packed, capture_output=True, check=True).stdout.decode("latin-1")
    writers = _COMMENT.findall(text)
    return pack(
        Drawn(label, strokes, writer) for (label, strokes), writer in zip(_segments(text), writers, strict=True)
    )


def unipen(sections: Sequence[str], paths: Sequence[Path]) -> Arrays:
    """The isolated characters of ``sections``, such as 1a; ``paths``: the archive.

    Its files in ``data/SECTION`` label strokes that are in the files of ``include/`` that they name.
    """

    def read(root: Path) -> Iterator[Drawn]:
        for section in sections:
            for file in sorted((root / "data" / section).rglob("*.dat")):
                text = _with_includes(file, root / "include")
                writer = _WRITER.search(text)
                name = f"{file.parent.name} {writer[1] if writer else ''}"
                yield from (Drawn(label, strokes, name) for label, strokes in _segments(text) if len(label) == 1)

    wanted = re.compile(rf"/(include|data/({'|'.join(sections)}))(/|$)")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(paths[0]) as archive:
        members = (member for member in archive if wanted.search(member.name))
        archive.extractall(folder, members=members, filter="data")
        return pack(read(next(Path(folder).rglob("include")).parent))


def omniglot(paths: Sequence[Path]) -> Arrays:
    """The characters of all alphabets but `OMNIGLOT_KEPT`; ``paths``: zip files of text files, one a character."""

    def read() -> Iterator[Drawn]:
        for path in paths:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(name for name in archive.namelist() if re.search(r"_\d+\.txt$", name)):
                    _, alphabet, character, file = name.split("/")
                    if alphabet not in OMNIGLOT_KEPT:
                        writer = f"{alphabet}/{Path(file).stem.partition('_')[2]}"
                        yield Drawn(f"{alphabet}/{character}", _omniglot_strokes(archive.read(name)), writer)

    return pack(read())


def _segments(text: str) -> Iterator[tuple[str, list[NDArray[np.float64]]]]:
    """Label and strokes of each character in UNIPEN text (Guyon 1994, UNIPEN 1.0 format definition)."""
    components = _components(text)
    for numbers, label in _SEGMENT.findall(text):
        chosen: list[int] = []
        for part in numbers.split(","):
            first, _, last = part.partition("-")
            chosen += range(int(first), int(last or first) + 1)
        strokes = [components[number][1] for number in chosen if number < len(components) and components[number][0]]
        yield re.sub(r"\\(.)", r"\1", label), strokes


def _components(text: str) -> list[tuple[bool, NDArray[np.float64]]]:
    """The blocks of points, as .SEGMENT numbers them, and whether the pen is down. Empty blocks have no number."""
    blocks: list[tuple[bool, list[tuple[float, float]]]] = []
    x, y = 0, 1
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == ".COORD":
            x, y = words.index("X") - 1, words.index("Y") - 1
        elif words[0] in {".PEN_DOWN", ".PEN_UP"}:
            blocks.append((words[0] == ".PEN_DOWN", []))
        elif blocks and not words[0].startswith("."):
            try:
                blocks[-1][1].append((float(words[x]), -float(words[y])))
            except (ValueError, IndexError):  # text of a comment
                continue
    return [(down, np.array(points)) for down, points in blocks if points]


def _with_includes(file: Path, include: Path) -> str:
    """The text of ``file`` with the files that it includes, as far as they exist, in their places."""
    text = file.read_text(encoding="latin-1") if file.is_file() else ""
    return _INCLUDE.sub(lambda found: _with_includes(include / found[1], include), text)


def _omniglot_strokes(content: bytes) -> list[NDArray[np.float64]]:
    strokes: list[list[tuple[float, float]]] = [[]]
    for line in content.decode("ascii").split():
        if line == "BREAK":
            strokes.append([])
        elif line != "START":
            x, y, _ = line.split(",")
            strokes[-1].append((float(x), -float(y)))
    return [np.array(stroke) for stroke in strokes if stroke]
