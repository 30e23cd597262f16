"""`python -m tests.storm FOLDER`: hostile files through every door of the service while others use it as usual.

Settings may follow, such as ``engine=litert``. What is promised is in docs/reliability.md. Exit status 1 when a promise
is broken. A file ``labels.csv`` in the folder may say in its columns ``file`` and ``expected`` (valid-image, corrupt,
bomb, unsupported) what each is.
"""

import base64
import csv
import json
import signal
import statistics
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from app.api.dialects.common import INPUT
from tests.drawings import digit_drawn, encoded
from tests.server import running

_TFS, _OIP = "/v1/models/digits:predict", "/v2/models/digits/infer"
_SEVEN = encoded(digit_drawn(7))
_BYTES = {"name": INPUT, "datatype": "BYTES", "shape": [1]}
_JSON_LENGTH = "Inference-Header-Content-Length"


def _binary(data: bytes) -> dict[str, Any]:
    tensor = struct.pack("<I", len(data)) + data
    head = json.dumps({"inputs": [_BYTES | {"parameters": {"binary_data_size": len(tensor)}}]}).encode()
    return {"content": head + tensor, "headers": {_JSON_LENGTH: str(len(head))}}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


DOORS: dict[str, tuple[str, Callable[[bytes], dict[str, Any]]]] = {
    "multipart": ("/predict", lambda data: {"files": {"file": ("seven.png", data, "image/png")}}),
    "raw": ("/predict", lambda data: {"content": data, "headers": {"Content-Type": "image/png"}}),
    "JSON": ("/predict", lambda data: {"json": {"image": _base64(data)}}),
    "explained": ("/predict?explain=true", lambda data: {"content": data}),
    "plain": ("/predict?preprocess=plain", lambda data: {"content": data}),
    "batch": ("/predict/batch", lambda data: {"files": [("files", ("a.png", data)), ("files", ("b.png", _SEVEN))]}),
    "TensorFlow Serving": (_TFS, lambda data: {"json": {"instances": [{"b64": _base64(data)}]}}),
    "Open Inference, JSON": (
        _OIP,
        lambda data: {
            "json": {"inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [1], "data": [_base64(data)]}]}
        },
    ),
    "Open Inference, binary": (_OIP, _binary),
}
EXPECTED = {  # of the first door; 422 no_ink for a picture that is read and holds no digit
    "valid-image": {200, 422},
    "corrupt": {415, 422},
    "bomb": {413},
    "unsupported": {415},
}
_OURS = ("Traceback", ".py", "site-packages", "/tmp", "cv2", "OpenCV", "PIL", "libpng")
_LATEST_S = 11  # the default of `DIGITS_REQUEST_TIMEOUT_MS`, and a second for the way there and back
_AS_BAD_INPUT = {415: 400, 422: 400}


@dataclass
class Storm:
    """What came of it. ``statuses``: of each file, as `/predict` has them; of a batch, that of its entry."""

    statuses: dict[str, dict[str, int]] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")  # seconds, and which
    usual_ms: list[float] = field(default_factory=list)
    rest_mib: float = 0
    peak_mib: float = 0


def storm(files: dict[str, bytes], doors: list[str] | None = None, **settings: object) -> Storm:
    """Every file through every door, against a service of its own. Nothing is raised: see ``broken``."""
    found = Storm()
    with running(**settings) as process:
        url = process.url()
        process.line_with('"ready"')
        with httpx2.Client(base_url=url, timeout=60) as client:
            for _ in range(20):
                client.post("/predict", content=_SEVEN)
            found.rest_mib = _mib(process.pid, "VmRSS")
            stop = threading.Event()
            usual = threading.Thread(target=_usual, args=(url, stop, found))
            usual.start()
            try:
                for name, data in files.items():
                    found.statuses[name] = {door: _send(client, name, door, data, found) for door in doors or DOORS}
            finally:
                stop.set()
                usual.join()
            found.peak_mib = _mib(process.pid, "VmHWM")
        if found.slowest[0] > _LATEST_S:
            found.broken.append("an answer later than its deadline")
        process.tell(signal.SIGTERM)
        if process.status() != 0:
            found.broken.append(f"exit status {process.status()}")
        lines = process.rest()
        if any('"traceback"' in line or '"error"' in line for line in lines):
            found.broken.append("an error in the log")
    return found


def _send(client: httpx2.Client, name: str, door: str, data: bytes, found: Storm) -> int:
    path, wrapped = DOORS[door]
    started = time.monotonic()
    try:
        answer = client.post(path, **wrapped(data))
    except httpx2.HTTPError as error:
        found.broken.append(f"{name}, {door}: {error!r}")
        return 0
    found.slowest = max(found.slowest, (time.monotonic() - started, f"{name}, {door}"))
    status, said = answer.status_code, answer.text
    if door == "batch" and status == httpx2.codes.OK:
        mine, other = answer.json()["predictions"]
        if other["prediction"] is None and other["error"]["status"] != httpx2.codes.GATEWAY_TIMEOUT:
            found.broken.append(f"{name}, {door}: its neighbour was refused")
        status = mine["error"]["status"] if mine["error"] else status
        said = json.dumps(mine)
    if status == httpx2.codes.INTERNAL_SERVER_ERROR or any(word in said for word in _OURS):
        found.broken.append(f"{name}, {door}: {status} {said[:200]}")
    if status != httpx2.codes.OK and data[8:40] and data[8:40].decode("latin-1") in said:
        found.broken.append(f"{name}, {door}: bytes of the file in the answer")
    if door == "multipart" and status != httpx2.codes.OK:
        found.codes[name] = answer.json()["code"]
    return status


def _usual(url: str, stop: threading.Event, found: Storm) -> None:
    """Somebody who sends a small drawing again and again."""
    with httpx2.Client(base_url=url, timeout=60) as client:
        while not stop.wait(0.02):
            started = time.monotonic()
            if client.post("/predict", content=_SEVEN).status_code != httpx2.codes.OK:
                found.broken.append("a usual request was refused")
            found.usual_ms.append((time.monotonic() - started) * 1000)


def unlike(found: Storm) -> list[str]:
    """Where a file's answers differ from door to door, other than by what a dialect calls them."""
    strange = []
    for name, statuses in found.statuses.items():
        first = statuses["multipart"]
        for door, status in statuses.items():
            path = DOORS[door][0]
            same = _AS_BAD_INPUT.get(first, first) if path in {_TFS, _OIP} else first
            if status != same and door != "plain":  # which finds ink where `auto` does not, and the other way round
                strange.append(f"{name}, {door}: {status}, but {first} by multipart")
    return strange


def _mib(pid: int, which: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split(f"{which}:")[1].split()[0]) / 1024


def main() -> None:
    folder = Path(sys.argv[1])
    labels = folder / "labels.csv"
    expected = {}
    if labels.exists():
        with labels.open(encoding="utf-8") as table:
            expected = {row["file"]: row["expected"] for row in csv.DictReader(table)}
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path != labels}
    found = storm(files, None, **dict(setting.split("=") for setting in sys.argv[2:]))
    lines = []
    for name, statuses in found.statuses.items():
        kind, status = expected.get(name, ""), statuses["multipart"]
        met = not kind or status in EXPECTED[kind]
        lines.append(f"{name:60} {kind:12} {status} {found.codes.get(name, ''):24}{'' if met else ' unexpected'}")
    wrong = found.broken + unlike(found)
    usual = statistics.quantiles(found.usual_ms, n=100)
    counts = Counter(statuses["multipart"] for statuses in found.statuses.values())
    lines += [
        f"{len(files)} files through {len(DOORS)} doors: {dict(sorted(counts.items()))}",
        f"slowest answer {found.slowest[0]:.2f} s ({found.slowest[1]})",
        f"{found.rest_mib:.0f} MiB at rest, {found.peak_mib:.0f} MiB at most",
        f"{len(found.usual_ms)} usual requests meanwhile: p50 {usual[49]:.1f} ms, p99 {usual[98]:.1f} ms",
        *(wrong or ["no promise was broken"]),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
