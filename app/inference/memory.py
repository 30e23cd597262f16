"""What of the machine this process may use."""

import asyncio
import ctypes
import math
import os
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_QUOTA = _GROUPS / "cpu.max"
_NO_GROUP = Path()


def own_group(told: Path = Path("/proc/self/cgroup")) -> Path:
    """Of control groups in version 2: in a container the root, under systemd that of the unit."""
    try:
        [line] = [line for line in told.read_text(encoding="utf-8").splitlines() if line.startswith("0::/")]
    except (OSError, ValueError):
        return _NO_GROUP
    return Path(line.removeprefix("0::/"))


# version 2, and 1
_LIMITS = (_GROUPS / own_group() / "memory.max", _GROUPS / "memory.max", _GROUPS / "memory/memory.limit_in_bytes")
_NO_LIMIT = 2**60  # version 1 has a number for none, a little less than 2**63
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # in malloc.h
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


def give_back_at_once() -> None:
    """Have glibc map each block of 2 MiB or more by itself, and unmap it when it is free. Elsewhere nothing happens.

    Left to itself it learns from the first large block that is freed to keep such blocks, and each thread comes to hold
    tens of MiB of holes: hence one arena for all. Told one threshold it must be told the other, or it returns a few
    pages after each picture.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library, or none of that kind
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**21)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**22)
        libc.mallopt(_M_ARENA_MAX, 1)


class Memory:
    """What a process may take for a while, beside what it holds at rest. Called on one event loop."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._taken = 0
        self._given_back = asyncio.Event()
        self.size = math.inf

    def rest(self) -> None:
        """What the process holds now it will go on holding."""
        if self._limit is not None and self.size == math.inf:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            reserved = self._limit * _RESERVED_SHARE
            self.size = max(reserved, self._limit - reserved - pages * os.sysconf("SC_PAGE_SIZE"))

    async def take(self, needed: int) -> None:
        """Wait until there are so many bytes, ``size`` at most, and hold them until they are given back."""
        while needed and self._taken and self._taken + needed > self.size:
            self._given_back.clear()
            await self._given_back.wait()
        self._taken += needed

    def give_back(self, needed: int) -> None:
        self._taken -= needed
        self._given_back.set()
