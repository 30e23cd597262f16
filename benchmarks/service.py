"""The service measured: its start, its answers under load, large photos, its memory. Fills `Results`, in that order."""

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import cv2

from app.settings import Settings
from benchmarks.load import Upload, uploads
from benchmarks.photos import full_decode_ms, photo, reading_ms
from benchmarks.results import Results
from benchmarks.servers import ROOT, Running, Server, digits, resident_mb, running
from benchmarks.targets import ENGINES, INT8, NO_WORK, TENSORFLOW, TEXTBOOK

CONNECTIONS = (1, 4, 16, 64, 256)
SEVEN = ROOT / "examples" / "seven.png"

_PHOTOS = 15
_SMALL_PICTURES = 300
_WARM_UPS = 10
_CLOSED_LOOP_MS = 60_000  # each connection waits for its answer: nobody is refused, however long that takes
_MANY, _LONG = 64, 3
_TWO_WORKERS = tuple(f"{engine}, 2 workers" for engine in ENGINES if engine != INT8)
_IMPORT = "import tensorflow; print(flush=True); input()"


def servers() -> list[Server]:
    """All that take load: the ceiling and the textbook way beside the engines, and two workers where there are any."""
    uvicorn = (sys.executable, "-m", "uvicorn", "--port", "{port}", "--no-access-log", "--log-level", "warning")
    several = "workers" in Settings.model_fields
    return [
        Server(NO_WORK, (*uvicorn, "benchmarks.ceiling:app"), {"multipart": "/multipart", "raw": "/raw"}),
        *(digits(engine, engine=engine, max_delay_ms=_CLOSED_LOOP_MS) for engine in ENGINES),
        Server(TEXTBOOK, (*uvicorn, "benchmarks.textbook:app"), {"multipart": "/predict"}),
        *(
            digits(name, engine=name.partition(",")[0], workers=2, max_delay_ms=_CLOSED_LOOP_MS)
            for name in _TWO_WORKERS
            if several
        ),
    ]


def measure_starts(results: Results, rounds: int) -> None:
    """Process start to ready, and to TensorFlow imported in a process that does nothing else."""
    for round_ in range(rounds):
        seconds, mb = _import_tensorflow()
        results.start_s[TENSORFLOW].append(seconds)
        results.resident_mb[TENSORFLOW].append(mb)
        for engine in ENGINES:
            with running(digits(engine, engine=engine)) as server:
                results.start_s[engine].append(server.start_s)
                results.resident_mb[engine].append(server.resident_mb())
        _tell(f"start, round {round_ + 1} of {rounds}")


def measure_loads(results: Results, up: Sequence[Running], chosen: Sequence[int], rounds: int, seconds: float) -> None:
    """Every server, upload and number of connections; the servers take turns at the same load."""
    ways = uploads(SEVEN.read_bytes())
    for server in up:
        warm_up(server, ways)
    for round_ in range(rounds):
        for way, upload in ways.items():
            for connections in chosen:
                for server in up:
                    if way in server.server.paths and _wanted(server.server.name, way, connections):
                        # so slow that a second would hold no answer, or few
                        slow = server.server.name == TEXTBOOK or (way == "batch" and connections >= _MANY)
                        found = server.load(way, upload, connections, seconds * (_LONG if slow else 1))
                        results.loads[server.server.name, way, connections].append(found)
        _tell(f"load, round {round_ + 1} of {rounds}")


def warm_up(server: Running, ways: Mapping[str, Upload]) -> None:
    """Until each upload is answered without a failure, by all processes of a server. Raises OSError when none is."""
    for way in ways.keys() & server.server.paths.keys():
        for _ in range(_WARM_UPS):
            if not server.load(way, ways[way], 4, 0.5).refused:
                break
        else:
            raise OSError(f"{server.server.name} does not answer {way}")


def measure_photos(results: Results, up: Sequence[Running], rounds: int) -> None:
    """A 12-megapixel JPEG, by the server's own account and as its client sees it, beside OpenCV in this process."""
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
    results.reading_ms["12-megapixel JPEG"] = reading_ms(large, _PHOTOS)
    results.reading_ms["28x28 PNG"] = reading_ms(SEVEN.read_bytes(), _SMALL_PICTURES)
    _tell("photos")


def measure_growth(results: Results, requests: int, seconds: float) -> None:
    """Resident memory of fresh servers over so many requests: multipart, raw and JSON in turn, 16 connections."""
    singles = [(way, upload) for way, upload in uploads(SEVEN.read_bytes()).items() if upload.images == 1]
    for engine in ENGINES:
        with running(digits(engine, engine=engine)) as server:
            answered = 0
            series = [(answered, server.resident_mb())]
            while answered < requests:
                way, upload = singles[len(series) % len(singles)]
                answered += server.load(way, upload, 16, seconds).requests
                series.append((answered, server.resident_mb()))
        results.growth[engine] = series
        _tell(f"memory, {engine}")


def all_up(stack: ExitStack) -> list[Running]:
    """Every server, started one after the other; their starts are not what is measured."""
    up = [stack.enter_context(running(server)) for server in servers()]
    _tell(f"{len(up)} servers up")
    return up


def _wanted(server: str, way: str, connections: int) -> bool:
    """All of it for the engines and the ceiling; of the others what is compared."""
    if server == TEXTBOOK:
        return connections in {1, 16}
    if server == INT8:
        return connections in {1, 16, 64} and way != "json"
    return server not in _TWO_WORKERS or (connections == 16 and way in {"multipart", "raw", "batch"})


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


def _tell(what: str) -> None:
    sys.stderr.write(f"{what}\n")
