"""Measures the service: start, load, large photos and memory, in that order. Fills `Results`."""

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import cv2

from benchmarks.client import closed_loop
from benchmarks.load import Load, Upload, multipart, uploads
from benchmarks.photos import full_decode_ms, photo
from benchmarks.results import Results
from benchmarks.servers import SEVEN, Running, Server, digits, resident_mb, running
from benchmarks.targets import ENGINES, INT8, MIX, NO_WORK, TENSORFLOW, TEXTBOOK

CONNECTIONS = (1, 4, 16, 64, 256)

_PHOTOS = 15
_WARM_UPS = 10
_NEVER_REFUSE_MS = 60_000  # of queueing delay: every connection of a closed loop gets an answer, however late
_MANY, _LONG = 64, 3
_MIX_S = 4  # two passes or more over some hundred pictures
_TWO_WORKERS = ", 2 workers"
_IMPORT = "import tensorflow; print(flush=True); input()"


def servers(engines: Sequence[str]) -> list[Server]:
    """The ceiling, the engines, two workers, and with Keras the textbook server."""
    uvicorn = (sys.executable, "-m", "uvicorn", "--port", "{port}", "--no-access-log", "--log-level", "warning")
    return [
        Server(
            NO_WORK,
            (*uvicorn, "benchmarks.ceiling:app"),
            {"multipart": "/multipart", "raw": "/raw", MIX[0]: "/decoded"},
        ),
        *(digits(engine, engine=engine, max_delay_ms=_NEVER_REFUSE_MS) for engine in engines),
        *[Server(TEXTBOOK, (*uvicorn, "benchmarks.textbook:app"), {"multipart": "/predict"})] * ("keras" in engines),
        *(
            digits(engine + _TWO_WORKERS, engine=engine, workers=2, max_delay_ms=_NEVER_REFUSE_MS)
            for engine in engines
            if engine != INT8
        ),
    ]


def measure_starts(results: Results, engines: Sequence[str], rounds: int) -> None:
    """Process start to ready, and to TensorFlow imported in a process that does nothing else."""
    for round_ in range(rounds):
        if "keras" in engines:
            seconds, mb = _import_tensorflow()
            results.start_s[TENSORFLOW].append(seconds)
            results.resident_mb[TENSORFLOW].append(mb)
        for engine in engines:
            with running(digits(engine, engine=engine)) as server:
                results.start_s[engine].append(server.start_s)
                results.resident_mb[engine].append(server.resident_mb())
        _print(f"start, round {round_ + 1} of {rounds}")


def measure_loads(results: Results, up: Sequence[Running], chosen: Sequence[int], rounds: int, seconds: float) -> None:
    """Every server, upload and number of connections; the servers take turns at the same load."""
    ways = uploads(SEVEN.read_bytes())
    for server in up:
        warm_up(server, ways)
    for round_ in range(rounds):
        for way, upload in ways.items():
            for connections in chosen:
                for server in up:
                    if way in server.server.paths and _is_measured(server.server.name, way, connections):
                        # a second would hold few answers or none
                        slow = server.server.name == TEXTBOOK or (way == "batch" and connections >= _MANY)
                        found = server.load(way, upload, connections, seconds * (_LONG if slow else 1))
                        results.loads[server.server.name, way, connections].append(found)
        _print(f"load, round {round_ + 1} of {rounds}")


def warm_up(server: Running, ways: Mapping[str, Upload]) -> None:
    """Returns when each upload is answered without failures. Raises OSError when that does not happen."""
    for way in ways.keys() & server.server.paths.keys():
        for _ in range(_WARM_UPS):
            if not server.load(way, ways[way], 4, 0.5).refused:
                break
        else:
            raise OSError(f"{server.server.name} does not answer {way}")


def measure_mix(results: Results, up: Sequence[Running], pictures: Sequence[bytes], rounds: int) -> None:
    """``pictures`` in turn, against a bare FastAPI that decodes them to grey and scales them to 28x28."""
    uploaded = [multipart("file", [picture]) for picture in pictures]
    for round_ in range(rounds):
        for server in up:
            if server.server.name in (NO_WORK, *ENGINES):
                path = server.server.paths.get(MIX[0], "/predict")
                found = closed_loop(server.port, [each.request(path) for each in uploaded], _MIX_S, MIX[1])
                p50_ms, p99_ms, requests = found.percentile(50), found.percentile(99), found.statuses.total()
                load = Load(found.rate, p50_ms, p99_ms, requests, found.images, 1 - found.images / max(1, requests))
                results.loads[server.server.name, *MIX].append(load)
        _print(f"real pictures, round {round_ + 1} of {rounds}")


def measure_photos(results: Results, up: Sequence[Running], rounds: int) -> None:
    """A 12-megapixel JPEG: the server's Server-Timing, the client's latency, and OpenCV in this process."""
    large = photo()
    upload = Upload("image/jpeg", large)
    engines = [server for server in up if server.server.name in ENGINES]
    for _ in range(min(rounds * 5, _PHOTOS)):
        results.full_decode_ms.append((full_decode_ms(large), full_decode_ms(large, cv2.IMREAD_GRAYSCALE)))
        for server in engines:
            _, timing, seconds = server.ask("raw", upload)
            stages = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", timing)}
            own = stages["decode"] + stages["preprocess"]
            results.photo_ms[server.server.name].append((own, sum(stages.values()), seconds * 1000))
    _print("photos")


def measure_growth(results: Results, engines: Sequence[str], requests: int, seconds: float) -> None:
    """Resident memory of fresh servers over so many requests: multipart, raw and JSON in turn, 16 connections."""
    singles = [(way, upload) for way, upload in uploads(SEVEN.read_bytes()).items() if upload.images == 1]
    for engine in engines:
        with running(digits(engine, engine=engine)) as server:
            answered = 0
            series = [(answered, server.resident_mb())]
            while answered < requests:
                way, upload = singles[len(series) % len(singles)]
                answered += server.load(way, upload, 16, seconds).requests
                series.append((answered, server.resident_mb()))
        results.growth[engine] = series
        _print(f"memory, {engine}")


def all_up(stack: ExitStack, engines: Sequence[str]) -> list[Running]:
    """Every server, started one after the other."""
    up = [stack.enter_context(running(server)) for server in servers(engines)]
    _print(f"{len(up)} servers up")
    return up


def _is_measured(server: str, way: str, connections: int) -> bool:
    """Everything for the engines and the ceiling; only what is compared for the others."""
    if server == TEXTBOOK:
        return connections in {1, 16}
    if server == INT8:
        return connections in {1, 16, 64} and way != "json"
    return not server.endswith(_TWO_WORKERS) or (connections == 16 and way in {"multipart", "raw", "batch"})


def _import_tensorflow() -> tuple[float, float]:
    """Seconds from process start until it is imported, and the process's resident MB then."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", _IMPORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    seconds = time.monotonic() - started
    mb = resident_mb(process.pid)
    process.communicate(b"\n")
    return seconds, mb


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
