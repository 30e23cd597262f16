"""The directory of results: a Parquet file for each shard, and what they were made with.

A file is written aside, then published under its final name in one step: it is there and whole, or not there.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from app.errors import ScanError
from app.scan.shards import storage_of, url_of

MANIFEST = "scan.json"
SUPERSEDED = "superseded"

_ROW_GROUP = 128  # batches


class Results:
    """On any storage of fsspec; on a local disk they outlast a power failure."""

    def __init__(self, out: str) -> None:
        self._storage, self._folder = storage_of(out)
        self._is_local = isinstance(self._storage, LocalFileSystem)
        self.url = url_of(self._storage, self._folder)

    def claim(self, made_with: dict[str, Any]) -> None:
        """Write down what the results are made with. Raises ScanError if the directory holds others."""
        try:
            self._storage.makedirs(self._folder, exist_ok=True)
        except OSError as error:
            raise ScanError(f"{self.url}: this directory cannot be created") from error
        if not self._storage.exists(self.path(MANIFEST)):
            if self.names():
                raise ScanError(f"{self.url} holds Parquet files of something else: choose another --out")
            with suppress(FileExistsError, FileNotFoundError):  # another scan was faster
                self._create(MANIFEST, json.dumps(made_with, indent=2).encode())
        there = json.loads(self._storage.cat_file(self.path(MANIFEST)))
        if there != made_with:
            different = [name for name in made_with if there.get(name) != made_with[name]]
            changes = ", ".join(f"{name} {there.get(name)} instead of {made_with[name]}" for name in different)
            raise ScanError(
                f"{self.url} holds results of another model or other options ({changes}): choose another --out"
            )

    def names(self) -> set[str]:
        """Of the shards that are done."""
        try:
            files = self._storage.ls(self._folder, detail=False)
        except FileNotFoundError:  # object stores have no empty folders
            return set()
        return {PurePosixPath(file).stem for file in files if file.endswith(".parquet")}

    def write(self, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        with self.writing(f"{name}.parquet") as file, pq.ParquetWriter(file, schema) as writer:
            batches = iter(batches)
            while group := list(islice(batches, _ROW_GROUP)):
                writer.write_table(pa.Table.from_batches(group))

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        with self._storage.open(self.path(f"{name}.parquet"), "rb") as file:
            return pq.read_table(file, columns=columns)

    def keep(self, name: str, content: bytes) -> str:
        """Write a small file that may be written again -> its path or URL."""
        path = self.path(name)
        self._storage.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._storage.pipe_file(path, content)
        return url_of(self._storage, path)

    def path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A new file, published when the block ends without an error."""
        if not self._is_local:
            with NamedTemporaryFile() as file:
                yield file
                file.flush()
                self._storage.put_file(file.name, self.path(name))  # published when all of it has arrived
            return
        with self._aside(name) as (path, file):
            yield file
            _sync(file)
            with suppress(FileNotFoundError):  # tidied up by another scan, since the result is there
                path.replace(self.path(name))

    def _create(self, name: str, content: bytes) -> None:
        """A new file. Raises FileExistsError if it is there."""
        if not self._is_local:
            self._storage.pipe_file(self.path(name), content, mode="create")
            return
        with self._aside(name) as (path, file):
            file.write(content)
            _sync(file)
            Path(self.path(name)).hardlink_to(path)

    @contextmanager
    def _aside(self, name: str) -> Iterator[tuple[Path, IO[bytes]]]:
        path = Path(self._folder) / f"{name}.{uuid.uuid4().hex}.part"
        try:
            with path.open("xb") as file:
                yield path, file
        finally:
            path.unlink(missing_ok=True)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)  # the new name
        os.close(folder)

    def tidy(self, done: set[str], sources: set[str], earlier: set[str]) -> int:
        """Move away the results, among ``earlier`` ones, of pictures that have changed since -> how many.

        ``done``: the shards of this scan, which read ``sources``. Also removes what killed scans wrote aside of files
        that are there.
        """
        superseded = [
            name
            for name in sorted(earlier - done)
            if not sources.isdisjoint(self.read(name, ["source"])["source"].to_pylist())
        ]
        if superseded:
            self._storage.makedirs(self.path(SUPERSEDED), exist_ok=True)
        for name in superseded:
            with suppress(FileNotFoundError):  # moved by another scan
                self._storage.mv(self.path(f"{name}.parquet"), self.path(f"{SUPERSEDED}/{name}.parquet"))
        if self._is_local:
            for part in Path(self._folder).glob("*.part"):
                if part.with_name(part.name.rsplit(".", 2)[0]).exists():
                    part.unlink(missing_ok=True)
        return len(superseded)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
