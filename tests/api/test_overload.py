"""Who comes in when there is too much: the gate, refusals without parsing, and a real service under far too much."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from app.api.overload import Gate, refusal, whole_post
from app.errors import Overloaded
from tests.drawings import digit_drawn, encoded
from tests.server import Process

SEVEN = encoded(digit_drawn(7))
WAIT_S = 20
HEAD = b"POST /predict HTTP/1.1\r\nHost: digits\r\n"


@pytest.fixture
def gate() -> Gate:
    """Eight may always be inside."""
    return Gate(max_delay_s=0.05, least=8, most=20)


def enter(gate: Gate, requests: int) -> None:
    for _ in range(requests):
        assert not gate.is_full()
        gate.enter()


def test_a_burst_comes_in_up_to_its_bound(gate: Gate) -> None:
    enter(gate, 20)

    assert gate.is_full()


def test_what_stands_in_line_for_good_is_no_burst(gate: Gate) -> None:
    enter(gate, 10)
    time.sleep(0.3)  # longer than a burst takes

    assert gate.is_full()


def test_crowds_that_follow_one_another_stand_in_line_too() -> None:
    """As they come from an event loop that answers all it has read before it reads on."""
    gate = Gate(max_delay_s=0.01, least=8, most=20)
    allowed = []
    for _ in range(8):
        came = 0
        while came < 12 and not gate.is_full():
            gate.enter()
            came += 1
        for _ in range(came):
            gate.leave()
        allowed.append(came)
        time.sleep(0.05)

    assert allowed[:3] == [12] * 3
    assert allowed[-1] == 8


def test_crowds_with_time_between_them_are_bursts(gate: Gate) -> None:
    for _ in range(3):
        enter(gate, 12)
        for _ in range(12):
            gate.leave()
        time.sleep(0.3)


def test_after_a_refusal_nobody_comes_in_before_far_fewer_are_inside_than_may_be_otherwise(gate: Gate) -> None:
    enter(gate, 20)
    gate.refuse()

    for _ in range(18):
        gate.leave()
        assert gate.is_full()
    gate.leave()
    assert not gate.is_full()
    enter(gate, 1)
    assert gate.is_full()  # there are two again: a quarter of eight


def refuse_for_half_a_second(gate: Gate, callers: int) -> None:
    """All of these, again and again, though they were told to wait."""
    end = time.monotonic() + 0.6
    while time.monotonic() < end and gate.is_full():
        for caller in range(callers):
            gate.refuse(caller)
        time.sleep(0.05)


@pytest.mark.parametrize(("callers", "full"), [(5, False), (6, True)])
def test_the_overload_is_over_when_all_who_are_refused_could_be_inside(gate: Gate, callers: int, full: bool) -> None:
    enter(gate, 20)
    gate.refuse(0)
    for _ in range(17):
        gate.leave()

    refuse_for_half_a_second(gate, callers)

    assert gate.is_full() is full  # three are inside, and eight may be


def test_a_burst_of_what_takes_long_to_decode_is_smaller(gate: Gate) -> None:
    enter(gate, 7)
    assert not gate.is_full(line_s=10)  # they are few

    enter(gate, 1)
    assert not gate.is_full(line_s=0.3)
    assert gate.is_full(line_s=0.4)


def test_when_the_overload_is_over_a_burst_comes_in_again(gate: Gate) -> None:
    enter(gate, 20)
    gate.refuse()
    for _ in range(20):
        gate.leave()
    time.sleep(0.6)  # without a refusal

    enter(gate, 20)


def test_as_many_are_inside_as_are_answered_within_the_delay() -> None:
    gate = Gate(max_delay_s=10, least=8, most=20)
    for _ in range(4):  # ten a second or so: all that may be are answered within ten seconds
        gate.enter()
        time.sleep(0.1)
        gate.leave()
    enter(gate, 19)
    time.sleep(0.3)

    assert not gate.is_full()


def test_a_refusal_says_when_those_inside_will_have_been_answered() -> None:
    gate = Gate(max_delay_s=10, least=8, most=100)
    for _ in range(4):  # ten a second
        gate.enter()
        time.sleep(0.1)
        gate.leave()
    enter(gate, 35)

    assert gate.refuse().retry_after_s == pytest.approx(4, abs=2)


def request(*headers: bytes, body: bytes = b"1234", start: bytes = HEAD) -> bytes:
    return start + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


@pytest.mark.parametrize(
    "data",
    [
        request(b"Content-Length: 4"),
        request(b"content-length:4", b"Connection: keep-alive"),
        request(b"Content-Length: 0", body=b""),
    ],
)
def test_a_whole_post_is_known_without_parsing(data: bytes) -> None:
    found = whole_post(data)

    assert found is not None
    assert found[0] == "/predict"
    assert len(found[1]) == 16


def test_its_request_id_is_taken_if_it_is_valid() -> None:
    assert whole_post(request(b"Content-Length: 4", b"X-Request-ID: mine")) == ("/predict", "mine")
    other = whole_post(request(b"Content-Length: 4", b"X-Request-ID: not/mine"))
    assert other is not None
    assert other[1] != "not/mine"


@pytest.mark.parametrize(
    "data",
    [
        request(b"Content-Length: 5"),
        request(b"Content-Length: 3"),
        request(b"Content-Length: x"),
        request(b"Content-Length: -4"),
        request(b"Content-Length: 4", b"Content-Length: 4"),
        request(b"Content-Length : 4"),
        request(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        request(b"Content-Length: 4", b"Expect: 100-continue"),
        request(b"Content-Length: 4", b"Connection: close"),
        request(b"Content-Length: 4", b"Connection: keep-alive", b"Connection: close"),
        request(b"Content-Length: 4", b"Upgrade: websocket"),
        request(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        request(body=b""),
        request(b"Content-Length: 4", start=b"GET /predict HTTP/1.1\r\n"),
        request(b"Content-Length: 4", start=b"POST /predict HTTP/1.0\r\n"),
        request(b"Content-Length: 4", start=b"POST http://digits/predict HTTP/1.1\r\n"),
        HEAD,
        b"POST ",
        b"",
    ],
)
def test_whatever_is_unusual_goes_to_the_parser(data: bytes) -> None:
    assert whole_post(data) is None


@pytest.mark.parametrize("path", ["/v1/models/digits:predict", "/v2/models/digits/infer"])
def test_other_dialects_are_refused_in_their_own_words(path: str) -> None:
    media_type, body = refusal(path, "mine", Overloaded())

    assert (media_type, list(json.loads(body))) == ("application/json", ["error"])


@pytest.fixture(scope="module")
def crowded(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, str, Path]]:
    """A service whose engine stands while a file exists, so that two requests fill it; its URL, the file."""
    switch = tmp_path_factory.mktemp("fault") / "switch"
    settings = {"port": 0, "engine": "litert", "model_dir": model_dir, "max_queue": 2}
    process = Process("-m", "tests.faulty", "stands", str(switch), **settings)
    try:
        url = process.url()
        process.line_with('"ready"')
        yield process, url, switch
    finally:
        process.end()


@pytest.fixture
def full(crowded: tuple[Process, str, Path]) -> Iterator[str]:
    """The URL of that service, while it is full."""
    _, url, switch = crowded
    switch.touch()

    def stay() -> None:
        while httpx2.post(f"{url}/predict", content=SEVEN, timeout=WAIT_S).status_code != httpx2.codes.OK:
            time.sleep(0.01)

    inside = [threading.Thread(target=stay) for _ in range(2)]
    for caller in inside:
        caller.start()
    deadline = time.monotonic() + WAIT_S
    while httpx2.post(f"{url}/nowhere", content=b"x").status_code != 503 and time.monotonic() < deadline:
        time.sleep(0.01)
    yield url
    switch.unlink()
    for caller in inside:
        caller.join()


def test_a_full_service_refuses_at_once_says_when_to_come_again_and_goes_on_answering_what_costs_nothing(
    full: str,
) -> None:
    with httpx2.Client(base_url=full, timeout=WAIT_S) as client:
        whole = client.post("/predict", content=SEVEN, headers={"X-Request-ID": "mine"})
        in_pieces = client.post("/predict", content=iter([SEVEN[:100], SEVEN[100:]]))
        client.post("/predict?top_k=1", content=SEVEN)
        again = client.post("/v2/models/digits/infer", content=SEVEN)
        alive = client.get("/healthz")
        after = client.post("/predict", content=SEVEN, headers={"Expect": "100-continue"})
        counted = client.get("/metrics").text

    for answer in (whole, in_pieces):
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert int(answer.headers["retry-after"]) >= 1
    assert whole.headers["x-request-id"] == "mine"
    assert (again.status_code, list(again.json())) == (503, ["error"])
    assert (alive.status_code, after.status_code) == (200, 503)
    count = r'digits_http_requests_total{method="POST",route="(\S+)",status="503"} (\S+)'
    refused = dict(re.findall(count, counted))
    assert float(refused["/predict"]) >= 4
    assert refused.keys() == {"/predict", "/v2/models/digits/infer", "none"}


def test_batches_fill_their_own_line_and_keep_no_single_image_out(crowded: tuple[Process, str, Path]) -> None:
    _, url, switch = crowded
    one = {"files": ("7.png", SEVEN)}
    switch.touch()
    with ThreadPoolExecutor(3) as callers, httpx2.Client(base_url=url, timeout=WAIT_S) as client:
        batches = [callers.submit(client.post, "/predict/batch", files=one)]
        time.sleep(0.3)  # the engine has it
        batches.append(callers.submit(client.post, "/predict/batch", files=one))
        time.sleep(0.3)  # as many as may wait, for this service
        single = callers.submit(client.post, "/predict", content=SEVEN)
        time.sleep(0.3)
        switch.unlink()
        statuses = [caller.result().status_code for caller in [*batches, single]]

    assert statuses == [200] * 3


def test_batches_that_find_no_room_are_refused_before_they_are_parsed_until_one_has_ended(
    crowded: tuple[Process, str, Path],
) -> None:
    _, url, switch = crowded
    two = [("files", ("7.png", SEVEN))] * 2
    switch.touch()
    with ThreadPoolExecutor(1) as callers, httpx2.Client(base_url=url, timeout=WAIT_S) as client:
        inside = callers.submit(client.post, "/predict/batch", files=two)
        time.sleep(0.3)  # the engine has it
        first = client.post("/predict/batch", files=two)
        next_one = client.post("/predict/batch?top_k=0", content=b"no form")  # which the app would tell first
        in_pieces = client.post("/predict/batch?top_k=0", content=iter([b"no ", b"form"]))
        switch.unlink()
        assert inside.result().status_code == 200
        after = client.post("/predict/batch", files=two)

    for answer in (first, next_one, in_pieces):
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
    assert after.status_code == 200


def test_requests_in_pieces_and_behind_one_another_are_answered_each_once_and_in_order(full: str) -> None:
    """A refusal that overlooks where a request begins would let one caller's bytes become another's request."""
    host, port = full.removeprefix("http://").split(":")
    posts = [request(b"Content-Length: 4", b"X-Request-ID: %d" % number) for number in range(3)]
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\nX-Request-ID: a\r\nX-Note: ")  # in the middle of a header
        time.sleep(0.1)
        caller.sendall(posts[0])
        time.sleep(0.1)
        caller.sendall(posts[1] + posts[2])
        time.sleep(0.1)
        caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: digits\r\nX-Request-ID: b\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: caller.recv(4096), b""))

    ids = [line.split()[1] for line in answers.split(b"\r\n") if line.startswith(b"x-request-id:")]
    assert ids == [b"0", b"1", b"2", b"b"]  # the first POST is a header of the GET before it, its id the later one
    assert re.findall(rb"HTTP/1.1 (\d+) ", answers) == [b"200", b"503", b"503", b"200"]
