"""HTTP as no client should speak it, over raw sockets to a running service: a clear error or a closed connection."""

import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.drawings import digit_drawn, encoded
from tests.server import Process

TIMEOUT_MS = 1000
WAIT_S = 30  # for what comes within seconds unless something is broken
MAX_BODY_BYTES = 200_000

# The service itself, which ends idle connections after 5 s instead of 75.
_IMPATIENT = "import app.server as server; from app.process import main; server._KEEP_ALIVE_S = 5; main()"
SEVEN = encoded(digit_drawn(7))
POST = b"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Type: image/png\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: digits\r\n"
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(SEVEN) + SEVEN
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    head = [b"POST %b HTTP/1.1" % path.encode(), b"Host: digits", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*head, b"", body])


def form(count: int) -> bytes:
    field = b"--b\r\nA: b\r\n\r\n\r\n"  # short, for all of them to be less than the largest body
    return post("/predict", field * count + b"--b--\r\n", b"Content-Type: multipart/form-data; boundary=b")


REFUSED: dict[str, tuple[bytes, int]] = {
    "a header of 70 kB": (POST + b"A: " + b"a" * 70_000 + b"\r\n\r\n", 400),
    "20,000 headers": (POST + b"A: b\r\n" * 20_000 + b"\r\n", 400),
    "an address of 70 kB": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: digits\r\n\r\n", 400),
    "a header cut": (b"POST /pre", 400),
    "a header without its end": (POST, 400),
    "no header but TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/3.0": (b"GET / HTTP/3.0\r\n\r\n", 400),
    "lines ended by LF alone": (GET.replace(b"\r", b"") + b"\n", 400),
    "a header folded": (GET + b"A: b\r\n c\r\n\r\n", 400),
    "a space before the colon": (GET + b"A : b\r\n\r\n", 400),
    "NUL in a header": (GET + b"A: \0\r\n\r\n", 400),
    "a proxy's method": (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 400),
    "bytes beyond ASCII in the address": (b"GET /\xff\xfe HTTP/1.1\r\nHost: digits\r\n\r\n", 400),
    "both Content-Length and Transfer-Encoding": (
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        400,
    ),
    "both, the other way round": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        400,
    ),
    "two Content-Lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
    "a negative Content-Length": (POST + b"Content-Length: -5\r\n\r\n", 400),
    "a Content-Length with a sign": (POST + b"Content-Length: +5\r\n\r\nabcde", 400),
    "a Content-Length beyond 64 bits": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "a Content-Length too large": (POST + b"Content-Length: 99999999\r\n\r\n", 413),
    "a body shorter than its Content-Length": (POST + b"Content-Length: 9999\r\n\r\n" + SEVEN, 400),
    "a body longer than its Content-Length": (POST + b"Content-Length: 0\r\n\r\n" + SEVEN, 400),
    "a chunk of no size": (CHUNKED + b"zz\r\nabcde\r\n", 400),
    "a chunk of a size beyond 64 bits": (CHUNKED + b"fffffffffffffffff\r\nabcde", 400),
    "a chunk of a negative size": (CHUNKED + b"-1\r\nabcde\r\n", 400),
    "a chunk longer than its size": (CHUNKED + b"3\r\nabcde\r\n0\r\n\r\n", 400),
    "a chunk that does not come": (CHUNKED + b"5\r\nabc", 400),
    "a last chunk that does not come": (CHUNKED + b"3\r\nabc\r\n", 400),
    "chunks that are not the last coding": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "chunks without end": (
        CHUNKED + b"fff\r\n" * 1 + b"a" * 0xFFF + b"\r\n" + (b"fff\r\n" + b"a" * 0xFFF + b"\r\n") * 60,
        413,
    ),
    "a body compressed": (post("/predict", b"\x1f\x8b\x08" + bytes(20), b"Content-Encoding: gzip"), 415),
    "10,000 form fields": (form(10_000), 400),
    "a form without a boundary": (post("/predict", SEVEN, b"Content-Type: multipart/form-data"), 400),
    "a boundary of 60 kB": (
        post("/predict", SEVEN, b"Content-Type: multipart/form-data; boundary=" + b"b" * 60_000),
        400,
    ),
    "JSON 100,000 deep": (post("/predict", b"[" * 100_000, b"Content-Type: application/json"), 400),
    "a picture said to be JSON": (post("/predict", SEVEN, b"Content-Type: application/json"), 400),
    "JSON said to be a picture": (post("/predict", b'{"image": ""}', b"Content-Type: image/png"), 415),
    "JSON 100,000 deep for TensorFlow Serving": (
        post("/v1/models/digits:predict", b'{"instances": ' + b"[" * 100_000),
        400,
    ),
    "100,000 names for TensorFlow Serving": (
        post("/v1/models/digits:predict", b"{" + b'"a":1,' * 30_000 + b'"instances": [NaN]}'),
        400,
    ),
    "NaN for TensorFlow Serving": (
        post("/v1/models/digits:predict", json.dumps({"instances": [[[float("nan")] * 28] * 28]}).encode()),
        400,
    ),
    "Infinity for Open Inference": (
        post(
            "/v2/models/digits/infer",
            b'{"inputs": [{"name": "images", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [Infinity'
            + b", 0" * 783
            + b"]}]}",
        ),
        400,
    ),
    "a header of JSON longer than its body": (
        post("/v2/models/digits/infer", b"{}", b"Inference-Header-Content-Length: 3"),
        400,
    ),
    "a path upwards": (b"GET /playground/../../app/main.py HTTP/1.1\r\nHost: digits\r\n\r\n", 404),
    "a path upwards, encoded": (b"GET /playground/%2e%2e%2fschemas.py HTTP/1.1\r\nHost: digits\r\n\r\n", 404),
    "a path with NUL": (b"GET /playground/main.js%00.css HTTP/1.1\r\nHost: digits\r\n\r\n", 404),
    "a path of another host": (b"GET //example.com/healthz HTTP/1.1\r\nHost: digits\r\n\r\n", 404),
    "everything": (b"OPTIONS * HTTP/1.1\r\nHost: digits\r\n\r\n", 404),
}
CLOSED = {  # without an answer, or with one that the reset of the connection overtakes: what comes does not end
    "nothing": b"",
    "an empty line": b"\r\n",
    "an answer and an empty line": WHOLE + b"\r\n",
    "an answer and a header cut": WHOLE + b"GET /",
    "a header of 2 MB": POST + b"A: " + b"a" * 2_000_000,
    "an address of 2 MB": b"GET /" + b"a" * 2_000_000,
    "trailers of 2 MB": CHUNKED + b"0\r\n" + b"A: b\r\n" * 350_000,
    "one trailer of 2 MB": CHUNKED + b"0\r\nA: " + b"a" * 2_000_000,
    "a chunk's extension of 2 MB": CHUNKED + b"5;" + b"a" * 2_000_000,
}
ANSWERED = {
    "one request": (WHOLE, 1),
    "three at once": (WHOLE * 3, 3),
    "200 at once": (WHOLE * 200, 200),
    "one byte a chunk": (CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in SEVEN) + b"0\r\n\r\n", 1),
    "one asked to wait for 100": (POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SEVEN) + SEVEN, 1),
    "one that would rather speak HTTP/2": (WHOLE.replace(b"Host", UPGRADE + b"Host"), 1),
    "three that would": (WHOLE.replace(b"Host", UPGRADE + b"Host") * 3, 3),
    "a chunked one that would": (
        CHUNKED.replace(b"Host", UPGRADE + b"Host") + b"%x\r\n" % len(SEVEN) + SEVEN + b"\r\n0\r\n\r\n",
        1,
    ),
    "one that would, then one that would not": (WHOLE.replace(b"Host", UPGRADE + b"Host") + WHOLE, 2),
    "a header of 60 kB": (POST + b"A: " + b"a" * 60_000 + WHOLE.removeprefix(POST).join([b"\r\n", b""]), 1),
}


@dataclass
class Heard:
    """What came back until the connection was closed; ``took_s``: how long that took."""

    data: bytes
    took_s: float


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    process = Process(
        "-c", _IMPATIENT, port=0, engine="litert", request_timeout_ms=TIMEOUT_MS, max_body_bytes=MAX_BODY_BYTES
    )
    try:
        yield process
    finally:
        process.end()


@pytest.fixture(scope="module")
def address(server: Process) -> tuple[str, int]:
    host, _, port = server.url().removeprefix("http://").partition(":")
    server.line_with('"ready"')
    return host, int(port)


@pytest.fixture(scope="module")
def heard(address: tuple[str, int]) -> dict[str, Heard]:
    """Each of the above said on a connection of its own, all at once, which is then listened to until it ends."""
    said = {name: data for name, (data, _) in (REFUSED | ANSWERED).items()} | CLOSED
    with ThreadPoolExecutor(len(said)) as speakers:
        return dict(zip(said, speakers.map(lambda data: say(address, data), said.values()), strict=True))


def say(address: tuple[str, int], data: bytes) -> Heard:
    started = time.monotonic()
    back = b""
    with socket.create_connection(address, timeout=WAIT_S) as connection:
        try:
            connection.sendall(data)
            while more := connection.recv(2**16):
                back += more
        except (BrokenPipeError, ConnectionResetError):
            pass
    return Heard(back, time.monotonic() - started)


def statuses(data: bytes) -> list[int]:
    """Of the answers in what came back, those that only say to go on left out."""
    lines = [line for line in data.split(b"\n") if line.startswith(b"HTTP/1.1 ") or b"}HTTP/1.1 " in line]
    found = [int(line[line.index(b"HTTP/1.1 ") + 9 :][:3]) for line in lines]
    return [status for status in found if status != 100]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_as_what_it_is(heard: dict[str, Heard], name: str) -> None:
    data = heard[name].data
    _, _, body = data.rpartition(b"\r\n\r\n")

    assert statuses(data)[-1:] == [REFUSED[name][1]], data
    assert b"application/problem+json" in data or list(json.loads(body)) == ["error"]
    assert b"x-request-id: " in data
    assert b"Traceback" not in data
    assert b"aaaaa" not in data


@pytest.mark.parametrize("name", CLOSED)
def test_what_asks_nothing_or_does_not_end_is_cut_off(heard: dict[str, Heard], name: str) -> None:
    assert heard[name].took_s < WAIT_S
    assert set(statuses(heard[name].data)) <= {200, 400}


@pytest.mark.parametrize("name", ANSWERED)
def test_what_is_only_unusual_is_answered(heard: dict[str, Heard], name: str) -> None:
    data = heard[name].data

    assert statuses(data) == [200] * ANSWERED[name][1], data[:2000]
    assert data.count(b'"digit":7,"confidence"') == ANSWERED[name][1]


def test_requests_before_what_is_none_are_answered_first(address: tuple[str, int]) -> None:
    slow = WHOLE.replace(b"/predict", b"/predict?explain=true", 1)

    assert statuses(say(address, slow + WHOLE + b"NONE\r\n\r\n").data) == [200, 200, 400]


def test_what_is_no_request_is_counted_as_one(address: tuple[str, int]) -> None:
    def counted() -> float:
        text = httpx2.get(f"http://{address[0]}:{address[1]}/metrics").text
        found = re.search(r'digits_http_requests_total\{method="other",route="none",status="400"\} (\S+)', text)
        return float(found[1]) if found else 0

    before = counted()
    say(address, b"NONE\r\n\r\n")

    assert counted() == before + 1


@pytest.mark.usefixtures("heard")
def test_all_of_it_takes_little_memory(server: Process) -> None:
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")

    assert int(status.split("VmHWM:")[1].split()[0]) / 1024 < 300  # 120 at rest


def drips(connection: socket.socket, data: bytes) -> bool:
    """Whether the connection ends while ``data`` is sent again and again."""
    try:
        for _ in range(WAIT_S * 20):
            connection.sendall(data)
            time.sleep(0.05)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def test_a_body_that_drips_on_after_its_refusal_is_cut_off(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=WAIT_S) as connection:
        connection.sendall(POST + b"Content-Length: 99999999\r\n\r\n")

        assert statuses(connection.recv(2**16)) == [413]
        assert drips(connection, b"x")


def test_a_header_that_drips_is_cut_off(address: tuple[str, int]) -> None:
    started = time.monotonic()
    with socket.create_connection(address, timeout=WAIT_S) as connection:
        connection.sendall(POST)

        assert drips(connection, b"A: b\r\n")
    assert time.monotonic() - started > TIMEOUT_MS / 1000


def test_who_does_not_read_is_cut_off(address: tuple[str, int]) -> None:
    """Of 1,000 documents, some are on their way and the others are not even made."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: digits\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(WAIT_S)
        connection.connect(address)
        connection.sendall(request * 1000)
        time.sleep(4 * TIMEOUT_MS / 1000)
        back = b""
        try:
            while more := connection.recv(2**20):
                back += more
        except ConnectionResetError:
            pass
    assert 0 < len(statuses(back)) < 1000


def test_many_large_bodies_that_stand_still_keep_small_ones_from_nothing(address: tuple[str, int]) -> None:
    """And take no more memory than 32 of the largest; once they have gone, there is room again."""
    large = POST + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES + bytes(MAX_BODY_BYTES - 1)
    with ExitStack() as stack, httpx2.Client(base_url="http://{}:{}".format(*address), timeout=WAIT_S) as client:

        def stand() -> None:
            stack.enter_context(socket.create_connection(address, timeout=WAIT_S)).sendall(large)

        for _ in range(32):
            stand()
        until = time.monotonic() + WAIT_S
        while (status := client.post("/predict", content=SEVEN + bytes(150_000)).status_code) != 503:
            assert time.monotonic() < until, status
            stand()  # the other one was refused, if its last bytes came later than this one's
        refused = client.post("/predict", content=SEVEN + bytes(150_000))
        small = client.post("/predict", content=SEVEN)

    with httpx2.Client(base_url="http://{}:{}".format(*address), timeout=WAIT_S) as client:
        until = time.monotonic() + WAIT_S
        while (later := client.post("/predict", content=SEVEN + bytes(150_000))).status_code == 503:
            assert time.monotonic() < until
    assert (refused.status_code, refused.json()["code"], small.status_code) == (503, "overloaded", 200)
    assert int(refused.headers["retry-after"]) >= 1
    assert later.status_code == 200
