"""How many cores there are, where a container may have less than the node."""

import asyncio
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from app.inference.memory import Memory, cores, memory_limit, own_group
from tests.asking import WAIT_S
from tests.server import ROOT

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        (f"{100_000 * (ALL + 3)} 100000", ALL),
        ("max 100000", ALL),
        ("nonsense", ALL),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(quota, encoding="ascii")

    assert cores(tmp_path / "cpu.max") == expected


def test_without_a_control_group_the_cores_are_those_allowed(tmp_path: Path) -> None:
    assert cores(tmp_path / "none") == ALL


@pytest.mark.parametrize(
    ("said", "expected"),
    [("536870912\n", 512 * 2**20), ("max\n", None), ("9223372036854771712\n", None), ("nonsense", None)],
    ids=["a limit", "none", "none, in version 1", "nonsense"],
)
def test_a_container_s_limit_is_the_memory(tmp_path: Path, said: str, expected: int | None) -> None:
    (tmp_path / "memory.max").write_text(said, encoding="ascii")

    assert memory_limit((tmp_path / "none", tmp_path / "memory.max")) == expected


@pytest.mark.anyio
async def test_memory_is_waited_for_until_it_is_given_back() -> None:
    memory = Memory(2**40)
    memory.rest()
    size = int(memory.size)
    await memory.take(size // 2 + 1)
    await memory.take(0)  # what needs none waits for nobody

    gone, waiting = (asyncio.create_task(memory.take(size // 2)) for _ in range(2))
    await asyncio.sleep(0.05)
    gone.cancel()
    assert not waiting.done()
    memory.give_back(size // 2 + 1)
    await asyncio.wait_for(waiting, WAIT_S)

    assert 2**40 / 2 < size < 2**40


@pytest.mark.anyio
async def test_without_a_limit_nobody_waits() -> None:
    memory = Memory(None)
    memory.rest()

    for _ in range(2):
        await memory.take(2**60)


@pytest.mark.parametrize(
    ("told", "group"),
    [
        ("0::/\n", "."),
        ("0::/system.slice/digits.service\n", "system.slice/digits.service"),
        ("9:memory:/docker/abc\n1:cpu:/\n", "."),
    ],
    ids=["a container's", "a unit's", "version 1"],
)
def test_the_limits_are_those_of_the_process_own_control_group(tmp_path: Path, told: str, group: str) -> None:
    (tmp_path / "cgroup").write_text(told)

    assert own_group(tmp_path / "cgroup") == Path(group)
    assert own_group(tmp_path / "none") == Path()


_HOLES = """
from pathlib import Path
from app.inference.memory import give_back_at_once
give_back_at_once()
first = bytearray(2**24)
del first  # from which glibc would learn
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
from app.inference.memory import give_back_at_once
give_back_at_once()
all_there = Barrier(8)
threads = [Thread(target=lambda: bytes(100_000) and all_there.wait()) for _ in range(8)]
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
def test_threads_have_no_blocks_of_their_own() -> None:
    ran = subprocess.run([sys.executable, "-c", _ARENAS], capture_output=True, cwd=ROOT, text=True, check=True)

    assert ran.stdout.count("<heap nr=") == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_leave_no_holes() -> None:
    ran = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, cwd=ROOT, text=True, check=True)

    assert int(ran.stdout) / 1024 < 64  # MiB, of 128 that were held
