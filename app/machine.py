"""What of the machine this process may use."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # version 2, 1
_NO_LIMIT = 2**60  # version 1 has a number for none, a little less than 2**63
_RESERVED_SHARE = 1 / 4  # of the limit, for bodies, their copies and all that is small


def cores(quota: Path = _QUOTA) -> int:
    """Cores that are this process's: those it may run on, or fewer where the container's quota gives it less time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        microseconds, period = quota.read_text(encoding="ascii").split()
        return min(allowed, max(1, math.ceil(int(microseconds) / int(period))))
    except (OSError, ValueError):  # no such control group, or no quota: "max 100000"
        return allowed


def memory_limit(files: tuple[Path, ...] = _LIMITS) -> int | None:
    """Bytes that the container may hold; None without such a limit."""
    for file in files:
        try:
            limit = int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such control group, or no limit: "max"
            continue
        return limit if limit < _NO_LIMIT else None
    return None


class Memory:
    """What a process may take for a while, beside what it holds at rest: waited for, as much as is asked for."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._taken = 0
        self._given_back = threading.Condition()
        self.size = math.inf

    def rest(self) -> None:
        """What the process holds now it will go on holding."""
        if self._limit is not None and self.size == math.inf:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            reserved = self._limit * _RESERVED_SHARE
            self.size = max(reserved, self._limit - reserved - pages * os.sysconf("SC_PAGE_SIZE"))

    @contextmanager
    def take(self, needed: int) -> Iterator[None]:
        """Wait until there are so many bytes, ``size`` at most, and hold them."""
        with self._given_back:
            self._given_back.wait_for(lambda: not self._taken or self._taken + needed <= self.size)
            self._taken += needed
        try:
            yield
        finally:
            with self._given_back:
                self._taken -= needed
                self._given_back.notify_all()
