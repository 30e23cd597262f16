"""`python -m benchmarks.container IMAGE`: the largest pictures sent to a container under a memory limit.

Callers send pictures of 64 million pixels in many formats and every way, JSON that takes many times its size
when parsed, and small pictures between. It needs `docker`, or the command in DIGITS_CONTAINER.
"""

import base64
import os
import random
import shlex
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Annotated, Any

import cv2
import httpx2
import numpy as np
import pillow_heif
import typer
from PIL import Image

from benchmarks.servers import SEVEN, free_port

_SIDE_PX = 8000
_SMALL, _SMALL_SHARE = "28x28 PNG", 0.3
_TIMEOUT_S, _START_S, _SAMPLE_S = 60, 120, 0.1
_RETRY_S = 0.2  # less than Retry-After asks for
_ANSWERS = {200, 400, 413, 503, 504}
_WAYS: tuple[Callable[[bytes], dict[str, Any]], ...] = (
    lambda data: {"content": data},
    lambda data: {"files": {"file": ("seven", data)}},
    lambda data: {"json": {"image": base64.b64encode(data).decode()}},
)
_JSON = {  # kind -> path and body
    "JSON of many lists": ("/predict", b'{"image": "AAAA", "a": [' + b",".join([b"[1]"] * 2_600_000) + b"]}"),
    "JSON of many instances": (
        "/v1/models/digits:predict",
        b'{"instances": [' + b",".join([b'{"":1}'] * 200_000) + b"]}",
    ),
}


def pictures() -> dict[str, bytes]:
    """A seven on a sheet of 64,000,000 pixels, in each format and depth, each of less than 10 MiB."""
    grey = np.full((_SIDE_PX, _SIDE_PX), 235, np.uint8)
    cv2.polylines(grey, [np.array([[2000, 1500], [5000, 1500], [3300, 5800]])], False, 40, 400)
    colour = Image.fromarray(cv2.merge([grey, grey, grey]))
    transparent = colour.copy()
    transparent.putalpha(Image.fromarray(255 - grey))
    noise = np.random.default_rng(0).normal(0, 8, (_SIDE_PX // 4 + 1,) * 2).astype(np.float32)
    grainy = np.clip(grey + cv2.resize(noise, (_SIDE_PX, _SIDE_PX)), 0, 255).astype(np.uint8)

    def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401
        image.save(file := BytesIO(), kind, **options)
        return file.getvalue()

    def heic(image: Image.Image) -> bytes:
        pillow_heif.from_pillow(image).save(file := BytesIO(), tile_size=512, enc_params={"preset": "ultrafast"})
        return file.getvalue()

    def opencv(suffix: str, pixels: np.ndarray[Any, Any]) -> bytes:
        return cv2.imencode(suffix, pixels)[1].tobytes()

    deep, deep_transparent = (np.array(image).astype(np.uint16) * 257 for image in (colour, transparent))
    deflated = {"compression": "tiff_adobe_deflate"}
    return {
        "grey PNG": opencv(".png", grey),
        "colour PNG": opencv(".png", np.array(colour)),
        "transparent PNG": opencv(".png", np.array(transparent)),
        "16-bit PNG": opencv(".png", deep),
        "16-bit transparent PNG": opencv(".png", deep_transparent),
        "JPEG": pillow(colour, "JPEG", quality=95),
        "large JPEG": pillow(Image.fromarray(grainy), "JPEG", quality=95),
        "progressive JPEG": pillow(colour, "JPEG", progressive=True),
        "CMYK JPEG": pillow(colour.convert("CMYK"), "JPEG"),
        "WebP": pillow(colour, "WEBP", method=0),
        "transparent WebP": pillow(transparent, "WEBP", method=0),
        "AVIF": pillow(colour, "AVIF", speed=10),
        "HEIC": heic(colour),
        "GIF": pillow(Image.fromarray(grey), "GIF"),
        "BMP of 1 bit": pillow(Image.fromarray(grey).convert("1"), "BMP"),
        "16-bit TIFF": pillow(Image.fromarray(deep[:, :, 0]), "TIFF", **deflated),
        "transparent TIFF": pillow(transparent, "TIFF", **deflated),
        "TIFF in one strip": pillow(transparent, "TIFF", tiffinfo={278: _SIDE_PX}, strip_size=2**31, **deflated),
        "float TIFF": pillow(Image.fromarray(grey.astype(np.float32)), "TIFF", **deflated),
    }


@dataclass
class Found:
    """``statuses``: by kind of picture; 0 without an answer. ``small_ms``: latency of small pictures that were read."""

    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    small_ms: list[float] = field(default_factory=list)
    resident_mib: list[float] = field(default_factory=list)


def main(
    image: str,
    memory: Annotated[str, typer.Option(help="The limit, as `docker run --memory` takes it.")] = "512m",
    seconds: float = 60,
    callers: int = 12,
) -> None:
    """Exit status 0 when every request had an answer and the container is still running."""
    port, files, found = free_port(), pictures(), Found()
    engine = shlex.split(os.environ.get("DIGITS_CONTAINER", "docker"))
    limits = ["--memory", memory, "--memory-swap", memory, "--read-only", "--cap-drop", "ALL"]
    published = ["--publish", f"127.0.0.1:{port}:8000", "--env", "DIGITS_LOG_LEVEL=error"]
    with subprocess.Popen([*engine, "run", "--rm", *limits, *published, image]) as container:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url)
            _sample_memory(url, found)
            until = time.monotonic() + seconds
            threads = [threading.Thread(target=_call, args=(url, files, until, seed, found)) for seed in range(callers)]
            for thread in threads:
                thread.start()
            while container.poll() is None and any(thread.is_alive() for thread in threads):
                _sample_memory(url, found)
                time.sleep(_SAMPLE_S)
            for thread in threads:
                thread.join()
            running = container.poll() is None
        finally:
            container.terminate()
    total = sum(found.statuses.values(), Counter[int]())
    for kind, statuses in [*sorted(found.statuses.items()), ("all", total)]:
        typer.echo(f"{kind:24} {', '.join(f'{status}: {count}' for status, count in sorted(statuses.items()))}")
    typer.echo(f"small pictures: median {np.median(found.small_ms):.0f} ms, slowest {max(found.small_ms):.0f} ms")
    typer.echo(f"resident MiB: {found.resident_mib[0]:.0f} before, {max(found.resident_mib):.0f} at most")
    typer.echo("the container is running" if running else f"the container ended with status {container.returncode}")
    raise SystemExit(not (running and set(total) <= _ANSWERS))


def _call(url: str, files: dict[str, bytes], until: float, seed: int, found: Found) -> None:
    chance = random.Random(seed)  # noqa: S311
    with httpx2.Client(base_url=url, timeout=_TIMEOUT_S) as client:
        while time.monotonic() < until:
            kind = _SMALL if chance.random() < _SMALL_SHARE else chance.choice([*files, *_JSON])
            if kind in _JSON:
                path, body = _JSON[kind]
                request: dict[str, Any] = {"content": body, "headers": {"Content-Type": "application/json"}}
            else:
                path, request = "/predict", chance.choice(_WAYS)(SEVEN.read_bytes() if kind == _SMALL else files[kind])
            started = time.monotonic()
            try:
                status = client.post(path, **request).status_code
            except httpx2.HTTPError:
                status = 0
            found.statuses[kind][status] += 1
            if kind == _SMALL and status == httpx2.codes.OK:
                found.small_ms.append((time.monotonic() - started) * 1000)
            if status != httpx2.codes.OK:
                time.sleep(_RETRY_S)


def _sample_memory(url: str, found: Found) -> None:
    """From the service's own metrics, which needs nothing from the container engine."""
    with suppress(httpx2.HTTPError):
        lines = httpx2.get(f"{url}/metrics", timeout=_TIMEOUT_S).text.splitlines()
        found.resident_mib += [
            float(line.split()[-1]) / 2**20 for line in lines if line.startswith("process_resident_memory_bytes")
        ]


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with suppress(httpx2.HTTPError):
            if httpx2.get(f"{url}/readyz", timeout=2).status_code == httpx2.codes.OK:
                return
        time.sleep(0.2)
    raise SystemExit("the container is not ready")


if __name__ == "__main__":
    typer.run(main)
