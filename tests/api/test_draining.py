"""An answer that does not wait for the request's body reaches the client: over a real connection, then the bounds."""

import asyncio
import http.client
import socket
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
@pytest.mark.parametrize("wanted", ["close", "keep-alive"])
def test_an_early_error_reaches_the_client_and_closes_the_connection(
    url: str, method: str, path: str, headers: dict[str, str], status: int, wanted: str
) -> None:
    for _ in range(3):
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=WAIT_S)) as connection:
            connection.request(method, path, bytes(MORE_THAN_SOCKETS_HOLD), {"Connection": wanted} | headers)
            answer = connection.getresponse()

            assert (answer.status, answer.getheader("connection"), answer.read()[-1:]) == (status, "close", b"}")


def test_the_connection_stays_open_after_an_error_before_a_small_body_has_arrived(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), WAIT_S) as connection:
        for _ in range(3):
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: digits\r\nContent-Length: 5\r\n\r\n")
            answer = http.client.HTTPResponse(connection)
            answer.begin()

            assert (answer.status, answer.getheader("connection"), answer.read()[-1:]) == (404, None, b"}")
            connection.sendall(b"small")


async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


CHUNKED, EXPECTING = (b"transfer-encoding", b"chunked"), (b"expect", b"100-continue")


@pytest.mark.parametrize(
    ("chunk", "waits_s", "header", "silence_s"),
    [
        (b"1234", 0, CHUNKED, 0.05),
        (b"", 0.001, CHUNKED, 0.05),
        (b"", WAIT_S, CHUNKED, 0.05),
        (b"", WAIT_S, EXPECTING, WAIT_S),
        (b"", WAIT_S, CHUNKED, WAIT_S),
    ],
    ids=["endless", "slow", "silent", "expecting to be asked", "until the server stops"],
)
async def test_the_rest_of_a_body_is_read_within_bounds(
    monkeypatch: pytest.MonkeyPatch, chunk: bytes, waits_s: float, header: tuple[bytes, bytes], silence_s: float
) -> None:
    monkeypatch.setattr(draining, "_MAX_S", 0.1)
    monkeypatch.setattr(draining, "_MAX_SILENCE_S", silence_s)
    monkeypatch.setattr(draining, "_MAX_EXPECTING_S", 0.05)
    happened: list[object] = []

    async def receive() -> Message:
        await asyncio.sleep(waits_s)
        happened.append(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Message) -> None:
        happened.append(message)

    request = {"type": "http", "http_version": "1.1", "headers": [(b"content-length", b"9999"), header]}
    task = asyncio.create_task(DrainBody(refuse, max_bytes=10)(request, receive, send))
    if silence_s == WAIT_S and header == CHUNKED:
        await asyncio.sleep(0.01)
        task.cancel()
    await asyncio.wait_for(task, WAIT_S / 2)

    assert happened[0] == {"type": "http.response.start", "status": 413, "headers": [(b"connection", b"close")]}
    assert happened[1] == {"type": "http.response.body", "body": b"no", "more_body": True}  # at once
    assert happened[-1] == {"type": "http.response.body"}
    assert len(happened) < 3 + 0.1 / 0.001
    assert happened.count(b"1234") <= 4
