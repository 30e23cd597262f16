"""Gets a source: downloads and verifies its official files, and converts them to NAME.npz."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from training.data.sources import OfficialFile, Source
from training.errors import DataError

TIMEOUT_S = 60.0  # for connecting, and between two chunks


def fetch(source: Source, folder: Path, console: Console) -> Path:
    """NAME.npz in ``folder``, made from its official files, which are downloaded unless they are there.

    A file is complete and verified, or not there. Raises DataError.
    """
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(source.name, total=source.size)
        for file, path in zip(source.files, source.paths(folder), strict=True):
            progress.update(task, description=f"{source.name}: {file.name}")
            if path.is_file():
                _verify(file, path, _sha256(path))
            elif file.address is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                _download(file, file.address, path, lambda count: progress.advance(task, count))
    path, part = folder / f"{source.name}.npz", folder / f"part-{source.name}.npz"
    arrays = source.read(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(part, allow_pickle=False, **arrays)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _download(file: OfficialFile, address: str, path: Path, advance: Callable[[int], None]) -> None:
    headers = {"Accept-Encoding": "identity"}
    if file.head is not None:
        headers["Range"] = f"bytes=0-{file.head - 1}"
    part = path.with_name(f"part-{path.name}")
    try:
        with (
            httpx2.stream("GET", address, headers=headers, follow_redirects=True, timeout=TIMEOUT_S) as response,
            part.open("wb") as out,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                wanted = chunk if file.head is None else chunk[: file.head - out.tell()]
                out.write(wanted)
                advance(len(wanted))
                if out.tell() == file.head:  # a server may send the whole file
                    break
        _verify(file, path, _sha256(part))
        part.replace(path)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise DataError(f"{address} cannot be downloaded: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _verify(file: OfficialFile, path: Path, digest: str) -> None:
    if file.sha256 not in {None, digest}:
        raise DataError(f"{path} is not the official file: its sha256 is {digest}, not {file.sha256}")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
