"""A scan: each shard is a task of its own, in processes here or (`app.scan.cluster`) on Ray; so many at a time."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from app.errors import ScanError
from app.scan.reading import NUMBERS_ROW, ROW, load_model, read_shard
from app.scan.results import Results
from app.scan.shards import Shard, pictures

MAX_DEATHS = 3  # of worker processes, one after the other

QUEUED = 2  # shards for each process: one that it reads, and the next


@dataclass(frozen=True)
class Job:
    """What is the same for all shards of a scan."""

    out: str
    column: str
    model_dir: str
    sha256: str  # of the weights
    numbers: bool = False  # instead of a digit in each picture


@dataclass(frozen=True)
class Done:
    """A shard whose result is written, with the number of its pictures and of those that could not be read."""

    shard: Shard
    pictures: int
    errors: int


def scan_shard(shard: Shard, job: Job) -> Done:
    """Read a shard and write its result. May be repeated at any time, anywhere."""
    model = load_model(job.model_dir)
    if model.sha256 != job.sha256:
        raise ScanError(
            f"this worker has another model: install the same version of digits everywhere ({model.sha256})"
        )
    counted = [0, 0]

    def counting() -> Iterator[pa.RecordBatch]:
        for batch in read_shard(pictures(shard, job.column), model, numbers=job.numbers):
            counted[0] += batch.num_rows
            counted[1] += batch.num_rows - batch["error"].null_count
            yield batch

    Results(job.out).write(shard.name, counting(), NUMBERS_ROW if job.numbers else ROW)
    return Done(shard, *counted)


def in_processes(shards: Sequence[Shard], job: Job, processes: int) -> Iterator[Done]:
    """Each shard as it is done. A worker that is killed is replaced. Raises ScanError when that does not help."""
    left = {shard.name: shard for shard in shards}
    deaths = 0
    spawn = multiprocessing.get_context("spawn")
    while left:
        try:
            with ProcessPoolExecutor(processes, spawn, _start_worker) as pool:
                submit = lambda shard, pool=pool: pool.submit(scan_shard, shard, job)  # noqa: E731
                for done in bounded(submit, list(left.values()), QUEUED * processes):
                    del left[done.shard.name]
                    deaths = 0
                    yield done
        except BrokenProcessPool as error:
            deaths += 1
            if deaths == MAX_DEATHS:
                file = next(iter(left.values())).files[0]
                raise ScanError(
                    f"processes are killed while they read {file} or what comes next; if memory is short, use fewer "
                    "--processes"
                ) from error


def bounded(submit: Callable[[Shard], Future[Done]], shards: Sequence[Shard], at_once: int) -> Iterator[Done]:
    """What the shards give, in any order; ``at_once`` of them are submitted at a time."""
    waiting = iter(shards)
    running = {submit(shard) for shard in islice(waiting, at_once)}
    try:
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {submit(shard) for shard in islice(waiting, len(ended))}
            for future in ended:
                yield future.result()
    finally:
        for future in running:
            future.cancel()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
