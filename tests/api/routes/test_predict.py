"""`POST /predict` with a stand-in for the model: answers, parameters, limits. Errors are in test_problems."""

import asyncio
import base64
import json
import threading
import time
from typing import Any

import httpx2
import pytest

from app.errors import NotReady
from app.imaging.decode import Decoded, decode
from app.imaging.headers import Encoded
from app.inference.memory import cores
from app.inference.service import Service
from app.model.engine import KerasEngine
from app.model.manifest import Manifest, RiskCurve
from app.settings import Settings
from tests.asking import WAIT_S, assert_is_problem, service
from tests.dialects import SEVEN
from tests.drawings import digit_drawn, encoded, enlarged
from tests.pictures import side_by_side

BASE64 = base64.b64encode(SEVEN).decode()


async def test_the_answer_is_as_the_contract_says(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/predict", content=SEVEN)

    assert answer.status_code == httpx2.codes.OK
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["digit", "confidence", "probabilities", "top", "accepted", "rejection", "model"]
    assert body["digit"] == 7
    assert body["confidence"] == max(body["probabilities"]) == body["probabilities"][7]
    assert len(body["probabilities"]) == 10
    assert sum(body["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert [entry["digit"] for entry in body["top"]] == [7, 1, 0]
    assert all(entry["probability"] == body["probabilities"][entry["digit"]] for entry in body["top"])
    assert (body["accepted"], body["rejection"]) == (True, None)
    assert body["model"] == {"name": "digits", "version": "1.2.3"}
    stages = dict(stage.split(";dur=") for stage in answer.headers["server-timing"].split(", "))
    assert list(stages) == ["decode", "preprocess", "queue", "inference"]
    assert all(0 <= float(duration) < WAIT_S * 1000 for duration in stages.values())


async def test_a_rejected_answer_has_its_reason_and_its_probabilities(client: httpx2.AsyncClient) -> None:
    both = encoded(side_by_side([digit_drawn(7), digit_drawn(4)]))
    body = (await client.post("/predict?top_k=10", content=both)).json()

    assert (body["digit"], body["accepted"], len(body["top"])) == (7, False, 10)
    rejection = body["rejection"]
    assert "POST /read" in rejection.pop("detail")
    assert rejection == {"reason": "several_digits", "score": 2.0, "threshold": 1.0}
    assert sum(body["probabilities"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("top_k=0", "top_k: "),
        ("top_k=11", "top_k: "),
        ("preprocess=magic", "preprocess: "),
        ("explain=2", "explain: "),
        ("topK=3", "Did you mean top_k?"),
        ("top_k=3&explian=true", "Did you mean explain?"),
        ("accept_risk=0.00009", "accept_risk: "),
        ("accept_risk=0.11", "accept_risk: "),
        ("accept_risk=nan", "accept_risk: "),
        ("accept_risk=", "accept_risk: "),
        ("accept_risk=0.01", "This model has no risk curve"),
        ("mode=plain", "takes top_k, explain, preprocess"),
    ],
)
async def test_a_parameter_that_is_unknown_or_out_of_its_range_is_invalid(
    client: httpx2.AsyncClient, path: str, query: str, named: str
) -> None:
    answer = await client.post(f"{path}?{query}", files={"file": SEVEN, "files": SEVEN})

    assert_is_problem(answer, 422, "invalid_parameter")
    assert named in answer.json()["detail"]


async def test_accept_risk_decides_in_place_of_the_thresholds(manifest: Manifest, seven: KerasEngine) -> None:
    """With a curve that is the model's own estimate; the stand-in takes 2.1 % for the other digits."""
    curve = RiskCurve(pictures=9, without_digit=0, scores=(0.001, 1), risks=(0.001, 1))
    engine = KerasEngine(manifest.model_copy(update={"risk": curve}), seven.logits)
    async with service(engine) as client:
        accepted, rejected = [
            (await client.post(f"/predict?accept_risk={risk}", content=SEVEN)).json() for risk in (0.03, 0.02)
        ]
        batch = (await client.post("/predict/batch?accept_risk=0.02", files={"files": SEVEN})).json()

    assert (accepted["accepted"], accepted["rejection"]) == (True, None)
    assert rejected["rejection"] == {
        "reason": "low_confidence",
        "score": pytest.approx(1 - rejected["confidence"], abs=1e-6),
        "threshold": 0.02,
    }
    assert rejected == accepted | {"accepted": False, "rejection": rejected["rejection"]}
    assert batch["predictions"][0]["prediction"] == rejected


MISTAKEN: dict[str, tuple[dict[str, Any], str]] = {
    "name with @": ({"content": b"@seven.png"}, "name of a file"),
    "name in a multipart field": ({"files": {"file": (None, b"C:\\fakepath\\seven.png")}}, "name of a file"),
    "name in a form": ({"data": {"file": "/home/me/digits of mine/seven.jpeg"}}, "name of a file"),
    "URL": ({"content": b"https://example.com/seven.png"}, "a URL"),
    "base64": ({"content": BASE64}, "looks like base64"),
    "base64 in a multipart field": ({"files": {"file": (None, base64.encodebytes(SEVEN))}}, "looks like base64"),
    "base64 in a form": ({"data": {"image": BASE64}}, "looks like base64"),
    "data: URL": ({"content": f"data:image/png;base64,{BASE64}"}, "looks like a data: URL"),
    "data: URL in a form": ({"data": {"image": f"data:image/png;base64,{BASE64}"}}, "looks like a data: URL"),
    "JSON": ({"content": json.dumps({"image": BASE64})}, "Content-Type: application/json"),
    "what curl -d makes of a file": (
        {
            "content": SEVEN.translate(None, b"\r\n\0"),
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        },
        "--data-binary",
    ),
    "text": ({"content": b"seven"}, "not a supported image format"),
}


@pytest.mark.parametrize("mistake", MISTAKEN)
async def test_an_error_names_what_was_sent_instead_of_an_image(client: httpx2.AsyncClient, mistake: str) -> None:
    sent, hint = MISTAKEN[mistake]
    answer = await client.post("/predict", **sent)

    assert_is_problem(answer, 415, "unsupported_media_type")
    assert hint in answer.json()["detail"]


async def test_an_image_header_of_a_million_chunks_does_not_block_the_loop(client: httpx2.AsyncClient) -> None:
    """Pillow reads them one by one, for seconds; meanwhile the loop answers others."""
    parts = SEVEN[:33] + (bytes(4) + b"teSt" + bytes(4)) * 300_000 + SEVEN[33:]
    slow = asyncio.create_task(client.post("/predict", content=parts))
    await asyncio.sleep(0)
    answers = [(await client.get("/healthz")).status_code for _ in range(3)]

    assert answers == [httpx2.codes.OK] * 3
    assert not slow.done()
    assert (await slow).status_code in {200, 422}


async def test_a_request_that_waits_for_a_decoder_when_the_service_stops_is_not_ready(seven: KerasEngine) -> None:
    stopping = Service(Settings())
    stopping.start(seven)
    large = encoded(digit_drawn(7).repeat(20, axis=0).repeat(20, axis=1))
    asking = asyncio.create_task(stopping.predict(large, "auto"))
    await asyncio.sleep(0)  # until it has been handed to a thread

    stopping.close()

    with pytest.raises(NotReady):
        await asyncio.wait_for(asking, WAIT_S)


@pytest.mark.parametrize(("share", "at_once"), [(1 / 3, 1), (1 / 5, min(4, cores()))], ids=["large", "not so large"])
async def test_pictures_of_more_than_a_quarter_of_the_largest_size_take_turns(
    seven: KerasEngine, monkeypatch: pytest.MonkeyPatch, share: float, at_once: int
) -> None:
    picture = encoded(digit_drawn(7).repeat(20, axis=0).repeat(20, axis=1))
    asked = Service(Settings(max_pixels=int(560 * 560 / share)))
    asked.start(seven)
    lock, inside, most = threading.Lock(), 0, 0

    def counted(image: Encoded) -> Decoded:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.1)  # longer than threads take to start
        with lock:
            inside -= 1
        return decode(image)

    monkeypatch.setattr("app.inference.pipeline.decode", counted)
    try:
        await asyncio.gather(*(asked.predict(picture, "auto") for _ in range(4)))
    finally:
        asked.close()

    assert most == at_once


async def test_a_picture_that_needs_more_memory_than_the_container_has_is_too_large(
    seven: KerasEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inference.scheduling.memory_limit", lambda: 200 * 2**20)  # a quarter is shared out
    async with service(seven) as client:
        answer = await client.post("/predict", content=encoded(enlarged(digit_drawn(7), 4000)))
        smaller = await client.post("/predict", content=encoded(enlarged(digit_drawn(7), 1000)))

    assert_is_problem(answer, 413, "too_large")
    assert "more memory than the service has" in answer.json()["detail"]
    assert smaller.status_code == httpx2.codes.OK
