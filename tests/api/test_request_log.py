"""Around every request: its id, its line in the log, and an answer to unhandled errors."""

import re
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.request_log import RequestLog

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "digits")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(record.message, record.__dict__["fields"]) for record in caplog.records if record.name == "digits"]


async def answering(scope: Scope, _receive: Receive, send: Send) -> None:
    scope["state"]["log"] |= {"digit": 7, "confidence": 0.9}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"seven"})


async def raising(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError("secret of ours")


async def breaking_off(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret of ours")


async def ask(app: ASGIApp, headers: dict[str, str] | None = None) -> httpx2.Response:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://digits") as client:
        return await client.get("/somewhere?secret=1", headers=headers)


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("A-z_0.9", True), ("x" * 128, True), ("x" * 129, False), ("", False), ("a b", False), ("{}", False)],
)
async def test_a_valid_request_id_is_echoed_and_any_other_is_replaced(given: str, echoed: bool) -> None:
    found = (await ask(RequestLog(answering), {"X-Request-ID": given})).headers["x-request-id"]

    assert found == given if echoed else re.fullmatch(r"[0-9a-f]{16}", found)


async def test_a_request_is_one_line_in_the_log_with_a_valid_traceparent(caplog: pytest.LogCaptureFixture) -> None:
    await ask(RequestLog(answering), {"traceparent": TRACEPARENT + "-more"})
    assert "traceparent" not in lines(caplog)[0][1]
    caplog.clear()
    await ask(RequestLog(answering), {"X-Request-ID": "mine", "traceparent": TRACEPARENT})

    [(message, fields)] = lines(caplog)
    assert message == "request"
    assert 0 < fields.pop("duration_ms") < 10_000
    assert fields == {
        "request_id": "mine",
        "method": "GET",
        "route": None,
        "status": 200,
        "digit": 7,
        "confidence": 0.9,
        "traceparent": TRACEPARENT,
    }


async def test_an_unhandled_error_is_answered_without_details(caplog: pytest.LogCaptureFixture) -> None:
    answer = await ask(RequestLog(raising), {"X-Request-ID": "mine"})

    assert answer.status_code == httpx2.codes.INTERNAL_SERVER_ERROR
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"
    assert "secret" not in answer.text
    with pytest.raises(RuntimeError):  # only cutting the connection is left
        await ask(RequestLog(breaking_off))
    assert [message for message, _ in lines(caplog)] == ["unhandled error", "request"] * 2
    assert "RuntimeError: secret of ours" in caplog.text
