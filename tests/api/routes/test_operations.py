"""Liveness, readiness and the model card. Metrics are in tests/telemetry."""

import pytest

from app.model.engine import KerasEngine
from tests.asking import assert_is_problem, service


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_process_lives_before_its_model_is_loaded(seven: KerasEngine, method: str) -> None:
    async with service(None) as client:
        alive, ready = await client.request(method, "/healthz"), await client.request(method, "/readyz")
    assert (alive.status_code, ready.status_code) == (200, 503)

    async with service(seven) as client:
        alive, ready = await client.request(method, "/healthz"), await client.request(method, "/readyz")
        pages = [await client.request(method, path) for path in ("/", "/docs", "/openapi.json")]
    assert {page.status_code for page in pages} == {200}
    assert (alive.status_code, ready.status_code) == (200, 200)
    if method == "GET":
        assert (alive.json(), ready.json()) == ({"status": "ok"}, {"status": "ready"})


async def test_the_model_card_is_the_manifest(seven: KerasEngine) -> None:
    async with service(seven) as client:
        assert (await client.get("/model")).json() == seven.manifest.model_dump(mode="json")
    async with service(None) as client:
        assert_is_problem(await client.get("/model"), 503, "not_ready")
