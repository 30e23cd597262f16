"""The command line of every benchmark, run for a moment. It exits with status 1 when an answer was lost or wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.drawings import mnist_test
from tests.server import ROOT

COMMANDS = {  # and what the output has to contain
    "overload --seconds 3 --engines litert --pictures seven.png": "| recovered after, s |",
    "overload --times 10 --seconds 3 --engines litert --pictures seven.png --nginx": "behind nginx",
    "restarts --requests 500 --drain-seconds 0.5": "| [0, 0] |",
    "reloads --times 8 --engines litert --quiet-seconds 0.5": "| litert | 8 |",
    "soak --minutes 0.1 --engine litert": "| wrong | 0 |",
    "container --help": "--memory",
    "peers --help": "--rounds",
}
LIMIT_S = 300

pytestmark = pytest.mark.slow


def run(module: str, *options: str) -> str:
    """Standard output. Without `wrk`, which an empty PATH hides, the project's own client makes the load."""
    command = [sys.executable, "-m", module, *options]
    ran = subprocess.run(
        command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_benchmark_runs_and_no_answer_is_lost(command: str) -> None:
    name, *options = command.split()
    if (name == "restarts" or "--nginx" in options) and not shutil.which("nginx", path="/usr/sbin:/usr/local/sbin"):
        pytest.skip("nginx is not installed")

    assert COMMANDS[command] in run(f"benchmarks.{name}", *options)


def test_make_bench_writes_a_report(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--seconds", "0.2", "--connections", "1,16", "--requests", "100", "--engines", "litert"]

    run("benchmarks", *options, "--out", str(tmp_path))

    report = (tmp_path / "service.md").read_text(encoding="utf-8")
    assert "the project's own client" in report
    assert "## Targets" in report
    assert (tmp_path / "throughput.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_are_read_from_rows_and_a_form(tmp_path: Path) -> None:
    images, labels = mnist_test()
    np.savez(tmp_path / "set.npz", x=255 - images, y=labels)

    said = run("benchmarks.numbers", str(tmp_path / "set.npz"), "--rows", "2")

    assert "listed: 2 right" in said
    assert "a form of 100 fields" in said
