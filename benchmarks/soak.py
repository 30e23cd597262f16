"""`python -m benchmarks.soak`: the service under everything at once, for minutes, and what of it was lost or wrong.

Callers send what people send, in every dialect, and compare each answer with the one that the same picture got before
the load. Others send broken files, or hang up in the middle. Meanwhile the model is loaded anew again and again.
"""

import asyncio
import base64
import json
import random
import signal
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

from benchmarks.load import HOST, multipart
from benchmarks.photos import photo
from benchmarks.replica import Replica
from benchmarks.results import machine
from benchmarks.servers import free_port, resident_mb
from training.drawing.strokes import draw_digit

_CALLERS, _SPOILERS, _LEAVERS = 6, 2, 2
_PICTURES = 200
_RELOAD_S, _LOOK_S, _TIMEOUT_S = 5, 1, 30
_PAUSE_S = 0.2  # of those who leave, at most
_WARM = 0.1  # of the time, after which nothing should grow any more
_CLOSE = 1e-4  # a probability moves by rounding, whoever is in the same batch
_ANSWERS = {200, 400, 413, 415, 422, 503}  # what the contract says to these requests

Probabilities = list[float]


@dataclass(frozen=True)
class Look:
    """At the process, so many seconds after the load began."""

    seconds: float
    mb: float
    descriptors: int
    threads: int


@dataclass
class Found:
    """``lost``: requests whose callers waited and got no answer. ``wrong``: answers other than before the load."""

    statuses: Counter[int] = field(default_factory=Counter)
    images: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    left: int = 0
    reloads: int = 0
    looks: list[Look] = field(default_factory=list)


def pictures(count: int) -> list[bytes]:
    """Encoded pictures of digits that code draws, of many sizes and formats, and a photograph of 12 megapixels."""
    chance = np.random.default_rng(0)
    made = []
    for place in range(count):
        height_px = int(chance.choice([20, 28, 60, 200, 600]))
        alpha = draw_digit(place % 10, chance, height_px, height_px * chance.uniform(0.05, 0.14))
        grey = np.pad((255 * (1 - alpha)).astype(np.uint8), height_px // 4, constant_values=255)
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
    """One run against a service that is ready. ``hostile``: files to send beside those that are spoilt here."""

    def __init__(self, replica: Replica, good: list[bytes], hostile: list[bytes], seconds: float) -> None:
        self._replica, self._good, self._hostile, self._seconds = replica, good, hostile, seconds
        self._chance = random.Random(0)  # noqa: S311 - to choose pictures
        self._expected: list[Probabilities] = []
        self.found = Found()

    async def run(self) -> Found:
        """Raises OSError when a picture is not read before the load."""
        url = f"http://{HOST}:{self._replica.port}"
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT_S, limits=limits) as self._client:
            for picture in self._good:
                answer = await self._client.post("/predict", content=picture)
                if answer.status_code != 200:
                    raise OSError(f"a picture of our own is not read: {answer.text}")
                self._expected.append(answer.json()["probabilities"])
            self._started = time.monotonic()
            tasks = [(self._ask, _CALLERS), (self._spoil, _SPOILERS), (self._leave, _LEAVERS)]
            tasks += [(self._reload, 1), (self._look, 1)]
            await asyncio.gather(*(self._repeat(task) for task, times in tasks for _ in range(times)))
        return self.found

    async def _repeat(self, task: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self._started + self._seconds:
            await task()

    async def _post(self, path: str, **request: Any) -> httpx2.Response | None:  # noqa: ANN401
        """The answer, unless there is none."""
        try:
            answer = await self._client.post(path, **request)
        except httpx2.HTTPError as error:
            self.found.lost[type(error).__name__] += 1
            return None
        self.found.statuses[answer.status_code] += 1
        if answer.status_code not in _ANSWERS:
            self.found.wrong.append(f"{path} answers {answer.status_code}")
        return answer

    async def _ask(self) -> None:
        """What people send, in one of seven ways."""
        way = self._chance.choice(_WAYS)
        places = [self._chance.randrange(len(self._good)) for _ in range(way.images)]
        answer = await self._post(way.path, **way.request([self._good[place] for place in places]))
        if answer is None or answer.status_code == 503:  # which is an answer, too
            return
        if answer.status_code != 200:
            self.found.wrong.append(f"{way.path} answers {answer.status_code} to pictures that it read before")
            return
        for place, probabilities in zip(places, way.probabilities(answer.json()), strict=True):
            self.found.images += 1
            if np.abs(np.subtract(probabilities, self._expected[place])).max() > _CLOSE:
                self.found.wrong.append(f"another answer to a picture at {way.path}")

    async def _spoil(self) -> None:
        """What no one should send: answered in one way or another."""
        hostile = self._hostile and self._chance.random() < 0.3
        data = self._chance.choice(self._hostile) if hostile else spoilt(self._good, self._chance)
        if self._chance.random() < 0.5:
            await self._post("/predict", content=data)
        else:
            upload = multipart("files", [data, self._good[0]])
            answer = await self._post(
                "/predict/batch", content=upload.body, headers={"Content-Type": upload.content_type}
            )
            if answer is not None and answer.status_code == 200:
                neighbour = answer.json()["predictions"][1]["prediction"]
                if np.abs(np.subtract(neighbour["probabilities"], self._expected[0])).max() > _CLOSE:
                    self.found.wrong.append("another answer beside a broken file")

    async def _leave(self) -> None:
        """Half of a request, or a whole one whose answer nobody waits for."""
        await asyncio.sleep(self._chance.random() * _PAUSE_S)
        picture = self._chance.choice(self._good)
        head = f"POST /predict?explain=true HTTP/1.1\r\nHost: digits\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
        request = head + picture
        sent = request[: self._chance.randrange(len(request))] if self._chance.random() < 0.5 else request
        try:
            _, writer = await asyncio.open_connection(HOST, self._replica.port)
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(self._chance.random() * 0.01)
            writer.transport.abort()
        except OSError as error:
            self.found.lost[type(error).__name__] += 1
        self.found.left += 1

    async def _reload(self) -> None:
        await asyncio.sleep(_RELOAD_S)
        self._replica.tell(signal.SIGHUP)
        said = await asyncio.to_thread(self._replica.wait_for, "reloaded", "reload failed")
        if said["message"] != "reloaded":
            self.found.wrong.append("a reload failed")
        self.found.reloads += 1

    async def _look(self) -> None:
        process = Path(f"/proc/{self._replica.pid}")
        self.found.looks.append(
            Look(
                time.monotonic() - self._started,
                resident_mb(self._replica.pid),
                len(list((process / "fd").iterdir())),
                len(list((process / "task").iterdir())),
            )
        )
        await asyncio.sleep(_LOOK_S)


@dataclass(frozen=True)
class Way:
    """Of asking: where, how many images at once, the request of them, and the probabilities in its answer."""

    path: str
    images: int
    request: Callable[[list[bytes]], dict[str, Any]]
    probabilities: Callable[[Any], list[Probabilities]]


def _form(field_name: str) -> Callable[[list[bytes]], dict[str, Any]]:
    def request(images: list[bytes]) -> dict[str, Any]:
        upload = multipart(field_name, images)
        return {"content": upload.body, "headers": {"Content-Type": upload.content_type}}

    return request


def _text(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _bytes_tensor(images: list[bytes]) -> dict[str, Any]:
    """In Triton's binary form."""
    data = b"".join(len(image).to_bytes(4, "little") + image for image in images)
    given = {
        "name": "images",
        "datatype": "BYTES",
        "shape": [len(images)],
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [given]}).encode()
    return {"content": head + data, "headers": {"Inference-Header-Content-Length": str(len(head))}}


def _one(answer: Any) -> list[Probabilities]:  # noqa: ANN401
    return [answer["probabilities"]]


_WAYS = (
    Way("/predict", 1, lambda images: {"content": images[0]}, _one),
    Way("/predict", 1, _form("file"), _one),
    Way("/predict", 1, lambda images: {"json": {"image": _text(images[0])}}, _one),
    Way("/predict?explain=true", 1, lambda images: {"content": images[0]}, _one),
    Way(
        "/predict/batch",
        8,
        _form("files"),
        lambda answer: [entry["prediction"]["probabilities"] for entry in answer["predictions"]],
    ),
    Way(
        "/v1/models/digits:predict",
        4,
        lambda images: {"json": {"instances": [{"b64": _text(image)} for image in images]}},
        lambda answer: answer["predictions"],
    ),
    Way(
        "/v2/models/digits/infer",
        4,
        _bytes_tensor,
        lambda answer: np.reshape(answer["outputs"][0]["data"], (-1, 10)).tolist(),
    ),
)


def table(found: Found, seconds: float) -> str:
    """What there is to say, as Markdown. Flat is what its first tenth after warming up and its last share."""
    warm = [look for look in found.looks if look.seconds > _WARM * seconds] or found.looks
    tenth = max(1, len(warm) // 10)

    def course(of: Callable[[Look], float]) -> str:
        first, last = (np.median([of(look) for look in some]) for some in (warm[:tenth], warm[-tenth:]))
        return f"{first:.0f} at first, {last:.0f} at last, {max(of(look) for look in found.looks):.0f} at most"

    rows = {
        "requests": f"{found.statuses.total() + found.lost.total():,}, with {found.images:,} pictures compared",
        "answers by status": ", ".join(f"{status}: {times:,}" for status, times in sorted(found.statuses.items())),
        "lost": f"{found.lost.total()} {dict(found.lost) or ''}",
        "wrong": f"{len(found.wrong)} {sorted(set(found.wrong))[:5] or ''}",
        "callers who hung up": f"{found.left:,}",
        "reloads": f"{found.reloads}",
        "resident memory, MB": course(lambda look: look.mb),
        "file descriptors": course(lambda look: look.descriptors),
        "threads": course(lambda look: look.threads),
    }
    lines = [f"| {name} | {value.strip()} |" for name, value in rows.items()]
    return "\n".join([f"| {seconds:g} seconds | |", "| --- | --- |", *lines])


def soak(seconds: float, engine: str, hostile: list[bytes]) -> Found:
    replica = Replica(free_port(), engine=engine)
    replica.start()
    try:
        replica.wait_for("ready")
        return asyncio.run(Soak(replica, pictures(_PICTURES), hostile, seconds).run())
    finally:
        replica.end()


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long.")] = 10,
    engine: Annotated[str, typer.Option(help="keras, litert or litert-int8.")] = "keras",
    hostile: Annotated[Path | None, typer.Option(help="A folder of files to send as well.")] = None,
) -> None:
    """Mixed traffic, broken files, callers who leave, reloads. Exit status 1 when anything was lost or wrong."""
    files = [path.read_bytes() for path in sorted(hostile.iterdir()) if path.is_file()] if hostile else []
    typer.echo(
        f"{machine()} Engine {engine}, {_CALLERS} callers, {_SPOILERS} who send broken files, {_LEAVERS} who leave.\n"
    )
    found = soak(minutes * 60, engine, files)
    typer.echo(table(found, minutes * 60))
    if found.lost or found.wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
