"""An answer that does not wait for the request's body reaches the client: over a real connection, then the bounds."""

import asyncio
import http.client
from contextlib import closing

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api import draining
from app.api.draining import DrainBody
from tests.asking import WAIT_S

MORE_THAN_SOCKETS_HOLD = 12_000_000


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/predict", {}, 413),
        ("POST", "/v1/models/digits:predict", {}, 413),
        ("POST", "/predict?top_k=99", {}, 422),
        ("POST", "/predict", {"Content-Encoding": "gzip"}, 415),
        ("POST", "/nowhere", {}, 404),
        ("PUT", "/predict", {}, 405),
    ],
)
def test_an_early_error_reaches_a_client_that_wants_the_connection_closed(
    url: str, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    for _ in range(5):
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=WAIT_S)) as connection:
            connection.request(method, path, bytes(MORE_THAN_SOCKETS_HOLD), {"Connection": "close"} | headers)
            answer = connection.getresponse()

            assert (answer.status, answer.read()[-1:]) == (status, b"}")


async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("chunk", "waits_s"), [(b"1234", 0), (b"", 0.001), (b"", WAIT_S)], ids=["endless", "slow", "silent"]
)
async def test_the_rest_of_a_body_is_read_within_bounds(
    monkeypatch: pytest.MonkeyPatch, chunk: bytes, waits_s: float
) -> None:
    monkeypatch.setattr(draining, "_MAX_S", 0.1)
    monkeypatch.setattr(draining, "_MAX_SILENCE_S", 0.05)
    happened: list[object] = []

    async def receive() -> Message:
        await asyncio.sleep(waits_s)
        happened.append(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Message) -> None:
        happened.append(message)

    request = {"type": "http", "http_version": "1.1", "headers": [(b"connection", b"close")]}
    await asyncio.wait_for(DrainBody(refuse, max_bytes=10)(request, receive, send), WAIT_S / 2)

    assert happened[1] == {"type": "http.response.body", "body": b"no", "more_body": True}  # at once
    assert happened[-1] == {"type": "http.response.body"}
    assert len(happened) < 3 + 0.1 / 0.001
    assert happened.count(b"1234") <= 4
