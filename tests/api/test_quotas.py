"""Quotas in Redis: one count for several processes, and what happens when Redis fails."""

import logging
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.api import quotas
from app.api.quotas import Quota
from app.errors import RateLimited
from tests.asking import WAIT_S
from tests.dialects import SEVEN
from tests.server import running

in_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


async def refused(quota: Quota, client: str) -> bool:
    try:
        await quota.take(client)
    except RateLimited:
        return True
    return False


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of a Redis for this test, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}", process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@in_redis
def test_processes_share_a_quota_in_redis_and_count_alone_without_it(
    redis: tuple[str, subprocess.Popen[bytes]], model_dir: Path
) -> None:
    address, process = redis
    settings = {"model_dir": model_dir, "engine": "litert", "rate_limit": "3/hour", "rate_limit_storage": address}
    with running(**settings) as first, running(**settings) as second:
        urls = [each.url() for each in (first, second)]
        for each in (first, second):
            each.line_with('"ready"')

        def statuses(*places: int) -> list[int]:
            return [httpx2.post(urls[place] + "/predict", content=SEVEN).status_code for place in places]

        assert statuses(0, 1, 0, 1, 0) == [200, 200, 200, 429, 429]
        process.send_signal(signal.SIGSTOP)  # it accepts connections and does not answer
        started = time.monotonic()
        assert statuses(0, 0, 0, 0) == [200, 200, 200, 429]  # counted by the process, from zero
        assert time.monotonic() - started < 4  # so it waits only once
        first.line_with('"level":"warning","message":"quota storage failed: counting in memory"')


async def test_a_redis_that_refuses_connections_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    caplog.set_level(logging.WARNING, "digits")
    quota = Quota("2/hour", f"redis://:secret@127.0.0.1:{port}")

    assert [await refused(quota, "one") for _ in range(3)] == [False, False, True]
    [record] = caplog.records
    assert "secret" not in str(record.__dict__)


@in_redis
async def test_a_redis_that_comes_back_counts_again(
    redis: tuple[str, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "_STORAGE_RETRY_S", 0.0)
    address, process = redis
    quota = Quota("1/hour", address)
    assert [await refused(quota, "one") for _ in range(2)] == [False, True]
    process.send_signal(signal.SIGSTOP)
    assert [await refused(quota, "one") for _ in range(2)] == [False, True]
    process.send_signal(signal.SIGCONT)

    assert not await refused(quota, "two")
    assert await refused(quota, "two")
    await quota._shared.storage.bridge.storage.aclose()  # type: ignore[union-attr]
