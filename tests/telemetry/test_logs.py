"""Around every request: its id, its line in the log, an answer whatever is raised."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.request_log import RequestLog
from app.telemetry.logs import JsonFormatter, start_logging

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

pytestmark = pytest.mark.anyio


class Lines(logging.Handler):
    """The JSON lines that were logged."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def logged() -> Iterator[list[dict[str, object]]]:
    logger, handler = logging.getLogger("digits"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


async def answering(scope: Scope, _receive: Receive, send: Send) -> None:
    scope["state"]["log"] |= {"digit": 7, "confidence": 0.9}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"seven"})


async def raising(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("secret of ours")


async def breaking_off(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret of ours")


async def ask(app: ASGIApp, headers: dict[str, str] | None = None, *, raises: bool = False) -> httpx2.Response:
    transport = httpx2.ASGITransport(RequestLog(app), raise_app_exceptions=raises)
    async with httpx2.AsyncClient(transport=transport, base_url="http://digits") as client:
        return await client.get("/somewhere?secret=1", headers=headers)


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 128])
async def test_a_valid_request_id_is_taken_and_echoed(given: str) -> None:
    assert (await ask(answering, {"X-Request-ID": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a/b", "a;b", "{}"])
async def test_any_other_request_id_is_replaced(given: str | None) -> None:
    answer = await ask(answering, None if given is None else {"X-Request-ID": given})

    assert answer.headers["x-request-id"] != given
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answer.headers["x-request-id"])


async def test_made_request_ids_differ() -> None:
    assert len({(await ask(answering)).headers["x-request-id"] for _ in range(5)}) == 5


async def test_a_request_is_one_line_in_the_log(logged: list[dict[str, object]]) -> None:
    await ask(answering, {"X-Request-ID": "mine", "traceparent": TRACEPARENT})

    [line] = logged
    duration = line.pop("duration_ms")
    assert isinstance(duration, float)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert line == {
        "level": "info",
        "message": "request",
        "request_id": "mine",
        "method": "GET",
        "route": None,
        "status": 200,
        "digit": 7,
        "confidence": 0.9,
        "traceparent": TRACEPARENT,
    }


@pytest.mark.parametrize("given", ["nonsense", TRACEPARENT + "-more", TRACEPARENT.upper()])
async def test_a_malformed_traceparent_is_not_logged(logged: list[dict[str, object]], given: str) -> None:
    await ask(answering, {"traceparent": given})

    assert "traceparent" not in logged[0]


async def test_every_request_is_told_to_whoever_counts() -> None:
    told: list[tuple[str | None, str, int]] = []

    def count(route: str | None, method: str, status: int, duration_s: float) -> None:
        assert 0 <= duration_s < 10
        told.append((route, method, status))

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["endpoint"] = answering
        await answering(scope, receive, send)

    async def left(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise asyncio.CancelledError

    async def receive() -> dict[str, str]:
        return {}

    async def send(message: object) -> None:
        raise AssertionError(message)

    for app in (answering, routed, raising):
        await ask(RequestLog(app, {answering: "/{place}"}, count))
    with pytest.raises(asyncio.CancelledError):
        await RequestLog(left, None, count)({"type": "http", "method": "GET", "headers": []}, receive, send)

    assert told == [(None, "GET", 200), ("/{place}", "GET", 200), (None, "GET", 500), (None, "GET", 0)]


async def test_what_is_raised_is_answered_without_being_shown(logged: list[dict[str, object]]) -> None:
    answer = await ask(raising, {"X-Request-ID": "mine"}, raises=True)

    assert answer.status_code == httpx2.codes.INTERNAL_SERVER_ERROR
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"
    assert "secret" not in answer.text
    assert "RuntimeError: secret of ours" in str(logged[0]["traceback"])
    assert (logged[1]["message"], logged[1]["status"]) == ("request", 500)


async def test_an_answer_that_has_begun_is_cut_when_something_is_raised(logged: list[dict[str, object]]) -> None:
    with pytest.raises(RuntimeError):
        await ask(breaking_off, raises=True)

    assert [line["message"] for line in logged] == ["unhandled error", "request"]


async def test_other_protocols_pass_through() -> None:
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> dict[str, str]:
        return {}

    async def send(message: object) -> None:
        raise AssertionError(message)

    await RequestLog(app)({"type": "lifespan"}, receive, send)

    assert seen == ["lifespan"]


@contextmanager
def logging_started(level: str) -> Iterator[logging.Logger]:
    """The service's logger, writing to standard output; all is written when the context ends."""
    loggers = [logging.getLogger(name) for name in ("digits", "uvicorn")]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    listener = start_logging(level)
    try:
        yield loggers[0]
    finally:
        listener.stop()
        for logger, handlers, given, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(given)


def test_no_line_is_lost_nor_out_of_order_however_many_come(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_started("info") as log:
        for number in range(3000):
            log.info("%d", number)
            if number % 1000 == 500:
                time.sleep(0.1)  # longer than lines gather

    assert [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()] == [
        str(number) for number in range(3000)
    ]


def test_the_log_is_json_lines_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_started("warning") as log:
        log.info("too quiet")
        log.warning("%d of %d", 1, 2, extra={"fields": {"digit": 7}})

    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) | {"time": ""} == {"time": "", "level": "warning", "message": "1 of 2", "digit": 7}
