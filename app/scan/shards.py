"""What to scan: folders, patterns, tar archives and Parquet files -> shards -> pictures. Knows no model.

Any storage that fsspec opens: local paths, and URLs such as s3://bucket/folder.
"""

import glob
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import splitext
from typing import IO, Any, Literal, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from app.errors import ScanError
from app.imaging.formats import SUFFIXES

MAX_BYTES = 2**28  # of one picture. Uncompressed, the most pixels that are read take as much
CROPS = "crops"  # of what is in archives, beside the results
UNREADABLE, TOO_LARGE = "unreadable_file", "too_large"  # error codes

_ROWS = 64  # of a Parquet file, read at once
_BLOCK = 512  # tar rounds up to it
_LONG_NAME, _PAX = tarfile.GNUTYPE_LONGNAME, b"x"  # members that name the next one
_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE}
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "updated", "last_modified", "created")  # as storages call it

Kind = Literal["pictures", "tar", "parquet"]


@dataclass(frozen=True)
class Shard:
    """The pictures that one task reads: files, or one archive.

    ``name``: SHA-256 of what it holds, by path, size and version of each file. Reading the content instead would make
    a scan that is started again as slow as the first.
    """

    kind: Kind
    files: tuple[str, ...]
    name: str


class Picture(NamedTuple):
    """``source``: the file. ``key``: the name of a file or a member of a tar, the row of a Parquet file.

    ``data``: the encoded image, or the code of an error.
    """

    source: str
    key: str
    data: bytes | str


def find_shards(inputs: Sequence[str], size: int, out: str) -> list[Shard]:
    """The shards of the inputs, in a fixed order; each file once. Picture files are cut into shards of ``size``.

    Ignores the results in the folder ``out``. Raises ScanError for an input without pictures.
    """
    files: dict[str, list[Any]] = {}
    for given in inputs:
        found = {path: about for path, about in _files(given).items() if not _is_result(path, out)}
        if not found:
            raise ScanError(f"{given}: no picture, .tar or .parquet file there")
        files.update(found)
    kinds: dict[Kind, list[str]] = {"pictures": [], "tar": [], "parquet": []}
    for path in sorted(files):
        kinds[kind_of(path)].append(path)
    sizes: dict[Kind, int] = {"pictures": size, "tar": 1, "parquet": 1}
    return [
        _shard(kind, paths[start : start + sizes[kind]], files)
        for kind, paths in kinds.items()
        for start in range(0, len(paths), sizes[kind])
    ]


def pictures(shard: Shard, column: str) -> Iterator[Picture]:
    """The pictures of a shard, one at a time; of a Parquet file, those in ``column``.

    Raises ScanError for a Parquet file without such a column, and OSError when the storage fails.
    """
    if shard.kind == "pictures":
        yield from map(_picture, shard.files)
        return
    [path] = shard.files
    members: Callable[[IO[bytes]], Iterator[tuple[str, bytes | str]]] = _tar_members
    if shard.kind == "parquet":
        members = lambda file: _parquet_rows(file, path, column)  # noqa: E731
    try:
        with _open(path) as file:
            for key, data in members(file):
                yield Picture(path, key, data)
    except (tarfile.HeaderError, EOFError, ValueError):  # a broken archive: what comes before is read
        yield Picture(path, "", UNREADABLE)


def storage_of(given: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The storage of a path or URL, and the path in it: absolute, without a slash at the end.

    Raises ScanError for an unknown storage.
    """
    if "://" not in given:
        return LocalFileSystem(), str(Path(given).absolute())
    try:
        filesystem, path = fsspec.url_to_fs(given, use_listings_cache=False)  # other processes write
    except (ImportError, ValueError) as error:  # fsspec's message names the library to install
        raise ScanError(f"{given}: {error}") from error
    return filesystem, path.rstrip("/")


def _is_result(path: str, out: str) -> bool:
    return path.startswith(f"{out}/") and (kind_of(path) == "parquet" or path.startswith(f"{out}/{CROPS}/"))


def kind_of(path: str) -> Kind:
    """By its suffix."""
    match PurePosixPath(path).suffix.lower():
        case ".tar":
            return "tar"
        case ".parquet":
            return "parquet"
    return "pictures"


def url_of(filesystem: fsspec.AbstractFileSystem, path: str) -> str:
    """The path itself if it is local, else a URL."""
    return path if isinstance(filesystem, LocalFileSystem) else str(filesystem.unstrip_protocol(path))


def _open(path: str) -> IO[bytes]:
    filesystem, path = storage_of(path)
    return Path(path).open("rb") if isinstance(filesystem, LocalFileSystem) else filesystem.open(path, "rb")


def _files(given: str) -> dict[str, list[Any]]:
    """Path or URL of each file of an input -> its size and version."""
    try:
        filesystem, path = storage_of(given)
        if filesystem.isdir(path):
            found = filesystem.find(path, detail=True)
            wanted = {*SUFFIXES, ".tar", ".parquet"}
            found = {name: info for name, info in found.items() if PurePosixPath(name).suffix.lower() in wanted}
        elif glob.has_magic(path) and not filesystem.exists(path):
            found = filesystem.glob(path, detail=True)
        else:
            found = {path: filesystem.info(path)}
    except FileNotFoundError as error:
        raise ScanError(f"{given}: there is no such file or folder") from error
    except OSError as error:
        raise ScanError(f"{given}: {error}") from error
    return {
        url_of(filesystem, name): [info["size"], next((str(info[key]) for key in _VERSIONS if key in info), None)]
        for name, info in found.items()
        if info["type"] == "file" or info.get("islink")  # no pipes or sockets
    }


def _shard(kind: Kind, paths: Sequence[str], files: dict[str, list[Any]]) -> Shard:
    held = json.dumps([kind, [[path, *files[path]] for path in paths]])
    return Shard(kind, tuple(paths), hashlib.sha256(held.encode()).hexdigest())


def _picture(path: str) -> Picture:
    data: bytes | str
    try:
        with _open(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, PermissionError, IsADirectoryError):  # another OSError may pass: the shard is not done
        data = UNREADABLE
    return Picture(path, PurePosixPath(path).name, data if len(data) <= MAX_BYTES else TOO_LARGE)


def _tar_members(file: IO[bytes]) -> Iterator[tuple[str, bytes | str]]:
    """Name and content of each picture. Python's TarFile keeps every header: a gigabyte for a million pictures."""
    name = None
    while any(header := _read_exactly(file, _BLOCK)):  # blocks of zeros are the end
        kind, short, size = _member(header)
        if kind in {_LONG_NAME, _PAX}:
            content = _read_exactly(file, size)
            name = content.rstrip(b"\0").decode("utf-8", "replace") if kind == _LONG_NAME else _pax_path(content)
        else:
            named, name = name or short, None
            if kind not in _REGULAR or splitext(named)[1].lower() not in SUFFIXES:
                file.seek(size, 1)
            elif size > MAX_BYTES:
                file.seek(size, 1)
                yield named, TOO_LARGE
            else:
                yield named, _read_exactly(file, size)
        file.seek(-size % _BLOCK, 1)


def _member(header: bytes) -> tuple[bytes, str, int]:
    """Type, name and size. Raises HeaderError, EOFError.

    tarfile reads what is not plain: it takes as long as decoding a small picture.
    """
    size, checksum = header[124:135], header[148:154]
    is_plain = header[156:157] == tarfile.REGTYPE and not header[345] and size.isdigit() and checksum.isdigit()
    if is_plain and int(checksum, 8) == sum(header) - sum(header[148:156]) + 8 * ord(" "):
        name = header[:100].partition(b"\0")[0]
        return tarfile.REGTYPE, name.decode("utf-8", "surrogateescape"), int(size, 8)
    info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    if info.size < 0:
        raise EOFError
    return info.type, info.name, info.size


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _pax_path(content: bytes) -> str | None:
    """The path in records such as ``30 path=folder/picture.png\\n``."""
    for record in content.split(b"\n"):
        field, _, value = record.partition(b"=")
        if field.endswith(b" path"):
            return value.decode("utf-8", "replace")
    return None


def _parquet_rows(file: IO[bytes], path: str, column: str) -> Iterator[tuple[str, bytes | str]]:
    """Row number and picture. The column holds bytes, or bytes with a path as the library datasets writes them."""
    table = pq.ParquetFile(file)
    names = table.schema_arrow.names
    kind = table.schema_arrow.field(column).type if column in names else pa.null()
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ScanError(f"{path}: no column {column} with encoded images; --column names another of {', '.join(names)}")
    number = 0
    for batch in table.iter_batches(_ROWS, columns=[column]):
        for value in batch.column(0).to_pylist():
            data = value["bytes"] if isinstance(value, dict) else value
            yield str(number), UNREADABLE if data is None else data
            number += 1
