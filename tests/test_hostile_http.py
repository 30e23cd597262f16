"""HTTP that no client should send, over raw sockets to a running service: a clear error or a closed connection."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.dialects import SEVEN
from tests.server import Process, running

TIMEOUT_MS = 1000
WAIT_S = 30  # for what takes seconds unless something is broken
MAX_BODY_BYTES = 200_000
POST = b"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Type: image/png\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: digits\r\n"
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(SEVEN) + SEVEN
LAST = WHOLE.replace(b"Host", b"Connection: close\r\nHost")
CHUNKED = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    head = [b"POST %b HTTP/1.1" % path.encode(), b"Host: digits", b"Connection: close"]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), *headers, b"", body])


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: digits\r\nConnection: close\r\n\r\n".encode()


INVALID = {  # uvicorn answers 400 in plain text
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "NUL in a header": GET + b"A: \0\r\n\r\n",
    "two Content-Lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
}
REFUSED = {  # the app answers with an error of its own
    "a body shorter than its Content-Length": (POST + b"Content-Length: 9999\r\n\r\n" + SEVEN, 400),
    "a chunk that does not come": (CHUNKED + b"5\r\nabc", 400),
    "chunks without end": (CHUNKED + (b"fff\r\n" + b"a" * 0xFFF + b"\r\n") * 61, 413),
    "100,000 names for TensorFlow Serving": (
        post("/v1/models/digits:predict", b"{" + b'"a":1,' * 30_000 + b'"instances": [NaN]}'),
        400,
    ),
    "a JSON header longer than the body": (
        post("/v2/models/digits/infer", b"{}", b"Inference-Header-Content-Length: 3"),
        400,
    ),
    "a path upwards": (get("/playground/../../app/main.py"), 404),
    "an encoded path upwards": (get("/playground/%2e%2e%2fschemas.py"), 404),
    "a path with NUL": (get("/playground/main.js%00.css"), 404),
    "a path of another host": (get("//example.com/healthz"), 404),
}
ANSWERED = {
    "200 at once": (WHOLE * 199 + LAST, 200),
    "one byte a chunk": (CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in SEVEN) + b"0\r\n\r\n", 1),
    "Expect: 100-continue": (LAST.replace(b"Host", b"Expect: 100-continue\r\nHost"), 1),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with running(engine="litert", request_timeout_ms=TIMEOUT_MS, max_body_bytes=MAX_BODY_BYTES) as process:
        yield process


@pytest.fixture(scope="module")
def address(server: Process) -> tuple[str, int]:
    host, _, port = server.ready().removeprefix("http://").partition(":")
    return host, int(port)


@pytest.fixture(scope="module")
def answers(address: tuple[str, int]) -> dict[str, bytes]:
    """What came back for each of the above, all sent at once on connections of their own."""
    sent = INVALID | {name: data for name, (data, _) in (REFUSED | ANSWERED).items()}
    with ThreadPoolExecutor(len(sent)) as callers:
        return dict(zip(sent, callers.map(lambda data: send(address, data), sent.values()), strict=True))


def send(address: tuple[str, int], data: bytes) -> bytes:
    """What comes back until the connection is closed."""
    back = b""
    with socket.create_connection(address, timeout=WAIT_S) as connection:
        try:
            connection.sendall(data)
            while more := connection.recv(2**16):
                back += more
        except (BrokenPipeError, ConnectionResetError):
            pass
    return back


def statuses(data: bytes) -> list[int]:
    """Of the answers in what came back, without those that only ask to continue."""
    starts = data.replace(b"}HTTP/1.1 ", b"}\nHTTP/1.1 ").split(b"\n")
    found = [int(line[9:12]) for line in starts if line.startswith(b"HTTP/1.1 ")]
    return [status for status in found if status != 100]


@pytest.mark.parametrize("name", INVALID)
def test_invalid_http_is_400_and_the_connection_is_closed(answers: dict[str, bytes], name: str) -> None:
    assert statuses(answers[name])[-1:] == [400]
    assert b"Traceback" not in answers[name]


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_request_gets_the_error_of_its_dialect(answers: dict[str, bytes], name: str) -> None:
    data = answers[name]
    _, _, body = data.rpartition(b"\r\n\r\n")

    assert statuses(data) == [REFUSED[name][1]], data
    assert b"application/problem+json" in data or list(json.loads(body)) == ["error"]
    assert b"x-request-id: " in data
    assert b"Traceback" not in data
    assert b"aaaaa" not in data


@pytest.mark.parametrize("name", ANSWERED)
def test_an_unusual_request_is_answered(answers: dict[str, bytes], name: str) -> None:
    data = answers[name]

    assert statuses(data) == [200] * ANSWERED[name][1], data[:2000]
    assert data.count(b'"digit":7,"confidence"') == ANSWERED[name][1]


def test_large_bodies_that_stand_still_keep_no_small_one_out(address: tuple[str, int]) -> None:
    """They take no more memory than 32 of the largest size. When they have gone, there is room again."""
    large = POST + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES + bytes(MAX_BODY_BYTES - 1)
    with ExitStack() as stack, httpx2.Client(base_url="http://{}:{}".format(*address), timeout=WAIT_S) as client:

        def stand_still() -> None:
            stack.enter_context(socket.create_connection(address, timeout=WAIT_S)).sendall(large)

        for _ in range(32):
            stand_still()
        until = time.monotonic() + WAIT_S
        while (status := client.post("/predict", content=SEVEN + bytes(150_000)).status_code) != 503:
            assert time.monotonic() < until, status
            stand_still()  # one of them was refused instead, if its last bytes came later
        refused = client.post("/predict", content=SEVEN + bytes(150_000))
        small = client.post("/predict", content=SEVEN)

    with httpx2.Client(base_url="http://{}:{}".format(*address), timeout=WAIT_S) as client:
        until = time.monotonic() + WAIT_S
        while (later := client.post("/predict", content=SEVEN + bytes(150_000))).status_code == 503:
            assert time.monotonic() < until
    assert (refused.status_code, refused.json()["code"], small.status_code) == (503, "overloaded", 200)
    assert later.status_code == 200


@pytest.mark.usefixtures("answers")
def test_all_of_it_takes_little_memory(server: Process) -> None:
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")

    assert int(status.split("VmHWM:")[1].split()[0]) / 1024 < 300  # 120 at rest
