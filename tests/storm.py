"""`python -m tests.storm FOLDER`: sends every file to every endpoint of the service, beside ordinary requests.

Settings may follow, such as ``engine=litert``. Exit status 1 when a promise of docs/reliability.md is broken.
"""

import base64
import json
import signal
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

from tests.dialects import OPEN_INFERENCE, SEVEN, TENSORFLOW
from tests.server import running

TENSOR = {"name": "images", "datatype": "BYTES", "shape": [1]}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _binary(data: bytes) -> dict[str, Any]:
    tensor = struct.pack("<I", len(data)) + data
    head = json.dumps({"inputs": [TENSOR | {"parameters": {"binary_data_size": len(tensor)}}]}).encode()
    return {"content": head + tensor, "headers": {"Inference-Header-Content-Length": str(len(head))}}


WAYS: dict[str, tuple[str, Callable[[bytes], dict[str, Any]]]] = {  # to send a file: the path, and the request
    "multipart": ("/predict", lambda data: {"files": {"file": ("seven.png", data, "image/png")}}),
    "raw": ("/predict", lambda data: {"content": data, "headers": {"Content-Type": "image/png"}}),
    "JSON": ("/predict", lambda data: {"json": {"image": _base64(data)}}),
    "explained": ("/predict?explain=true", lambda data: {"content": data}),
    "plain": ("/predict?preprocess=plain", lambda data: {"content": data}),
    "batch": ("/predict/batch", lambda data: {"files": [("files", ("a.png", data)), ("files", ("b.png", SEVEN))]}),
    "numbers": ("/read", lambda data: {"content": data}),
    "a field": ('/read?fields=[{"name":"all","box":[0,0,1,1]}]', lambda data: {"content": data}),
    "TensorFlow Serving": (TENSORFLOW, lambda data: {"json": {"instances": [{"b64": _base64(data)}]}}),
    "Open Inference": (OPEN_INFERENCE, lambda data: {"json": {"inputs": [TENSOR | {"data": [_base64(data)]}]}}),
    "Open Inference, binary": (OPEN_INFERENCE, _binary),
}
INTERNALS = ("Traceback", ".py", "site-packages", "/tmp", "cv2", "OpenCV", "PIL", "libpng")  # never in an answer
LATEST_S = 11  # DIGITS_REQUEST_TIMEOUT_MS by default, plus a second
DIALECT_STATUSES = {415: 400, 422: 400}


@dataclass
class Storm:
    """``statuses``: of each file in each way; in a batch, of its entry. ``broken``: promises that did not hold."""

    statuses: dict[str, dict[str, int]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")  # seconds, file and way
    rest_mib: float = 0
    peak_mib: float = 0


def storm(files: dict[str, bytes], **settings: object) -> Storm:
    """Sends every file in every way to a service of its own. Raises nothing: see ``broken``."""
    found = Storm()
    with running(**settings) as process:
        url = process.url()
        process.line_with('"ready"')
        with httpx2.Client(base_url=url, timeout=60) as client:
            for _ in range(20):
                client.post("/predict", content=SEVEN)
            found.rest_mib = _mib(process.pid, "VmRSS")
            stop = threading.Event()
            ordinary = threading.Thread(target=_send_ordinary, args=(url, stop, found))
            ordinary.start()
            try:
                for name, data in files.items():
                    found.statuses[name] = {way: _send(client, name, way, data, found) for way in WAYS}
            finally:
                stop.set()
                ordinary.join()
            found.peak_mib = _mib(process.pid, "VmHWM")
        process.tell(signal.SIGTERM)
        if process.status() != 0:
            found.broken.append(f"exit status {process.status()}")
        if any('"traceback"' in line or '"error"' in line for line in process.rest()):
            found.broken.append("an error in the log")
    if found.slowest[0] > LATEST_S:
        found.broken.append("an answer later than its deadline")
    found.broken += _different(found)
    return found


def _send(client: httpx2.Client, name: str, way: str, data: bytes, found: Storm) -> int:
    path, request = WAYS[way]
    started = time.monotonic()
    try:
        answer = client.post(path, **request(data))
    except httpx2.HTTPError as error:
        found.broken.append(f"{name}, {way}: {error!r}")
        return 0
    found.slowest = max(found.slowest, (time.monotonic() - started, f"{name}, {way}"))
    status, text = answer.status_code, answer.text
    if way == "batch" and status == httpx2.codes.OK:
        entry, neighbour = answer.json()["predictions"]
        if neighbour["prediction"] is None and neighbour["error"]["status"] != httpx2.codes.GATEWAY_TIMEOUT:
            found.broken.append(f"{name}, {way}: the picture beside it was refused")
        status = entry["error"]["status"] if entry["error"] else status
        text = json.dumps(entry)
    if status == httpx2.codes.INTERNAL_SERVER_ERROR or any(word in text for word in INTERNALS):
        found.broken.append(f"{name}, {way}: {status} {text[:200]}")
    if status != httpx2.codes.OK and data[8:40] and data[8:40].decode("latin-1") in text:
        found.broken.append(f"{name}, {way}: bytes of the file in the answer")
    return status


def _send_ordinary(url: str, stop: threading.Event, found: Storm) -> None:
    with httpx2.Client(base_url=url, timeout=60) as client:
        while not stop.wait(0.02):
            if client.post("/predict", content=SEVEN).status_code != httpx2.codes.OK:
                found.broken.append("an ordinary request was refused")


def _different(found: Storm) -> list[str]:
    """Files whose status depends on the way, other than by the dialects' own statuses."""
    return [
        f"{name}, {way}: {status}, but {statuses['multipart']} by multipart"
        for name, statuses in found.statuses.items()
        for way, status in statuses.items()
        if way not in {"plain", "numbers", "a field"}  # these find ink in other pictures than `auto`
        and status
        != (DIALECT_STATUSES if "/v" in WAYS[way][0] else {}).get(statuses["multipart"], statuses["multipart"])
    ]


def _mib(pid: int, which: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split(f"{which}:")[1].split()[0]) / 1024


def main() -> None:
    files = {path.name: path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir()) if path.suffix != ".csv"}
    found = storm(files, **dict(setting.split("=") for setting in sys.argv[2:]))
    counts = Counter(statuses["multipart"] for statuses in found.statuses.values())
    lines = [
        *(f"{name:60} {statuses['multipart']}" for name, statuses in found.statuses.items()),
        f"{len(files)} files in {len(WAYS)} ways: {dict(sorted(counts.items()))}",
        f"slowest answer {found.slowest[0]:.2f} s ({found.slowest[1]})",
        f"{found.rest_mib:.0f} MiB before, {found.peak_mib:.0f} MiB at most",
        *(found.broken or ["no promise was broken"]),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(bool(found.broken))


if __name__ == "__main__":
    main()
