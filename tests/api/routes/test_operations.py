"""What operators and their machines ask."""

import re

import httpx2
import pytest

from app.main import create_app
from app.model.engine import KerasEngine
from app.settings import Settings

pytestmark = pytest.mark.anyio


async def get(path: str, engine: KerasEngine | None) -> httpx2.Response:
    app = create_app(Settings())
    if engine is not None:
        app.state.digits.service.start(engine)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://digits") as client:
        answer = await client.get(path)
    app.state.digits.service.close()
    return answer


async def test_a_process_lives_before_its_model_is_loaded() -> None:
    answer = await get("/healthz", None)

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_loaded_model_is_ready(seven: KerasEngine) -> None:
    answer = await get("/readyz", seven)

    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_the_model_card_is_the_manifest(seven: KerasEngine) -> None:
    answer = await get("/model", seven)

    assert answer.json() == seven.manifest.model_dump(mode="json")


async def test_the_model_card_waits_for_the_model() -> None:
    assert (await get("/model", None)).status_code == httpx2.codes.SERVICE_UNAVAILABLE


async def test_the_documentation_is_one_page_that_loads_nothing() -> None:
    answer = await get("/docs", None)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    for words in ("/v2/models/digits/infer", "Read a handwritten digit", "several_digits", "bad_request"):
        assert words in answer.text
    assert not re.findall(r"(?:src|href)=[\"'](?!openapi\.json)", answer.text)


async def test_openapi_describes_every_way_every_parameter_and_every_error() -> None:
    document = (await get("/openapi.json", None)).json()

    assert document["openapi"].startswith("3.1")
    predict = document["paths"]["/predict"]["post"]
    assert {"multipart/form-data", "application/json", "image/*"} <= set(predict["requestBody"]["content"])
    assert {parameter["name"] for parameter in predict["parameters"]} == {"top_k", "explain", "preprocess"}
    assert set(predict["responses"]) == {"200", "400", "401", "413", "415", "422", "429", "500", "503", "504"}
    assert {"/predict", "/predict/batch", "/healthz", "/readyz", "/model"} <= set(document["paths"])


async def test_openapi_describes_a_batch() -> None:
    batch = (await get("/openapi.json", None)).json()["paths"]["/predict/batch"]["post"]

    assert set(batch["requestBody"]["content"]) == {"multipart/form-data"}
    assert {parameter["name"] for parameter in batch["parameters"]} == {"top_k", "explain", "preprocess"}
    assert {"200", "400", "413", "422", "503"} <= set(batch["responses"])


async def test_openapi_shows_an_answer() -> None:
    document = (await get("/openapi.json", None)).json()

    assert document["components"]["schemas"]["Prediction"]["example"]["digit"] == 7
