"""Numbers that several processes count in: a row for each, in memory that outlives them. Knows no metric.

A row has one writer. The successor of a worker that died goes on with its row, so that no sum ever goes down.
"""

import fcntl
import itertools
import mmap
import os
import tempfile

_CELL_BYTES = 8  # a float64, written and read in one piece


def create() -> int:
    """A file in memory, empty, for the rows of processes that inherit it: its descriptor."""
    if hasattr(os, "memfd_create"):  # Linux, where a container without a writable directory has it, too
        return os.memfd_create("digits")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Rows:
    """``cells`` float64 of this process, ``mine``, and those of all that share ``file``; alone without one."""

    def __init__(self, cells: int, file: int | None = None) -> None:
        pages = -(-(cells + 1) * _CELL_BYTES // mmap.ALLOCATIONGRANULARITY)  # the cell more is nobody's
        self._bytes = pages * mmap.ALLOCATIONGRANULARITY
        self._file = file
        if file is None:
            self._memory = mmap.mmap(-1, self._bytes)
        else:
            start = self._claim(file) * self._bytes
            os.pwrite(file, b"\0", start + self._bytes - 1)  # makes room, and never takes any away as truncating may
            self._memory = mmap.mmap(file, self._bytes, offset=start)
        self.mine = memoryview(self._memory).cast("d")

    def every(self) -> list[bytes]:
        """The rows of all processes as they are now, with those that dead ones left."""
        if self._file is None:
            return [self._memory[:]]
        now = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return [now[start : start + self._bytes] for start in range(0, len(now), self._bytes)]

    @staticmethod
    def _claim(file: int) -> int:
        """The first row that no living process has: a lock ends with its process, however that ended."""
        for row in itertools.count():
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
            except OSError:
                continue
            return row
        raise AssertionError("there is always one more")
