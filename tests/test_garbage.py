"""A request leaves no garbage for the collector, and what is loaded once is frozen out of collections."""

import asyncio
import base64
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.inference.loading import load
from app.inference.service import Service
from app.model.engine import LiteRTEngine
from app.settings import Settings
from tests.asking import service
from tests.drawings import digit_drawn, encoded, enlarged
from tests.pictures import on_paper

SMALL = encoded(digit_drawn(7))
DRAWN = encoded(enlarged(on_paper(digit_drawn(7)), 20))
NOISE = encoded(
    np.random.default_rng(0).integers(0, 256, (300, 300)).astype(np.uint8)
)  # too large to decode on the event loop
BROKEN = NOISE[:9000]


def form(field: str, *images: bytes) -> dict[str, Any]:
    return {"files": [(field, ("image.png", image)) for image in images]}


def as_tensors(*images: bytes) -> dict[str, Any]:
    return {"content": json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images]})}


REQUESTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "drawn": ("/predict", {"content": DRAWN}, 200),
    "as a form": ("/predict", form("file", DRAWN), 200),
    "explained": ("/predict?explain=true", {"content": DRAWN}, 200),
    "cut short and explained": ("/predict?explain=true", {"content": BROKEN}, 422),
    "too large": ("/predict", {"content": bytes(11 * 2**20)}, 413),
    "a batch, some cut short": ("/predict/batch", form("files", DRAWN, BROKEN, SMALL[:150]), 200),
    "numbers": ("/read", {"content": DRAWN}, 200),
    "in another dialect, cut short": ("/v1/models/digits:predict", as_tensors(BROKEN, SMALL, BROKEN), 400),
}


@contextmanager
def collected() -> Iterator[list[object]]:
    """Objects made in the context that only the garbage collector can free."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(("path", "request_", "status"), REQUESTS.values(), ids=REQUESTS)
async def test_a_request_leaves_no_garbage(model_dir: Path, path: str, request_: dict[str, Any], status: int) -> None:
    async with service(LiteRTEngine.load(model_dir)) as client:
        await client.post(path, **request_)  # the first may leave some
        with collected() as garbage:
            assert [(await client.post(path, **request_)).status_code for _ in range(3)] == [status] * 3
            await asyncio.sleep(0.05)  # until threads have let go, too

    assert not {type(one).__qualname__ for one in garbage}


async def test_what_is_loaded_once_is_frozen_out_of_collections(model_dir: Path) -> None:
    settings = Settings(engine="litert", model_dir=model_dir)
    service = Service(settings)
    gc.unfreeze()
    try:
        await load(service, settings, pytest.fail)
        frozen = gc.get_freeze_count()
    finally:
        gc.unfreeze()
        service.close()

    assert frozen > 10_000  # modules, functions and classes
