"""`python -m benchmarks`: requests a second and latencies of the service beside FastAPI that does no work.

Load comes from a client of the project's own: keep-alive connections on one event loop, one request at a time each.
It takes a core's share of the machine, so ratios are to be read, not absolute figures.
"""

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import cv2
import fastapi
import numpy as np

PORT = 8765
CONNECTIONS = (1, 16, 64)
ROUNDS = 3
SECONDS = 2.0
IMAGE = Path("examples/seven.png")
BOUNDARY = "benchmark"
SERVERS = {
    "no work": (
        [sys.executable, "-m", "uvicorn", "benchmarks.ceiling:app", "--port", str(PORT), "--no-access-log"],
        {},
    ),
    "keras": ([sys.executable, "-m", "app"], {"DIGITS_ENGINE": "keras"}),
    "litert": ([sys.executable, "-m", "app"], {"DIGITS_ENGINE": "litert"}),
}


def main() -> None:
    """Print a Markdown table: medians over rounds, servers interleaved, spread as lowest and highest round."""
    png = IMAGE.read_bytes()
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="seven.png"\r\n\r\n'
    multipart = part.encode() + png + f"\r\n--{BOUNDARY}--\r\n".encode()
    bodies = {"multipart": (f"multipart/form-data; boundary={BOUNDARY}", multipart), "raw": ("image/png", png)}
    rates: dict[tuple[str, str, int], list[float]] = {}
    latencies: dict[tuple[str, str, int], list[float]] = {}
    starts: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for round_ in range(ROUNDS):
        for name, (command, environment) in SERVERS.items():
            with _server(command, environment) as (process, seconds):
                starts.setdefault(name, []).append(seconds)
                for way, (content_type, body) in bodies.items():
                    path = f"/{way}" if name == "no work" else "/predict"
                    request = _request(path, content_type, body)
                    asyncio.run(_load(request, 16, SECONDS / 4))
                    for connections in CONNECTIONS:
                        times, elapsed = asyncio.run(_load(request, connections, SECONDS))
                        rates.setdefault((name, way, connections), []).append(len(times) / elapsed)
                        latencies.setdefault((name, way, connections), []).extend(times)
                memory[name] = _resident_mb(process.pid)
        sys.stderr.write(f"round {round_ + 1} of {ROUNDS}\n")
    sys.stdout.write(_report(rates, latencies, starts, memory))


def _report(
    rates: dict[tuple[str, str, int], list[float]],
    latencies: dict[tuple[str, str, int], list[float]],
    starts: dict[str, list[float]],
    memory: dict[str, float],
) -> str:
    conditions = (
        f"{datetime.now(UTC).date()}, {os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}, "
        f"FastAPI {fastapi.__version__}, OpenCV {cv2.__version__}; one process a server; n = {ROUNDS} rounds of "
        f"{SECONDS:g} s; a 28x28 PNG of {IMAGE.stat().st_size} bytes. Medians (lowest to highest round)."
    )
    lines = [
        conditions,
        "",
        "| upload | connections | server | requests/s | share of no work | p50 ms | p99 ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (name, way, connections), rate in sorted(rates.items(), key=lambda item: (item[0][1], item[0][2])):
        median = statistics.median(rate)
        share = median / statistics.median(rates["no work", way, connections])
        p50, p99 = np.percentile(np.array(latencies[name, way, connections]) * 1000, [50, 99])
        lines.append(
            f"| {way} | {connections} | {name} | {median:,.0f} ({min(rate):,.0f} to {max(rate):,.0f}) | {share:.2f} "
            f"| {p50:.2f} | {p99:.2f} |"
        )
    lines += ["", "| server | start to ready, s | resident MB after the load |", "| --- | --- | --- |"]
    for name, seconds in starts.items():
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        lines.append(f"| {name} | {statistics.median(seconds):.2f} ({spread}) | {memory[name]:.0f} |")
    return "\n".join(lines) + "\n"


@contextmanager
def _server(command: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A running server, and the seconds from its start until it is ready."""
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=os.environ | {"DIGITS_PORT": str(PORT)} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _ready():
            if process.poll() is not None or time.monotonic() - started > 60:
                raise SystemExit(f"{' '.join(command)} does not start")
            time.sleep(0.1)
        yield process, time.monotonic() - started
    finally:
        process.terminate()
        process.wait()


def _ready() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _request(path: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _load(request: bytes, connections: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of each answered request, and the seconds that all took. Stops at any answer but 200."""
    times: list[float] = []
    started = time.perf_counter()
    until = started + seconds

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        while (sent := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not answered: {head[:40]!r}")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            times.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return times, time.perf_counter() - started


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
