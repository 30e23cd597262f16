"""Who answers the command line: a running service, or the model loaded here. Knows no file and no output."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import httpx2
import numpy as np

from app.api.predictions import as_json
from app.errors import DigitsError
from app.imaging.preprocess import Mode
from app.inference.service import Service
from app.model.engine import ENGINES
from app.settings import Settings

AT_ONCE = 16  # pictures that are asked about at the same time

_LIBRARIES = {"litert": "ai_edge_litert", "keras": "tensorflow"}  # engine -> what it needs, the quickest to start first
_TIMEOUT_S = 30.0  # three times what the service gives itself
_PATIENCE_S = 60.0  # of one who is told to come back later
_BUSY = {429, 503}
_LAST_PORT = 65535

Json = dict[str, Any]
Ask = Callable[[bytes], Awaitable[Json]]  # an encoded image -> its prediction. Raises Unread, NoAnswer


class Unread(Exception):
    """One picture was not read. ``problem``: a problem document, or what of it there is: `code` and `detail`."""

    def __init__(self, problem: Json) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


class NoAnswer(Exception):
    """Nobody answers, whatever is asked: one line that says what to do."""


@dataclass(frozen=True)
class Question:
    """What is asked about every picture. ``top_k``: as many as the service gives, where it is None."""

    top_k: int | None = None
    preprocess: Mode = "auto"
    explain: bool = False


@asynccontextmanager
async def local(question: Question) -> AsyncIterator[Ask]:
    """The model loaded into this process, by the engine of `DIGITS_ENGINE`, else by one that is installed.

    Raises ModelError, and pydantic's ValidationError for a wrong setting.
    """
    settings = Settings()
    engine = ENGINES[_engine(settings)].load(settings.model_dir)
    service = Service(settings)
    service.start(engine)

    async def ask(data: bytes) -> Json:
        try:
            result = await service.predict(data, question.preprocess, explain=question.explain)
        except DigitsError as error:
            raise Unread({"code": error.code, "detail": str(error)}) from error
        return as_json(result, question.top_k or 3)

    try:
        yield ask
    finally:
        service.close()


def _engine(settings: Settings) -> str:
    if "engine" not in settings.model_fields_set:
        for engine, library in _LIBRARIES.items():
            if find_spec(library):
                return engine
    return settings.engine


@asynccontextmanager
async def remote(url: str, question: Question) -> AsyncIterator[Ask]:
    """The service at ``url``. Who is told to come back later does, for a minute."""
    asked = {"top_k": question.top_k, "preprocess": question.preprocess, "explain": question.explain or None}
    params = {name: value for name, value in asked.items() if value is not None}
    async with _client(url, AT_ONCE) as client:

        async def ask(data: bytes) -> Json:
            response = await _patiently(client, "POST", "/predict", params=params, content=data)
            answer = _json(response, url)
            if response.is_success and "digit" in answer:
                return answer
            if "code" in answer and "detail" in answer:
                raise Unread(answer)
            raise _foreign(url, response)

        yield ask


async def model_of(url: str) -> Json:
    """The manifest of the model that the service at ``url`` has. Raises NoAnswer."""
    async with _client(url, 1) as client:
        try:
            response = await _patiently(client, "GET", "/model")
        except Unread as error:
            raise NoAnswer(f"{url}: {error}") from error
    answer = _json(response, url)
    if response.is_success and "thresholds" in answer:
        return answer
    if "code" in answer and "detail" in answer:
        raise NoAnswer(f"{url}: {answer['detail']}")
    raise _foreign(url, response)


@dataclass
class Load:
    """What came of it. ``times_ms``: of each answer that was a prediction; ``errors``: how many of each code.

    ``client``: processor time that this process took, as a share of one core.
    """

    times_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0
    client: float = 0

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.times_ms, percent))


async def load(url: str, pictures: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Ask about the pictures in turn, over ``connections`` at once, one request at a time each.

    One request a connection goes before what is counted; nobody comes back later. Raises NoAnswer.
    """
    came = Load()
    turns = cycle(pictures)
    async with _client(url, connections) as client:

        async def ask() -> str | None:
            """None, or the code of what went wrong."""
            try:
                response = await client.post("/predict", content=next(turns))
            except httpx2.ConnectError as error:
                raise _nobody(url) from error
            except httpx2.HTTPError:
                return "no_answer"
            return None if response.is_success else str(_json(response, url).get("code", response.status_code))

        async def connection(until: float) -> None:
            while (sent := time.perf_counter()) < until:
                if code := await ask():
                    came.errors[code] += 1
                else:
                    came.times_ms.append((time.perf_counter() - sent) * 1000)

        await asyncio.gather(*(ask() for _ in range(connections)))
        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(connection(started + seconds) for _ in range(connections)))
        came.seconds = time.perf_counter() - started
        came.client = (time.process_time() - used) / came.seconds
    return came


@asynccontextmanager
async def _client(url: str, connections: int) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Content-Type": "application/octet-stream"}
    if key := os.environ.get("DIGITS_API_KEY", "").strip():  # from there alone: anyone may read a command line
        if not (key.isascii() and key.isprintable()):
            raise NoAnswer("DIGITS_API_KEY is no key: it has to be letters, digits and signs of ASCII, on one line")
        headers["X-API-Key"] = key
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    try:
        client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT_S, limits=limits)
        if not client.base_url.host or (client.base_url.port or 1) > _LAST_PORT:
            raise httpx2.InvalidURL("no host, or no such port")
    except httpx2.InvalidURL as error:
        raise NoAnswer(f"{url} is no address: name one such as http://localhost:8000") from error
    async with client:
        yield client


async def _patiently(client: httpx2.AsyncClient, method: str, path: str, **request: Any) -> httpx2.Response:  # noqa: ANN401
    """The answer, asked for again as long as the service names a time to come back. Raises Unread, NoAnswer."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            response = await client.request(method, path, **request)
        except (httpx2.ConnectError, httpx2.UnsupportedProtocol) as error:
            raise _nobody(str(client.base_url)) from error
        except httpx2.HTTPError as error:
            detail = "The service did not answer in time, or broke off: look at its log."
            raise Unread({"code": "no_answer", "detail": detail}) from error
        wait = response.headers.get("Retry-After", "")
        if response.status_code not in _BUSY or not wait.isdecimal() or time.monotonic() + int(wait) > until:
            return response
        await asyncio.sleep(int(wait))


def _json(response: httpx2.Response, url: str) -> Json:
    try:
        answer = response.json()
    except ValueError as error:
        raise _foreign(url, response) from error
    if not isinstance(answer, dict):
        raise _foreign(url, response)
    return answer


def _nobody(url: str) -> NoAnswer:
    return NoAnswer(f"nothing answers at {url}: start the service there (digits serve), or name another address")


def _foreign(url: str, response: httpx2.Response) -> NoAnswer:
    return NoAnswer(f"{url} answers {response.status_code}, and not as this service does: name another address")
