"""Load on a server at 127.0.0.1: keep-alive connections that repeat one request.

`wrk` makes the load where it is installed. Otherwise a client of our own does, which takes more CPU from the server.
"""

import base64
import json
import math
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import HOST, closed_loop

BATCH = 64
TIMEOUT_S = 60

_BOUNDARY = "benchmark"
_READ = '"error":null'  # occurs in an answer of /predict/batch once for each image that was read
_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Upload:
    """The body of a request. ``images``: how many it holds; more than one are counted in the answer."""

    content_type: str
    body: bytes
    images: int = 1

    def request(self, path: str) -> bytes:
        """As it goes over the wire."""
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {self.content_type}\r\n"
        return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body


@dataclass(frozen=True)
class Load:
    """``rate``: images read per second. ``images``: images read. ``refused``: share of the images sent and not read.

    ``cpu_ms``: CPU time of the server per image, over all its processes; NaN where it is not known.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int
    images: int
    refused: float
    cpu_ms: float = math.nan


def uploads(image: bytes) -> dict[str, Upload]:
    """The same image in every way that the service takes it, by name."""
    text = json.dumps({"image": base64.b64encode(image).decode()})
    return {
        "multipart": multipart("file", [image]),
        "raw": Upload("application/octet-stream", image),
        "json": Upload("application/json", text.encode()),
        "batch": multipart("files", [image] * BATCH),
    }


def multipart(field: str, images: list[bytes]) -> Upload:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="image.png"\r\n'
    head += "Content-Type: image/png\r\n\r\n"
    body = b"".join(head.encode() + image + b"\r\n" for image in images) + f"--{_BOUNDARY}--\r\n".encode()
    return Upload(f"multipart/form-data; boundary={_BOUNDARY}", body, len(images))


def generator() -> str:
    """What makes the load, by name and version."""
    if wrk := shutil.which("wrk"):
        printed = subprocess.run([wrk, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"wrk \S+", printed)
        return f"{version[0] if version else 'wrk'}, one thread"
    return "the project's own client"


def measure(port: int, path: str, upload: Upload, connections: int, seconds: float) -> Load:
    """``seconds`` is rounded to whole ones, at least 1, where `wrk` makes the load."""
    if wrk := shutil.which("wrk"):
        return _wrk(wrk, port, path, upload, connections, max(1, round(seconds)))
    marker = _READ.encode() if upload.images > 1 else b""
    found = closed_loop(port, [upload.request(path)], seconds, connections, marker)
    requests = found.statuses.total()
    return _load(upload, found.seconds, requests, found.images, found.percentile(50), found.percentile(99))


def _wrk(wrk: str, port: int, path: str, upload: Upload, connections: int, seconds: int) -> Load:
    with tempfile.NamedTemporaryFile() as body:
        body.write(upload.body)
        body.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", "-s", str(_SCRIPT)]
        arguments = [body.name, upload.content_type, *([_READ] if upload.images > 1 else [])]
        ran = subprocess.run(
            [wrk, *options, f"http://{HOST}:{port}{path}", "--", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    if ran.returncode:
        raise OSError(f"wrk: {(ran.stdout + ran.stderr).strip()}")
    found = json.loads(ran.stdout.splitlines()[-1])
    read = found["images"] if upload.images > 1 else max(0, found["requests"] - found["failed"])
    return _load(upload, found["seconds"], found["requests"], read, found["p50_ms"], found["p99_ms"])


def _load(upload: Upload, seconds: float, requests: int, read: int, p50_ms: float, p99_ms: float) -> Load:
    return Load(read / seconds, p50_ms, p99_ms, requests, read, 1 - read / max(1, requests * upload.images))
