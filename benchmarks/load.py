"""Load on a server: keep-alive connections to 127.0.0.1, one request at a time each, all the same.

It comes from `wrk` where that is installed, else from a client of our own on one event loop, which takes more of the
machine from the server. Knows no server and no report.
"""

import asyncio
import base64
import json
import math
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HOST = "127.0.0.1"
BATCH = 64
TIMEOUT_S = 60

_BOUNDARY = "benchmark"
_READ = '"error":null'  # stands in an answer of /predict/batch once for each image that was read
_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Upload:
    """A request's body. ``images``: how many it holds; more than one are counted in the answer."""

    content_type: str
    body: bytes
    images: int = 1


@dataclass(frozen=True)
class Load:
    """What came of it. ``rate``: images read a second. ``refused``: the share of images that were sent and not read.

    ``images``: how many were read. ``cpu_ms``: processor time of the server for each, over all its processes; NaN
    where it is not known.
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
        said = subprocess.run([wrk, "--version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"wrk \S+", said)
        return f"{found[0] if found else 'wrk'}, one thread"
    return "the project's own asyncio client"


def measure(port: int, path: str, upload: Upload, connections: int, seconds: float) -> Load:
    """``seconds`` is rounded to whole ones, at least 1, where `wrk` makes the load."""
    if wrk := shutil.which("wrk"):
        return _wrk(wrk, port, path, upload, connections, max(1, round(seconds)))
    return asyncio.run(_own(port, path, upload, connections, seconds))


def _wrk(wrk: str, port: int, path: str, upload: Upload, connections: int, seconds: int) -> Load:
    with tempfile.NamedTemporaryFile() as body:
        body.write(upload.body)
        body.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", "-s", str(_SCRIPT)]
        given = [body.name, upload.content_type, *([_READ] if upload.images > 1 else [])]
        ran = subprocess.run(
            [wrk, *options, f"http://{HOST}:{port}{path}", "--", *given], capture_output=True, text=True, check=False
        )
    if ran.returncode:
        raise OSError(f"wrk: {(ran.stdout + ran.stderr).strip()}")
    said = json.loads(ran.stdout.splitlines()[-1])
    read = said["images"] if upload.images > 1 else max(0, said["requests"] - said["failed"])
    return _load(upload, said["seconds"], said["requests"], read, said["p50_ms"], said["p99_ms"])


async def _own(port: int, path: str, upload: Upload, connections: int, seconds: float) -> Load:
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {upload.content_type}\r\n"
    request = f"{head}Content-Length: {len(upload.body)}\r\n\r\n".encode() + upload.body
    times: list[float] = []
    read = 0
    started = time.perf_counter()

    async def connection() -> None:
        nonlocal read
        reader, writer = await asyncio.open_connection(HOST, port)
        while (sent := time.perf_counter()) < started + seconds:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            times.append(time.perf_counter() - sent)
            if b" 200 " in head[:15]:
                read += body.count(_READ.encode()) if upload.images > 1 else 1
        writer.close()

    async with asyncio.timeout(seconds + TIMEOUT_S):
        await asyncio.gather(*(connection() for _ in range(connections)))
    p50_ms, p99_ms = np.percentile(np.array(times) * 1000, [50, 99])
    return _load(upload, time.perf_counter() - started, len(times), read, float(p50_ms), float(p99_ms))


def _load(upload: Upload, seconds: float, requests: int, read: int, p50_ms: float, p99_ms: float) -> Load:
    return Load(read / seconds, p50_ms, p99_ms, requests, read, 1 - read / max(1, requests * upload.images))
