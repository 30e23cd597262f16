"""What a run measured, and under which conditions. Every list has one value per round, in order."""

import os
import platform
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path

from benchmarks import load
from benchmarks.load import Load

_MODULES = ("fastapi", "uvicorn", "cv2", "tensorflow", "ai_edge_litert")


@dataclass
class Results:
    """Keyed by server; ``loads`` by server, upload and connections. ``growth``: (requests, MB) of each engine.

    ``photo_ms``: of the large photo: decoding and preprocessing, all stages, latency at the client.
    ``full_decode_ms``: `cv2.imdecode` of it, in colour and in grey.
    """

    conditions: str
    loads: dict[tuple[str, str, int], list[Load]] = field(default_factory=lambda: defaultdict(list))
    start_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    resident_mb: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    growth: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    photo_ms: dict[str, list[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(list))
    full_decode_ms: list[tuple[float, float]] = field(default_factory=list)

    def rates(self, server: str, upload: str, connections: int) -> list[float]:
        """Images a second. Empty when it was not measured."""
        return [each.rate for each in self.loads.get((server, upload, connections), [])]


def conditions(rounds: int, seconds: float) -> str:
    """Machine, date, versions and n: the header of every table."""
    return (
        f"{machine()} Load: {load.generator()}, on the same cores. n = {rounds} rounds of {seconds:g} s, the servers "
        "taking turns within each; medians (lowest to highest round)."
    )


def machine() -> str:
    """Date, machine and versions."""
    installed = packages_distributions()  # tensorflow comes as tensorflow-cpu on some machines
    names = [installed[module][0] for module in _MODULES if module in installed]
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{datetime.now(UTC).date()}; {os.cpu_count()} cores ({_processor()}), load average before the run "
        f"{os.getloadavg()[0]:.1f}; {platform.system()}, Python {platform.python_version()}, {packages}."
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
