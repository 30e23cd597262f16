"""An app around a stand-in for the model, without a network, and how its problem documents must look."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from app.main import create_app
from app.model.engine import Engine
from app.settings import Settings

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

WAIT_S = 10  # for what takes milliseconds unless something is broken


class Standing:
    """A model that does not answer until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, ink: NDArray[np.float32]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.let_go.wait(WAIT_S)
        return np.zeros((len(ink), 10), np.float32)


@asynccontextmanager
async def service(engine: Engine | None, **changed: Any) -> AsyncIterator[httpx2.AsyncClient]:  # noqa: ANN401 - settings
    """A client of an app with ``engine``, or whose model is not loaded yet."""
    app = create_app(Settings(**changed))
    if engine is not None:
        app.state.digits.service.start(engine)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://digits", timeout=WAIT_S) as client:
            yield client
    finally:
        app.state.digits.service.close()


def assert_is_problem(answer: httpx2.Response, status: int, code: str) -> None:
    """Complete, consistent, and without anything internal."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["request_id"] in problem["instance"]
    assert problem["title"]
    assert problem["detail"]
    assert not [word for word in ("Traceback", "app/", ".py", "site-packages", "OpenCV") if word in answer.text]
