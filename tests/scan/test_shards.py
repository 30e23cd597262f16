"""What is scanned, and the rows of it."""

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import ScanError
from app.scan.reading import ReadDigits, load_model, read_shard
from app.scan.shards import find_shards, pictures
from tests.drawings import digit_drawn, encoded, enlarged
from tests.pictures import on_paper, side_by_side
from tests.server import ROOT

PICTURES = {f"{digit}.png": encoded(digit_drawn(digit, 1)) for digit in range(10)}
MODEL = str(ROOT / "models")

Members = dict[str, bytes]


def rows(*inputs: str | Path, size: int = 1000, column: str = "image") -> list[dict[str, Any]]:
    shards = find_shards([str(given) for given in inputs], size, "/nowhere")
    batches = chain.from_iterable(read_shard(pictures(shard, column), load_model(MODEL)) for shard in shards)
    return [row for batch in batches for row in batch.to_pylist()]


def folder(path: Path, members: Members) -> Path:
    for name, data in members.items():
        (path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "in" / name).write_bytes(data)
    return path / "in"


def tar(path: Path, members: Members, form: int = tarfile.GNU_FORMAT) -> Path:
    file = path / "in.tar"
    with tarfile.open(file, "w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def parquet(path: Path, values: Sequence[Any], kind: pa.DataType) -> Path:
    file = path / "in.parquet"
    pq.write_table(pa.table({"label": range(len(values)), "image": pa.array(values, kind)}), file)
    return file


CONTAINERS: dict[str, Callable[[Path], Path | str]] = {
    "a folder": lambda path: folder(path, {f"below/{name}": data for name, data in PICTURES.items()}),
    "a pattern": lambda path: f"{folder(path, PICTURES)}/**/[0-9].png",
    "a tar": lambda path: tar(path, PICTURES),
    "a tar with long names": lambda path: tar(path, {f"{'é' * 150}/{name}": data for name, data in PICTURES.items()}),
    "a tar of POSIX": lambda path: tar(
        path, {f"{'é' * 150}/{name}": data for name, data in PICTURES.items()}, tarfile.PAX_FORMAT
    ),
    "a tar of WebDataset": lambda path: tar(
        path,
        {each: data for name, data in PICTURES.items() for each, data in ((name, data), (f"{name[0]}.json", b"{}"))},
    ),
    "bytes in Parquet": lambda path: parquet(path, [*PICTURES.values()], pa.binary()),
    "pictures of the library datasets": lambda path: parquet(
        path,
        [{"bytes": data, "path": name} for name, data in PICTURES.items()],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    ),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_each_picture_is_a_row_with_its_digit(kind: str, tmp_path: Path) -> None:
    read = rows(CONTAINERS[kind](tmp_path))

    assert [row["digit"] for row in read] == [*range(10)]
    assert all(row["accepted"] and row["confidence"] == max(row["probabilities"]) for row in read)
    named = [row["source"] if kind in ("a folder", "a pattern") else row["key"] for row in read]
    expected = [*map(str, range(10))] if "Parquet" in kind or "datasets" in kind else [*PICTURES]
    assert [name.rpartition("/")[2] for name in named] == expected
    assert all(Path(row["source"]).is_file() for row in read)


BLANK = encoded(on_paper(digit_drawn(0) * 0))
TWO = encoded(on_paper(side_by_side([digit_drawn(1), digit_drawn(2)])))
CUT = encoded(enlarged(digit_drawn(3)))[:300]
BAD = {"0.png": PICTURES["0.png"], "a.png": b"no picture", "b.png": CUT, "c.png": BLANK, "d.png": b"", "e.png": TWO}
CODES = [None, "unsupported_media_type", "undecodable_image", "no_ink", "unsupported_media_type", None]


@pytest.mark.parametrize("make", [folder, tar])
def test_a_bad_picture_is_a_row_with_its_error(make: Callable[[Path, Members], Path], tmp_path: Path) -> None:
    read = rows(make(tmp_path, BAD))

    assert [row["error"] for row in read] == CODES
    assert [row["reason"] for row in read] == [None] * 5 + ["several_digits"]
    assert [row["crop"] is not None for row in read] == [False] * 5 + [True]


def test_a_file_that_cannot_be_opened_is_a_row_with_its_error(tmp_path: Path) -> None:
    (folder(tmp_path, {"1.png": PICTURES["1.png"]}) / "0.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "in" / "2.png")
    (tmp_path / os.fsdecode(b"in/\xff.png")).write_bytes(PICTURES["3.png"])

    read = rows(tmp_path / "in")

    assert [(row["error"], row["digit"]) for row in read] == [("unreadable_file", None), (None, 1), (None, 3)]


@pytest.mark.parametrize("keep", [-1400, -1024 - 300, 1000, 700, 100])
def test_of_a_broken_archive_what_comes_before_is_read(keep: int, tmp_path: Path) -> None:
    archive = tar(tmp_path, PICTURES)
    whole = archive.read_bytes().rstrip(b"\0")
    archive.write_bytes(whole[:keep])

    read = rows(archive)

    assert (read[-1]["key"], read[-1]["error"]) == ("", "unreadable_file")
    assert [row["digit"] for row in read[:-1]] == [*range(len(read) - 1)]


NEGATIVE = tarfile.TarInfo("1.png")
NEGATIVE.size = -512


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tar", b"something else" * 100),
        ("x.tar", NEGATIVE.tobuf(tarfile.GNU_FORMAT) + bytes(1024)),
        ("x.parquet", b"something else" * 100),
    ],
    ids=["no tar", "a negative size", "no Parquet"],
)
def test_a_file_that_is_no_archive_is_a_row_with_its_error(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    assert [row["error"] for row in rows(tmp_path)] == ["unreadable_file"]


def test_a_missing_picture_in_a_parquet_file_is_a_row_with_its_error(tmp_path: Path) -> None:
    read = rows(parquet(tmp_path, [PICTURES["1.png"], None, PICTURES["2.png"]], pa.binary()))

    assert [(row["digit"], row["error"]) for row in read] == [(1, None), (None, "unreadable_file"), (2, None)]


def test_a_parquet_file_without_the_column_is_named_with_its_columns(tmp_path: Path) -> None:
    file = parquet(tmp_path, ["text"], pa.string())

    for column in ("image", "picture"):
        with pytest.raises(ScanError, match=f"no column {column} with encoded images; .* label, image"):
            rows(file, column=column)


def test_files_are_cut_into_shards_and_each_is_there_once(tmp_path: Path) -> None:
    path = folder(tmp_path, PICTURES)

    shards = find_shards([str(path), str(path / "*.png")], 4, "/nowhere")

    assert [len(shard.files) for shard in shards] == [4, 4, 2]
    assert [file for shard in shards for file in shard.files] == sorted(str(path / name) for name in PICTURES)


def test_the_name_of_a_shard_changes_with_what_it_holds(tmp_path: Path) -> None:
    path = folder(tmp_path, PICTURES)

    def names() -> list[str]:
        return [shard.name for shard in find_shards([str(path)], 5, "/nowhere")]

    before = names()
    assert names() == before
    (path / "7.png").write_bytes(PICTURES["1.png"])
    assert [name in before for name in names()] == [True, False]


def test_pictures_on_another_storage_are_read() -> None:
    storage = fsspec.filesystem("memory")
    for name, data in PICTURES.items():
        storage.pipe_file(f"/bucket/below/{name}", data)

    read = rows("memory://bucket", "memory://bucket/below/1.png")

    assert [row["source"] for row in read] == [f"memory:///bucket/below/{name}" for name in PICTURES]
    assert [row["digit"] for row in read] == [*range(10)]


def test_a_pipeline_of_arrow_tables_gets_the_same_columns(tmp_path: Path) -> None:
    table = pa.table({"bytes": [*BAD.values(), None], "number": range(7)})

    read = ReadDigits(model_dir=MODEL)(table).to_pylist()

    alone = rows(folder(tmp_path, BAD))
    assert [row["number"] for row in read] == [*range(7)]
    assert [{name: row[name] for name in alone[0] if name in row} for row in read[:6]] == [
        {name: row[name] for name in row if name not in ("source", "key")} for row in alone
    ]
    assert read[6]["error"] == "unreadable_file"
    assert ReadDigits(model_dir=MODEL)(table.slice(0, 0)).num_rows == 0
