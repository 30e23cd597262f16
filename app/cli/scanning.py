"""`digits scan` and `digits review`: where pictures are, where results go, and the progress between."""

import json
import time
import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.errors import ScanError
from app.imaging.preprocess import VERSION
from app.model.engine import Int8Engine
from app.model.manifest import check, read_manifest
from app.scan.report import REPORT, Run, write_csv, write_report
from app.scan.results import MANIFEST, SUPERSEDED, Results
from app.scan.running import Done, Job, in_processes
from app.scan.shards import Shard, find_shards
from app.settings import Settings

_COLUMNS = (
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn(
        "shards  {task.fields[read]:,} pictures  {task.fields[rate]:,.0f}/s  {task.fields[errors]:,} errors  left"
    ),
    TimeRemainingColumn(),
)


def scan(
    inputs: Sequence[str],
    out: str,
    *,
    shard: int,
    column: str,
    processes: int,
    ray: str | None,
    read: bool,
    csv: bool,
    console: Console,
) -> str:
    """Scan, and report -> one line about it. Raises ScanError, ModelError."""
    results = Results(out)
    shards = find_shards(inputs, shard, results.url)
    names = [each.name for each in shards]
    try:
        job = _job(results, column, shard, numbers=read)
        earlier = results.names()
        left = [each for each in shards if each.name not in earlier]
        run = _watch(_tasks(left, job, processes, ray), len(shards), len(shards) - len(left), console)
        superseded = results.tidy(set(names), {file for each in shards for file in each.files}, earlier)
        if csv:
            write_csv(results, names)
        figures = write_report(results, names, run, numbers=read)
    except OSError as error:
        why = f"{error.filename or out}: {error.strerror or error}"
        raise ScanError(f"{why}; the same command continues the scan") from error
    moved = f"; {superseded:,} results of files that have changed are now in {SUPERSEDED}/" if superseded else ""
    return f"{figures}; see {results.url}/{REPORT}{moved}"


def review(folder: Path) -> str:
    """Open the report of a scan to correct what was not accepted -> its address. Raises ScanError."""
    report = folder / REPORT
    if not report.is_file():
        raise ScanError(f"{folder}: no {REPORT} there; name the --out of a finished scan")
    if json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("read"):
        raise ScanError(f"{folder}: a scan with --read has no digits to label; open its {REPORT}")
    url = f"{report.absolute().as_uri()}#review"
    webbrowser.open(url)
    return url


def _job(results: Results, column: str, shard: int, *, numbers: bool) -> Job:
    model_dir = Settings().model_dir.absolute()
    manifest = read_manifest(model_dir)
    check(manifest, model_dir, Int8Engine.file_name, VERSION)
    sha256 = manifest.sha256[Int8Engine.file_name]
    results.claim({"model": manifest.version, "sha256": sha256, "shard": shard, "column": column, "read": numbers})
    return Job(results.url, column, str(model_dir), sha256, numbers)


def _tasks(shards: Sequence[Shard], job: Job, processes: int, ray: str | None) -> Iterator[Done]:
    if ray is None or not shards:
        return in_processes(shards, job, processes)
    from app.scan.cluster import on_ray

    return on_ray(shards, job, ray or None)


def _watch(scan: Iterable[Done], shards: int, done: int, console: Console) -> Run:
    """Show the progress of a scan until it ends -> what it did."""
    started = time.monotonic()
    read = errors = 0
    with Progress(*_COLUMNS, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=shards, completed=done, read=0, rate=0.0, errors=0)
        for each in scan:
            read += each.pictures
            errors += each.errors
            rate = read / (time.monotonic() - started)
            progress.update(bar, advance=1, read=read, rate=rate, errors=errors)
    return Run(read, time.monotonic() - started)
