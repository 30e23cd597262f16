"""`python -m benchmarks.soak`: mixed traffic for minutes, and which answers were lost or wrong.

Callers send valid pictures in every dialect and compare each answer with the one before the load. Others send broken
files or disconnect midway. Meanwhile the model is reloaded again and again.
"""

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import httpx2
import numpy as np
import typer

from benchmarks.client import HOST
from benchmarks.load import multipart
from benchmarks.photos import photo
from benchmarks.report import rows
from benchmarks.results import machine
from benchmarks.servers import Running, digits, running

_DIGITS = Path(__file__).parents[1] / "tests" / "data" / "mnist-small.npz"
_CALLERS, _SPOILERS, _LEAVERS = 6, 2, 2
_PICTURES = 200
_RELOAD_S, _SAMPLE_S, _TIMEOUT_S = 5, 1, 30
_PAUSE_S = 0.2  # at most, before a caller disconnects
_WARM_UP = 0.1  # share of the time after which nothing should grow
_CLOSE = 1e-4  # probabilities differ by rounding with the batch
_ANSWERS = {200, 400, 413, 415, 422, 503}  # that these requests may get

Probabilities = list[float]


@dataclass
class Found:
    """``lost``: requests without an answer. ``wrong``: answers that differ from those before the load.

    ``samples``: seconds since the start, resident MB, file descriptors and threads of the process.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    images: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    disconnected: int = 0
    reloads: int = 0
    samples: list[tuple[float, float, int, int]] = field(default_factory=list)


def pictures(count: int) -> list[bytes]:
    """Digits of MNIST in many sizes and formats, and a 12-megapixel photograph."""
    chance = np.random.default_rng(0)
    digits = np.load(_DIGITS)["x_test"]
    made = []
    for place in range(count):
        height_px = int(chance.choice([20, 28, 60, 200, 600]))
        scaled = cv2.resize(digits[place % len(digits)], (height_px, height_px), interpolation=cv2.INTER_CUBIC)
        grey = np.pad(255 - scaled, height_px // 4, constant_values=255)
        extension = str(chance.choice([".png", ".jpg", ".webp", ".bmp"]))
        _, encoded = cv2.imencode(extension, grey if chance.random() < 0.5 else 255 - grey)
        made.append(encoded.tobytes())
    return [*made, photo()]


def spoilt(good: list[bytes], chance: random.Random) -> bytes:
    """A picture cut short, one with some bytes changed, or noise."""
    data = bytearray(chance.choice(good))
    kind = chance.random()
    if kind < 0.3:
        return bytes(data[: chance.randrange(len(data))])
    if kind < 0.8:
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    return chance.randbytes(chance.randrange(2000))


class Soak:
    """One run against a service that is ready. ``hostile``: files to send as well as the broken ones."""

    def __init__(self, server: Running, good: list[bytes], hostile: list[bytes], seconds: float) -> None:
        self._server, self._good, self._hostile, self._seconds = server, good, hostile, seconds
        self._chance = random.Random(0)  # noqa: S311 - to choose pictures
        self._expected: list[Probabilities] = []
        self.found = Found()

    async def run(self) -> Found:
        """Raises OSError when a picture is not read before the load."""
        url = f"http://{HOST}:{self._server.port}"
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT_S, limits=limits) as self._client:
            for picture in self._good:
                answer = await self._client.post("/predict", content=picture)
                if answer.status_code != 200:
                    raise OSError(f"a valid picture is not read: {answer.text}")
                self._expected.append(answer.json()["probabilities"])
            self._started = time.monotonic()
            tasks = [(self._predict, _CALLERS), (self._send_broken, _SPOILERS), (self._disconnect, _LEAVERS)]
            tasks += [(self._reload, 1), (self._sample, 1)]
            await asyncio.gather(*(self._repeat(task) for task, times in tasks for _ in range(times)))
        return self.found

    async def _repeat(self, task: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self._started + self._seconds:
            await task()

    async def _post(self, path: str, **request: Any) -> httpx2.Response | None:  # noqa: ANN401
        """None when no answer came."""
        try:
            answer = await self._client.post(path, **request)
        except httpx2.HTTPError as error:
            self.found.lost[type(error).__name__] += 1
            return None
        self.found.statuses[answer.status_code] += 1
        if answer.status_code not in _ANSWERS:
            self.found.wrong.append(f"{path} answers {answer.status_code}")
        return answer

    def _compare(self, place: int, probabilities: Probabilities, path: str) -> None:
        self.found.images += 1
        if np.abs(np.subtract(probabilities, self._expected[place])).max() > _CLOSE:
            self.found.wrong.append(f"another answer to a picture at {path}")

    async def _predict(self) -> None:
        """Valid pictures, in one of seven ways."""
        way = self._chance.choice(_WAYS)
        places = [self._chance.randrange(len(self._good)) for _ in range(way.images)]
        answer = await self._post(way.path, **way.request([self._good[place] for place in places]))
        if answer is None or answer.status_code == 503:
            return
        if answer.status_code != 200:
            self.found.wrong.append(f"{way.path} answers {answer.status_code} to pictures that it read before")
            return
        for place, probabilities in zip(places, way.probabilities(answer.json()), strict=True):
            self._compare(place, probabilities, way.path)

    async def _send_broken(self) -> None:
        hostile = self._hostile and self._chance.random() < 0.3
        data = self._chance.choice(self._hostile) if hostile else spoilt(self._good, self._chance)
        if self._chance.random() < 0.5:
            await self._post("/predict", content=data)
            return
        answer = await self._post("/predict/batch", **_form("files")([data, self._good[0]]))
        if answer is not None and answer.status_code == 200:
            neighbour = answer.json()["predictions"][1]["prediction"]
            self._compare(0, neighbour["probabilities"], "/predict/batch beside a broken file")

    async def _disconnect(self) -> None:
        """Half of a request, or a whole one, and then the connection is closed without reading."""
        await asyncio.sleep(self._chance.random() * _PAUSE_S)
        picture = self._chance.choice(self._good)
        head = f"POST /predict?explain=true HTTP/1.1\r\nHost: digits\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
        request = head + picture
        sent = request[: self._chance.randrange(len(request))] if self._chance.random() < 0.5 else request
        try:
            _, writer = await asyncio.open_connection(HOST, self._server.port)
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(self._chance.random() * 0.01)
            writer.transport.abort()
        except OSError as error:
            self.found.lost[type(error).__name__] += 1
        self.found.disconnected += 1

    async def _reload(self) -> None:
        await asyncio.sleep(_RELOAD_S)
        try:
            await asyncio.to_thread(self._server.reload)
        except OSError as error:
            self.found.wrong.append(str(error))
        self.found.reloads += 1

    async def _sample(self) -> None:
        process = Path(f"/proc/{self._server.pid}")
        descriptors, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
        seconds = time.monotonic() - self._started
        self.found.samples.append((seconds, self._server.resident_mb(), descriptors, threads))
        await asyncio.sleep(_SAMPLE_S)


@dataclass(frozen=True)
class Way:
    """One way to send ``images`` pictures: where, the request, and the probabilities in its answer."""

    path: str
    images: int
    request: Callable[[list[bytes]], dict[str, Any]]
    probabilities: Callable[[Any], list[Probabilities]]


def _form(field_name: str) -> Callable[[list[bytes]], dict[str, Any]]:
    def request(images: list[bytes]) -> dict[str, Any]:
        upload = multipart(field_name, images)
        return {"content": upload.body, "headers": {"Content-Type": upload.content_type}}

    return request


def _raw(images: list[bytes]) -> dict[str, Any]:
    return {"content": images[0]}


def _base64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _binary_tensor(images: list[bytes]) -> dict[str, Any]:
    """Open Inference's binary form."""
    data = b"".join(len(image).to_bytes(4, "little") + image for image in images)
    tensor = {
        "name": "images",
        "datatype": "BYTES",
        "shape": [len(images)],
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    return {"content": head + data, "headers": {"Inference-Header-Content-Length": str(len(head))}}


def _one(answer: Any) -> list[Probabilities]:  # noqa: ANN401
    return [answer["probabilities"]]


_WAYS = (
    Way("/predict", 1, _raw, _one),
    Way("/predict", 1, _form("file"), _one),
    Way("/predict", 1, lambda images: {"json": {"image": _base64(images[0])}}, _one),
    Way("/predict?explain=true", 1, _raw, _one),
    Way(
        "/predict/batch",
        8,
        _form("files"),
        lambda answer: [entry["prediction"]["probabilities"] for entry in answer["predictions"]],
    ),
    Way(
        "/v1/models/digits:predict",
        4,
        lambda images: {"json": {"instances": [{"b64": _base64(image)} for image in images]}},
        lambda answer: answer["predictions"],
    ),
    Way(
        "/v2/models/digits/infer",
        4,
        _binary_tensor,
        lambda answer: np.reshape(answer["outputs"][0]["data"], (-1, 10)).tolist(),
    ),
)


def table(found: Found, seconds: float) -> str:
    """Markdown. Each of memory, descriptors and threads is flat when its first tenth after warm-up equals its last."""
    warm = np.array([sample for sample in found.samples if sample[0] > _WARM_UP * seconds] or found.samples)
    tenth = max(1, len(warm) // 10)

    def course(column: int) -> str:
        first, last = (np.median(part[:, column]) for part in (warm[:tenth], warm[-tenth:]))
        return (
            f"{first:.0f} at first, {last:.0f} at last, {max(sample[column] for sample in found.samples):.0f} at most"
        )

    body = {
        "requests": f"{found.statuses.total() + found.lost.total():,}, with {found.images:,} pictures compared",
        "answers by status": ", ".join(f"{status}: {times:,}" for status, times in sorted(found.statuses.items())),
        "lost": f"{found.lost.total()} {dict(found.lost) or ''}".strip(),
        "wrong": f"{len(found.wrong)} {sorted(set(found.wrong))[:5] or ''}".strip(),
        "callers that disconnected": f"{found.disconnected:,}",
        "reloads": f"{found.reloads}",
        "resident memory, MB": course(1),
        "file descriptors": course(2),
        "threads": course(3),
    }
    return "\n".join(rows([f"{seconds:g} seconds", ""], body.items()))


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long.")] = 10,
    engine: Annotated[str, typer.Option(help="keras, litert or litert-int8.")] = "keras",
    hostile: Annotated[Path | None, typer.Option(help="A folder of further files to send.")] = None,
) -> None:
    """Mixed traffic, broken files, disconnects, reloads. Exit status 1 when an answer was lost or wrong."""
    files = [path.read_bytes() for path in sorted(hostile.iterdir()) if path.is_file()] if hostile else []
    with running(digits(engine, engine=engine), logs=True) as server:
        found = asyncio.run(Soak(server, pictures(_PICTURES), files, minutes * 60).run())
    callers = f"{_CALLERS} callers, {_SPOILERS} that send broken files, {_LEAVERS} that disconnect"
    typer.echo(f"{machine()} Engine {engine}, {callers}.\n\n{table(found, minutes * 60)}")
    if found.lost or found.wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
