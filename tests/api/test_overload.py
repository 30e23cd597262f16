"""The limit on requests in flight: the middleware alone with a fake clock, then a running service that is full."""

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.overload import Overload
from app.errors import Overloaded
from tests.asking import WAIT_S, assert_is_problem
from tests.dialects import SEVEN
from tests.server import running_faulty


class App:
    """Reads the body and answers when it is told to, behind the middleware, whose clock it has."""

    def __init__(self, lowest: int, highest: int) -> None:
        self.now, self.status = 0.0, 200
        self.limited = Overload(self, 0.2, lowest, highest, lambda: self.now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await scope["state"]["go_on"].wait()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Call:
    """A request to an `App`."""

    def __init__(self, app: App, path: str = "/predict", method: str = "POST") -> None:
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.go_on = asyncio.Event()
        self.state = {"request_id": "mine", "log": {}, "go_on": self.go_on}
        scope = {"type": "http", "method": method, "path": path, "headers": [], "state": self.state}
        self.task = asyncio.create_task(app.limited(scope, self.received.get, self._send))

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    def upload(self, *, more: bool = False) -> None:
        self.received.put_nowait({"type": "http.request", "body": b"1", "more_body": more})

    async def answer(self) -> None:
        self.go_on.set()
        await asyncio.wait_for(self.task, WAIT_S)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def enter(app: App, calls: int, path: str = "/predict") -> list[Call]:
    """So many requests whose bodies are complete."""
    made = [Call(app, path) for _ in range(calls)]
    for call in made:
        call.upload()
    await asyncio.sleep(0.001)
    return made


async def fill(app: App, limit: int) -> list[Call]:
    """As many requests as may be in flight; one more is refused."""
    *inside, refused = await enter(app, limit + 1)
    assert ({call.status for call in inside}, refused.status) == ({None}, 503)
    return inside


async def test_above_the_limit_requests_get_503_until_one_is_answered() -> None:
    app = App(lowest=4, highest=4)
    inside = await fill(app, 4)
    [refused] = await enter(app, 1)
    await inside[0].answer()
    [later] = await enter(app, 1)

    assert json.loads(refused.sent[1]["body"])["code"] == "overloaded"
    assert (b"retry-after", b"1") in refused.sent[0]["headers"]
    assert later.status is None
    for call in [*inside[1:], later]:
        await call.answer()


@pytest.mark.parametrize(("path", "method"), [("/healthz", "GET"), ("/predict/batch", "POST"), ("/read/batch", "POST")])
async def test_probes_and_batches_are_not_limited(path: str, method: str) -> None:
    app = App(lowest=4, highest=4)
    await fill(app, 4)
    other = Call(app, path, method)
    other.upload()
    await other.answer()

    assert other.status == 200


async def test_an_upload_counts_once_it_is_complete() -> None:
    app = App(lowest=4, highest=4)
    slow = [Call(app) for _ in range(10)]
    for call in slow:
        call.upload(more=True)
    for call in await fill(app, 4):
        await call.answer()
    for call in slow:
        call.upload()
        await call.answer()

    assert {call.status for call in slow} == {200}


@pytest.mark.parametrize(
    ("answers", "limit"), [(1, 4), (10, 16), (32, 50)], ids=["the lowest", "what takes 0.2 s", "the highest"]
)
async def test_the_limit_follows_the_rate_of_answers_within_its_bounds(answers: int, limit: int) -> None:
    app = App(lowest=4, highest=50)
    app.now = 100  # at rest until then, which says nothing about the rate
    inside = await fill(app, 32)  # eight times the lowest, while nothing is measured
    for call in inside[1:answers]:
        await call.answer()
    app.now += 0.125
    for call in [inside[0], *inside[answers:]]:
        await call.answer()

    await fill(app, limit)


@pytest.mark.parametrize(("status", "first"), [(200, 1), (415, 32)], ids=["few requests", "quick errors"])
async def test_what_says_nothing_about_the_capacity_leaves_the_limit(status: int, first: int) -> None:
    app = App(lowest=4, highest=1000)
    app.status = status
    for calls in (first, 1, 1):
        for call in await enter(app, calls):
            await call.answer()
        app.now += 0.1

    await fill(app, 32)


async def test_answers_that_take_too_long_lower_the_limit() -> None:
    app = App(lowest=4, highest=50)
    inside = await enter(app, 20)  # below the limit
    for call in inside:
        app.now += 0.05
        await call.answer()

    await fill(app, 4)


async def test_uploads_that_complete_together_do_not_exceed_the_limit() -> None:
    app = App(lowest=4, highest=4)
    slow = [Call(app) for _ in range(6)]
    for call in slow:
        call.upload(more=True)
    await asyncio.sleep(0.001)
    for call in slow:
        call.upload()
    await asyncio.sleep(0.001)

    refused = [call.task for call in slow if call.task.done()]
    assert [type(task.exception()) for task in refused] == [Overloaded] * 2


async def test_a_disconnect_cancels_the_request_and_frees_its_place() -> None:
    app = App(lowest=4, highest=4)
    inside = await fill(app, 4)
    inside[0].received.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(inside[0].task, WAIT_S)
    [later] = await enter(app, 1)

    assert (inside[0].sent, later.status) == ([], None)


async def test_refusals_are_logged_in_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    app = App(lowest=4, highest=4)
    await fill(app, 4)
    refused = await enter(app, 9)
    app.now += 1.5
    refused += await enter(app, 1)

    lines = [record.__dict__["fields"] for record in caplog.records if record.message == "overloaded"]
    assert [line["refused"] for line in lines] == [1, 10]
    assert not [call for call in refused if "log" in call.state]


def test_a_full_service_refuses_in_the_form_of_the_dialect_and_answers_probes(tmp_path: Path) -> None:
    with (
        running_faulty(tmp_path, max_queue=2) as service,
        ThreadPoolExecutor(2) as callers,
        httpx2.Client(base_url=service.url, timeout=WAIT_S) as client,
    ):
        service.switch_on("waits")
        predict = partial(httpx2.post, f"{service.url}/predict", content=SEVEN, timeout=WAIT_S)
        inside = [callers.submit(predict) for _ in range(2)]
        deadline = time.monotonic() + WAIT_S
        while client.post("/nowhere").status_code != 503:
            assert time.monotonic() < deadline
        whole = client.post("/predict", content=SEVEN, headers={"X-Request-ID": "mine"})
        in_pieces = client.post("/predict", content=iter([SEVEN[:100], SEVEN[100:]]))
        in_dialect = client.post("/v2/models/digits/infer", content=SEVEN)
        probes = [client.get("/healthz"), client.get("/readyz"), client.get("/v2/health/ready")]
        counted = client.get("/metrics").text
        service.switch_off()
        assert [caller.result().status_code for caller in inside] == [200, 200]

    for answer in (whole, in_pieces):
        assert_is_problem(answer, 503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
    assert whole.headers["x-request-id"] == "mine"
    assert (in_dialect.status_code, list(in_dialect.json())) == (503, ["error"])
    assert [probe.status_code for probe in probes] == [200] * 3
    refused = re.search(r'digits_http_requests_total\{method="POST",route="none",status="503"\} (\S+)', counted)
    assert refused is not None
    assert float(refused[1]) >= 3
