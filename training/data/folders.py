"""Folders of images with a table, labels.csv, or a table with the paths of images. Knows nothing about models."""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

LABELS = "labels.csv"
NONE = "none"  # the label of a picture without a digit, as `digits review` writes it


@dataclass(frozen=True)
class LabelledFile:
    """An image file and its label. ``group`` names the writer or camera; ``tag`` and ``group`` may be empty."""

    path: Path
    label: int
    tag: str
    group: str = ""


def read_labels(folder: Path, tags: Collection[str] = ()) -> list[LabelledFile]:
    """The images listed in ``folder``/labels.csv: columns file and label, optionally tag and group.

    ``folder`` may also be such a table. ``tags``: only images with one of these tags. Not those with the label none.
    Raises DataError if the table is missing, lists no such image, or has a row without a file or a label from 0 to 9.
    """
    files: list[LabelledFile] = []
    table = _table(folder)
    for number, row in enumerate(_rows(table), start=1):
        if row.get("label") == NONE:
            continue
        if not row["file"] or row.get("label", "") not in set("0123456789"):
            raise DataError(f"{table}: row {number} needs a file and a label from 0 to 9")
        if not tags or row.get("tag") in tags:
            files.append(
                LabelledFile(table.parent / row["file"], int(row["label"]), row.get("tag", ""), row.get("group", ""))
            )
    if not files:
        raise DataError(f"{table} lists no image{' with these tags' if tags else ''}")
    return files


@dataclass(frozen=True)
class NumberFile:
    """A picture of numbers: ``text`` is all its digits in reading order. ``kinds``: to what its score is added."""

    path: Path
    text: str
    kinds: tuple[str, ...]


def read_numbers(folder: Path) -> list[NumberFile]:
    """The pictures listed in ``folder``/labels.csv: columns file and label, optionally tag and touching.

    Lines of digits are joined by |. Raises DataError if a label is no digits.
    """
    files = []
    table = _table(folder)
    for number, row in enumerate(_rows(table), start=1):
        text = row.get("label", "").replace("|", "")
        if not row["file"] or not (text.isascii() and text.isdigit()):
            raise DataError(f"{table}: row {number} needs a file and digits as its label")
        lines = "several lines" if "|" in row["label"] else "one line"
        kinds = (row.get("tag", ""), f"touching: {row['touching']}" if row.get("touching") else "", lines)
        hand = "printed" if row.get("tag") == "printed" else "handwritten"
        named = (hand, *(f"{hand}, {kind}" for kind in kinds if kind))
        files.append(NumberFile(table.parent / row["file"], text, named))
    return files


def read_unlabelled(folder: Path) -> list[Path]:
    """The images that a model should reject: all in ``folder``, or those listed in its labels.csv if it has one.

    ``folder`` may also be such a table. If there is a column pure_negative, only rows that say yes; if there are rows
    with the label none, only those. Raises DataError.
    """
    if folder.is_dir() and not (folder / LABELS).exists():
        paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
        if not paths:
            raise DataError(f"{folder} has no image")
        return paths
    table = _table(folder)
    rows = _rows(table)
    rows = [row for row in rows if row.get("label") == NONE] or rows
    paths = [table.parent / row["file"] for row in rows if row["file"] and row.get("pure_negative", "yes") == "yes"]
    if not paths:
        raise DataError(f"{table} lists no image to reject")
    return paths


def _table(folder: Path) -> Path:
    return folder if folder.is_file() else folder / LABELS


def _rows(table: Path) -> list[dict[str, str]]:
    """The rows of the table, at least one, all values stripped."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = [
                {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
                for row in csv.DictReader(lines)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}") from error
    if not rows or "file" not in rows[0]:
        raise DataError(f"{table} lists no image; it needs the columns file and label")
    return rows
