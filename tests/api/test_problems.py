"""Every error in every form: one table for our own API and both dialects."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from app.model.engine import KerasEngine
from tests.asking import WAIT_S, Run, Standing, service
from tests.dialects import (
    APIS,
    BROKEN,
    OPEN_INFERENCE,
    SEVEN,
    TENSORFLOW,
    assert_is_error,
    assert_is_refusal,
    post,
)

pytestmark = pytest.mark.parametrize("path", APIS.values(), ids=APIS)

LARGE = b"\x89PNG\r\n\x1a\n" + bytes(1000)


@pytest.mark.parametrize(
    ("image", "changed", "status", "code"),
    [
        (BROKEN["text"], {}, 415, "unsupported_media_type"),
        (BROKEN["cut"], {}, 422, "undecodable_image"),
        (BROKEN["blank"], {}, 422, "no_ink"),
        (SEVEN, {"max_pixels": 700}, 413, "too_large"),
        (LARGE, {"max_body_bytes": 1000}, 413, "too_large"),
    ],
    ids=["no image", "broken", "blank", "too many pixels", "too many bytes"],
)
async def test_an_image_that_cannot_be_read(
    seven: KerasEngine, path: str, image: bytes, changed: dict[str, Any], status: int, code: str
) -> None:
    async with service(seven, **changed) as client:
        assert_is_refusal(await post(client, path, image), path, status, code)


async def test_an_image_that_cannot_be_read_fails_the_request_at_once_and_is_named(
    engine_of: Callable[[Run], KerasEngine], path: str
) -> None:
    if path == "/predict":
        return  # one image a request
    standing = Standing()
    async with service(engine_of(standing)) as client:
        try:
            asked = post(client, path, SEVEN, SEVEN, BROKEN["text"], SEVEN)
            assert_is_error(await asyncio.wait_for(asked, WAIT_S / 2), 400, "images[2]: ")
        finally:
            standing.let_go.set()


async def test_a_model_that_is_not_loaded(path: str) -> None:
    async with service(None) as client:
        refused = await post(client, path, SEVEN)

    assert_is_refusal(refused, path, 503, "not_ready")
    assert refused.headers["retry-after"] == "1"


async def test_an_engine_that_is_too_slow(engine_of: Callable[[Run], KerasEngine], path: str) -> None:
    standing = Standing()
    async with service(engine_of(standing), request_timeout_ms=50) as client:
        refused = await post(client, path, SEVEN)
        standing.let_go.set()

    assert_is_refusal(refused, path, 504, "deadline_exceeded", "50 ms")


async def test_an_api_key_that_is_missing(seven: KerasEngine, path: str) -> None:
    async with service(seven, api_keys=f"sha256:{'0f' * 32}") as client:
        refused = await post(client, path, SEVEN)

    assert_is_refusal(refused, path, 401, "unauthorized", "An API key is needed")
    assert refused.headers["www-authenticate"] == 'Bearer realm="digits"'


async def test_a_quota_that_is_used_up(seven: KerasEngine, path: str) -> None:
    async with service(seven, rate_limit="1/minute") as client:
        invalid, refused = await post(client, path, b"text"), await post(client, path, SEVEN)
        card = await client.get("/model")

    assert_is_refusal(invalid, path, 415, "unsupported_media_type")
    assert_is_refusal(refused, path, 429, "rate_limited", f"in {refused.headers['retry-after']} s")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert card.status_code == httpx2.codes.OK  # only POST counts


async def test_an_unknown_address_and_a_method_that_is_not_allowed(client: httpx2.AsyncClient, path: str) -> None:
    unknown = {TENSORFLOW: "/v1/nowhere", OPEN_INFERENCE: "/v2/nowhere"}.get(path, "/v3/nowhere")
    refused, wrong_method = await client.get(unknown), await client.delete(path)

    assert_is_refusal(wrong_method, path, 405, "method_not_allowed")
    assert wrong_method.headers["allow"] == "POST"
    if path == TENSORFLOW:
        assert_is_error(refused, 400, "Malformed request: GET /v1/nowhere")
    else:
        assert_is_refusal(refused, path, 404, "not_found", "Unknown path")
