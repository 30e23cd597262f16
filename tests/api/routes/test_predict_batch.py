"""`POST /predict/batch` with a stand-in for the model: every image gets its own entry."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.inference.service import Service
from app.model.engine import KerasEngine
from app.settings import Settings
from tests.asking import WAIT_S, Run, Standing, assert_is_problem, service
from tests.dialects import OPEN_INFERENCE, SEVEN, TENSORFLOW, post
from tests.drawings import encoded

BLANK = encoded(np.full((40, 40), 250, np.uint8))
NOISE = encoded(np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))


@pytest.fixture
def counting(engine_of: Callable[[Run], KerasEngine]) -> KerasEngine:
    """Reads the row of the first ink as the digit."""

    def run(ink: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = ink[:, :, 0, 0].argmax(axis=1)
        logits: NDArray[np.float32] = np.eye(10, dtype=np.float32)[rows] * np.float32(9)
        return logits

    return engine_of(run)


def marked(digit: int, times: int = 1) -> bytes:
    """An image that `counting` reads as ``digit``, with `plain`; enlarged so many ``times``."""
    grey = np.zeros((28, 28), np.uint8)
    grey[digit, 0] = 255
    return encoded(grey.repeat(times, axis=0).repeat(times, axis=1))


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{number}.png", content)) for number, content in enumerate(contents)]


async def sent(
    engine: KerasEngine, parts: Sequence[tuple[str, Any]], query: str = "", **changed: int
) -> httpx2.Response:
    async with service(engine, **changed) as client:
        return await client.post(f"/predict/batch{query}", files=parts)


async def test_an_image_is_answered_as_it_is_alone(client: httpx2.AsyncClient) -> None:
    alone = (await client.post("/predict?top_k=2", content=SEVEN)).json()
    body = (await client.post("/predict/batch?top_k=2", files=[("files", ("../0.png", SEVEN))])).json()

    entry = {"filename": "../0.png", "prediction": alone, "error": None}
    assert body == {"predictions": [entry], "model": {"name": "digits", "version": "1.2.3"}}


async def test_entries_come_in_the_order_sent_large_and_small_ones_mixed(counting: KerasEngine) -> None:
    """Although large images are decoded in threads and small ones at once."""
    contents = [marked(digit) for digit in range(10)]
    contents[2::3] = [marked(digit, 20) for digit in range(2, 10, 3)]

    answer = await sent(counting, files(*contents), "?preprocess=plain")

    entries = answer.json()["predictions"]
    assert [entry["filename"] for entry in entries] == [f"{number}.png" for number in range(10)]
    assert [entry["prediction"]["digit"] for entry in entries] == list(range(10))


async def test_one_bad_image_never_costs_the_others_their_answer(seven: KerasEngine) -> None:
    bad = [(b"a text", 415, "unsupported_media_type"), (SEVEN[:100], 422, "undecodable_image"), (BLANK, 422, "no_ink")]
    bad += [(encoded(np.zeros((101, 100), np.uint8)), 413, "too_large"), (b"", 400, "bad_request")]
    contents = [content for each, _, _ in bad for content in (SEVEN, each)] + [SEVEN]

    answer = await sent(seven, files(*contents), max_pixels=10_000)

    assert answer.status_code == httpx2.codes.OK
    entries = answer.json()["predictions"]
    assert [entry["prediction"]["digit"] for entry in entries[::2]] == [7] * 6
    assert [entry["error"] for entry in entries[::2]] == [None] * 6
    assert [entry["prediction"] for entry in entries[1::2]] == [None] * 5
    problems = [entry["error"] for entry in entries[1::2]]
    assert [(problem["status"], problem["code"]) for problem in problems] == [(status, code) for _, status, code in bad]
    assert {problem["request_id"] for problem in problems} == {answer.headers["x-request-id"]}


async def test_a_request_without_a_form_or_its_field_is_a_bad_request(seven: KerasEngine) -> None:
    async with service(seven) as client:
        answer = await client.post("/predict/batch", content=SEVEN, headers={"Content-Type": "image/png"})
    assert_is_problem(answer, 400, "bad_request")

    answer = await sent(seven, [("file", ("seven.png", SEVEN))])
    assert_is_problem(answer, 400, "bad_request")
    assert "files" in answer.json()["detail"]


async def test_a_misplaced_parameter_is_pointed_to_the_query_of_the_batch(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/predict/batch", files=files(SEVEN), data={"top_k": "3"})

    assert_is_problem(answer, 422, "invalid_parameter")
    assert "/predict/batch?top_k=" in answer.json()["detail"]


async def test_the_number_of_images_and_the_bytes_of_the_whole_request_are_bounded(seven: KerasEngine) -> None:
    assert (await sent(seven, files(*[SEVEN] * 3), max_images=3)).status_code == httpx2.codes.OK
    many = await sent(seven, files(*[SEVEN] * 4), max_images=3)
    assert_is_problem(many, 413, "too_large")
    assert "more than 3 images" in many.json()["detail"]
    assert_is_problem(await sent(seven, files(SEVEN, SEVEN), max_body_bytes=2 * len(SEVEN)), 413, "too_large")


@asynccontextmanager
async def standing_before(
    engine_of: Callable[[Run], KerasEngine], images: int, **changed: int
) -> AsyncIterator[tuple[httpx2.AsyncClient, asyncio.Task[httpx2.Response], Callable[[], None]]]:
    """A client, a batch whose first image the engine holds, and what releases it."""
    standing = Standing()
    async with service(engine_of(standing), max_batch=4, **changed) as client:
        first = asyncio.create_task(client.post("/predict/batch", files=files(*[SEVEN] * images)))
        await asyncio.to_thread(standing.entered.wait, WAIT_S)
        try:
            yield client, first, standing.let_go.set
        finally:
            standing.let_go.set()


async def test_a_batch_without_room_in_the_queue_is_rejected_as_a_whole(
    engine_of: Callable[[Run], KerasEngine],
) -> None:
    async with standing_before(engine_of, 7, max_queue=8) as (client, first, let_go):
        refused = await client.post("/predict/batch", files=files(SEVEN, SEVEN))
        in_dialects = [await post(client, path, SEVEN, SEVEN) for path in (TENSORFLOW, OPEN_INFERENCE)]
        admitted = asyncio.create_task(client.post("/predict/batch", files=files(SEVEN)))
        let_go()
        answers = [await first, await admitted]
    assert_is_problem(refused, 503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert [(answer.status_code, list(answer.json())) for answer in in_dialects] == [(503, ["error"])] * 2
    for answer, images in zip(answers, (7, 1), strict=True):
        assert [entry["error"] for entry in answer.json()["predictions"]] == [None] * images


async def test_a_batch_is_rejected_unread_if_not_even_one_image_has_room(
    engine_of: Callable[[Run], KerasEngine],
) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        await asyncio.sleep(0)  # has not arrived yet
        read.append(SEVEN)
        yield SEVEN

    async with standing_before(engine_of, 8, max_queue=8) as (client, first, let_go):
        assert_is_problem(await client.post("/predict/batch", content=body()), 503, "overloaded")
        let_go()
        await first
    assert read == []


async def test_a_single_image_finds_a_place_beside_a_large_batch(engine_of: Callable[[Run], KerasEngine]) -> None:
    async with standing_before(engine_of, 100, max_queue=9) as (client, first, let_go):
        single = asyncio.create_task(client.post("/predict", content=SEVEN))
        let_go()
        answers = await asyncio.gather(single, first)
    assert [answer.status_code for answer in answers] == [httpx2.codes.OK] * 2


async def test_a_batch_has_one_deadline_for_all_its_images_and_leaves_nothing_behind(
    engine_of: Callable[[Run], KerasEngine],
) -> None:
    async with standing_before(engine_of, 100, max_queue=9, request_timeout_ms=300) as (client, first, let_go):
        assert_is_problem(await first, 504, "deadline_exceeded")
        let_go()
        next_ = await client.post("/predict/batch", files=files(*[SEVEN] * 9))
    assert next_.status_code == httpx2.codes.OK  # so that its places are free again


@pytest.mark.parametrize(
    ("quick", "in_numbers"),
    [(False, False), (True, False), (True, True)],
    ids=["on a thread", "singly on the event loop", "all on the event loop"],
)
@pytest.mark.parametrize("image", [SEVEN, NOISE], ids=["sevens", "noise"])
async def test_others_come_in_between_the_pictures_of_a_batch(
    seven: KerasEngine, monkeypatch: pytest.MonkeyPatch, image: bytes, *, quick: bool, in_numbers: bool
) -> None:
    monkeypatch.setattr(KerasEngine, "runs_inline", quick)
    monkeypatch.setattr(KerasEngine, "runs_batches_inline", in_numbers)
    monkeypatch.setattr("app.inference.scheduling._LOOP_BUDGET_S", 0)  # each picture takes longer
    turns, done = 0, asyncio.Event()

    async def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    async with service(seven) as client:
        counting = asyncio.create_task(count())
        answer = await client.post("/predict/batch", files=files(*[image] * 100))
        done.set()
        await counting

    assert {entry["error"] for entry in answer.json()["predictions"]} == {None}
    assert turns >= 100


async def test_none_of_many_who_ask_again_and_again_waits_for_ever(
    seven: KerasEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KerasEngine, "runs_inline", True)
    monkeypatch.setattr("app.inference.scheduling._LOOP_BUDGET_S", 0.0005)  # two or three pictures
    answered = [0] * 16

    async def ask(service: Service, caller: int) -> None:
        while sum(answered) < 50 * len(answered):
            await service.predict(SEVEN)
            answered[caller] += 1
            await asyncio.sleep(0)  # its next request comes with a later turn

    async with asyncio.TaskGroup() as callers:
        service = Service(Settings())
        service.start(seven)
        for caller in range(len(answered)):
            callers.create_task(ask(service, caller))
    service.close()

    assert min(answered) > 10
