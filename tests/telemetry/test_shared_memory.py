"""Rows that several processes count in."""

import os
import signal
import struct
import subprocess
import sys

from app.telemetry.shared_memory import Rows, create
from tests.server import ROOT

# Claims a row of two cells, adds to both, says so, and waits to be killed.
_COUNTING = """
import sys, time
from app.telemetry.shared_memory import Rows
rows = Rows(2, int(sys.argv[1]))
rows.mine[0] += 1
rows.mine[1] += float(sys.argv[2])
print("counted", flush=True)
time.sleep(60)
"""


def counting(file: int, amount: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _COUNTING, str(file), str(amount)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[file],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def values(rows: Rows) -> list[list[float]]:
    return [list(struct.unpack_from("2d", row)) for row in rows.every()]


def test_a_process_alone_has_one_row() -> None:
    rows = Rows(2)
    rows.mine[1] += 0.5

    assert values(rows) == [[0, 0.5]]


def test_each_process_has_a_row_and_the_successor_of_a_dead_one_goes_on_with_its() -> None:
    file = create()
    first, second = counting(file, 10), counting(file, 20)
    try:
        watching = Rows(2, file)
        assert values(watching) == [[1, 10], [1, 20], [0, 0]]

        end(first)
        assert values(watching) == [[1, 10], [1, 20], [0, 0]]

        first = counting(file, 100)
        assert values(watching) == [[2, 110], [1, 20], [0, 0]]
    finally:
        end(first)
        end(second)
        os.close(file)
