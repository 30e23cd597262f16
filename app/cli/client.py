"""Answers for the command line: from a running service, or from the model loaded here. Does no file or terminal I/O."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import cycle
from typing import Any, NamedTuple

import httpx2

from app.api.predictions import as_json, numbers_as_json
from app.api.read_schemas import ReadParameters
from app.api.schemas import PredictQuery
from app.errors import DigitsError
from app.imaging.codecs import configure_codecs
from app.inference.service import Service
from app.model.engine import ENGINES
from app.settings import Settings

CONCURRENCY = 16  # pictures in flight

_LIBRARIES = {"litert": "ai_edge_litert", "keras": "tensorflow"}  # engine -> its library; the faster to start first
_TIMEOUT_S = 30.0  # three times the service's own
_MAX_RETRY_S = 60.0
_RETRIED = {429, 503}
_LAST_PORT = 65535

Json = dict[str, Any]
Ask = Callable[[bytes], Awaitable[Json]]  # encoded image -> answer. Raises PredictionError, ServiceUnavailable


class Question(NamedTuple):
    """What to ask about each picture: of a service here, or by HTTP with ``sent``. ``key``: one of the answer's."""

    ask: Callable[[Service, bytes], Awaitable[Json]]
    path: str
    sent: Json
    key: str


def digit_question(query: PredictQuery) -> Question:
    async def ask(service: Service, data: bytes) -> Json:
        result = await service.predict(data, query.preprocess, explain=query.explain)
        return as_json(result, query.top_k, query.accept_risk)

    return Question(ask, "/predict", {"params": query.model_dump(exclude_none=True)}, "digit")


def numbers_question(asked: ReadParameters) -> Question:
    async def ask(service: Service, data: bytes) -> Json:
        return numbers_as_json(await service.read_numbers(data, asked.wanted, asked.form), asked)

    given = asked.model_dump(exclude_defaults=True).items()
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given}
    return Question(ask, "/read", {"data": form}, "numbers")


class PredictionError(Exception):
    """One picture could not be read. ``problem``: a problem document, or its `code` and `detail`."""

    def __init__(self, problem: Json) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


class ServiceUnavailable(Exception):
    """No picture can be read there: one line with what to do about it."""


@asynccontextmanager
async def local(question: Question) -> AsyncIterator[Ask]:
    """The model in this process, on the engine of `DIGITS_ENGINE` or else one that is installed.

    Raises ModelError, and pydantic's ValidationError for an invalid setting.
    """
    settings = Settings()
    configure_codecs(settings.max_pixels)
    engine = ENGINES[_engine(settings)].load(settings.model_dir)
    service = Service(settings)
    service.start(engine)

    async def ask(data: bytes) -> Json:
        try:
            return await question.ask(service, data)
        except DigitsError as error:
            raise PredictionError({"code": error.code, "detail": str(error)}) from error

    try:
        yield ask
    finally:
        service.close()


def _engine(settings: Settings) -> str:
    installed = (engine for engine, library in _LIBRARIES.items() if find_spec(library))
    return settings.engine if "engine" in settings.model_fields_set else next(installed, settings.engine)


@asynccontextmanager
async def remote(url: str, question: Question) -> AsyncIterator[Ask]:
    """The service at ``url``. Honours Retry-After for up to a minute."""
    async with _client(url, CONCURRENCY) as client:

        async def ask(data: bytes) -> Json:
            request = client.build_request("POST", question.path, files={"file": ("picture", data)}, **question.sent)
            return await _answer(client, request, question.key)

        yield ask


async def model_of(url: str) -> Json:
    """The manifest of the model at the service ``url``. Raises ServiceUnavailable."""
    async with _client(url, 1) as client:
        try:
            return await _answer(client, client.build_request("GET", "/model"), "thresholds")
        except PredictionError as error:
            raise ServiceUnavailable(f"{url}: {error}") from error


@dataclass
class LoadResult:
    """``times_ms``: latency of each prediction. ``errors``: how many of each code.

    ``client``: CPU time that this process used, as a share of one core.
    """

    times_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0
    client: float = 0


async def load(url: str, pictures: Sequence[bytes], connections: int, seconds: float) -> LoadResult:
    """Send the pictures in turn, over ``connections`` at once, without retries. Raises ServiceUnavailable.

    The first request of each connection is not counted.
    """
    result = LoadResult()
    turns = cycle(pictures)
    async with _client(url, connections) as client:

        async def ask() -> str | None:
            """The code of the error, None for a prediction."""
            try:
                await _answer(client, client.build_request("POST", "/predict", content=next(turns)), "digit", retry_s=0)
            except PredictionError as error:
                return str(error.problem["code"])
            return None

        async def connection(until: float) -> None:
            while (sent := time.perf_counter()) < until:
                if code := await ask():
                    result.errors[code] += 1
                else:
                    result.times_ms.append((time.perf_counter() - sent) * 1000)

        await asyncio.gather(*(ask() for _ in range(connections)))
        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(connection(started + seconds) for _ in range(connections)))
        result.seconds = time.perf_counter() - started
        result.client = (time.process_time() - used) / result.seconds
    return result


@asynccontextmanager
async def _client(url: str, connections: int) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {}
    if key := os.environ.get("DIGITS_API_KEY", "").strip():  # no option: other users can read a command line
        if not (key.isascii() and key.isprintable()):
            raise ServiceUnavailable("DIGITS_API_KEY must be one line of printable ASCII")
        headers["X-API-Key"] = key
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    try:
        client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT_S, limits=limits)
        if not client.base_url.host or (client.base_url.port or 1) > _LAST_PORT:
            raise httpx2.InvalidURL("no host, or no such port")
    except httpx2.InvalidURL as error:
        raise ServiceUnavailable(f"{url} is not a valid URL: use one such as http://localhost:8000") from error
    async with client:
        yield client


async def _answer(client: httpx2.AsyncClient, request: httpx2.Request, key: str, retry_s: float = _MAX_RETRY_S) -> Json:
    """The JSON object with ``key`` that answers the request, repeated for ``retry_s`` as Retry-After asks.

    Raises PredictionError for a problem document or no answer, ServiceUnavailable if nothing or another server answers.
    """
    url, until = client.base_url, time.monotonic() + retry_s
    while True:
        try:
            response = await client.send(request)
        except (httpx2.ConnectError, httpx2.UnsupportedProtocol) as error:
            raise ServiceUnavailable(
                f"nothing is listening at {url}: start the service (digits serve) or check the URL"
            ) from error
        except httpx2.HTTPError as error:
            detail = "The service did not answer in time, or closed the connection: look at its log."
            raise PredictionError({"code": "no_answer", "detail": detail}) from error
        wait = response.headers.get("Retry-After", "")
        if response.status_code not in _RETRIED or not wait.isdecimal() or time.monotonic() + int(wait) > until:
            break
        await asyncio.sleep(int(wait))
    try:
        answer = response.json()
    except ValueError:
        answer = None
    expected = {key} if response.is_success else {"code", "detail"}
    if not isinstance(answer, dict) or not expected <= answer.keys():
        raise ServiceUnavailable(f"{url} answers {response.status_code}, but is not this service: check the URL")
    if not response.is_success:
        raise PredictionError(answer)
    return answer
