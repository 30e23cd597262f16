"""The cores and the memory of a container, and the memory budget of images."""

import asyncio
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from app.inference.memory import Memory, cores, memory_limit
from tests.asking import WAIT_S
from tests.server import ROOT

ALL = len(os.sched_getaffinity(0))
MIB = 2**20


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        (f"{100_000 * (ALL + 3)} 100000", ALL),
        ("max 100000", ALL),
        ("nonsense", ALL),
        (None, ALL),
    ],
)
def test_a_cpu_quota_limits_the_cores(tmp_path: Path, quota: str | None, expected: int) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota, encoding="ascii")

    assert cores(tmp_path / "cpu.max") == expected


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": "nonsense"}, None),
        ("0::/a.slice/b.service\n", {"a.slice/b.service/memory.max": f"{MIB}\n", "memory.max": f"{2 * MIB}\n"}, MIB),
        ("9:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": f"{MIB}\n"}, MIB),
        ("9:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("0::/\n", {}, None),
    ],
    ids=["container", "no limit", "nonsense", "systemd unit", "version 1", "version 1, no limit", "no control groups"],
)
def test_the_memory_limit_is_that_of_the_control_group(
    tmp_path: Path, own: str, limits: dict[str, str], expected: int | None
) -> None:
    (tmp_path / "own").write_text(own, encoding="ascii")
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(limit, encoding="ascii")

    assert memory_limit(tmp_path, tmp_path / "own") == expected


async def test_memory_is_waited_for_until_it_is_given_back() -> None:
    memory = Memory(2**40)
    memory.rest()
    size = int(memory.size)
    await memory.take(size // 2 + 1)
    await memory.take(0)  # does not wait

    gone, waiting = (asyncio.create_task(memory.take(size // 2)) for _ in range(2))
    await asyncio.sleep(0.05)
    gone.cancel()
    assert not waiting.done()
    memory.give_back(size // 2 + 1)
    await asyncio.wait_for(waiting, WAIT_S)

    assert 2**40 / 2 < size < 2**40


async def test_without_a_limit_nothing_waits() -> None:
    memory = Memory(None)
    memory.rest()

    for _ in range(2):
        await memory.take(2**60)


_RESIDENT_KIB = """
from pathlib import Path
from app.inference.memory import configure_malloc
configure_malloc()
first = bytearray(2**24)
del first  # after this glibc would keep such blocks
large, small = [], []
for _ in range(16):
    large.append(bytearray(b"x") * 2**23)
    small.append(bytes(2000))
large.clear()
print(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
"""

_ARENAS = """
import ctypes
from threading import Barrier, Thread
from app.inference.memory import configure_malloc
configure_malloc()
barrier = Barrier(8)
threads = [Thread(target=lambda: bytes(100_000) and barrier.wait()) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(file := libc.fdopen(1, b"w")))
libc.fflush(ctypes.c_void_p(file))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_malloc_returns_large_blocks_and_has_one_arena() -> None:
    resident, arenas = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, text=True, check=True).stdout
        for code in (_RESIDENT_KIB, _ARENAS)
    )

    assert int(resident) / 1024 < 64  # MiB, of 128 that were used
    assert arenas.count("<heap nr=") == 1
