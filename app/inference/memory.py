"""The cores and the memory that this process may use, and how much of the memory large images get."""

import asyncio
import ctypes
import math
import os
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60  # version 1 of control groups writes almost 2**63 for no limit
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # in malloc.h
_RESERVED_SHARE = 1 / 4  # of the limit, for bodies, their copies and everything small


def cores(quota: Path = _GROUPS / "cpu.max") -> int:
    """The number of cores: those this process may run on, or fewer if the container's CPU quota is less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        microseconds, period = quota.read_text(encoding="ascii").split()
        return min(allowed, max(1, math.ceil(int(microseconds) / int(period))))
    except (OSError, ValueError):  # no such control group, or no quota: "max 100000"
        return allowed


def memory_limit(groups: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The memory limit of the container or the systemd unit in bytes, None without one."""
    files = (groups / _own_group(own) / "memory.max", groups / "memory.max", groups / "memory/memory.limit_in_bytes")
    for file in files:
        with suppress(OSError, ValueError):  # no such control group, or no limit: "max"
            limit = int(file.read_text(encoding="ascii"))
            return limit if limit < _NO_LIMIT else None
    return None


def _own_group(file: Path) -> Path:
    """The control group (version 2) of this process: the root in a container, the unit's under systemd."""
    with suppress(OSError, ValueError):
        [line] = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("0::/")]
        return Path(line.removeprefix("0::/"))
    return Path()


def configure_malloc() -> None:
    """Make glibc return blocks of 2 MiB and more to the system when they are freed. Does nothing elsewhere.

    By default it starts to keep such blocks after the first one is freed, and the arena of each thread grows to tens of
    MiB of holes: therefore one arena. With one threshold set the other has to be, or each image costs system calls.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library, or none of that kind
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**21)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**22)
        libc.mallopt(_M_ARENA_MAX, 1)


class Memory:
    """Bytes that images may take while they are decoded. Not thread-safe: for one event loop."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._taken = 0
        self._given_back = asyncio.Event()
        self.size = math.inf

    def rest(self) -> None:
        """Set ``size`` to what the limit leaves beside the memory in use now, which the process keeps."""
        if self._limit is not None and self.size == math.inf:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            reserved = self._limit * _RESERVED_SHARE
            self.size = max(reserved, self._limit - reserved - pages * os.sysconf("SC_PAGE_SIZE"))

    async def take(self, needed: int) -> None:
        """Wait until so many bytes are free (``size`` at most), and hold them until they are given back."""
        while needed and self._taken and self._taken + needed > self.size:
            self._given_back.clear()
            await self._given_back.wait()
        self._taken += needed

    def give_back(self, needed: int) -> None:
        self._taken -= needed
        self._given_back.set()
