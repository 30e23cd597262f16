"""Fixtures that many tests share: the shipped model, stand-ins for it, and one running service."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.imaging.preprocess import VERSION
from app.model.engine import KerasEngine
from app.model.manifest import Manifest, Thresholds
from tests.asking import Run, service
from tests.server import ROOT, running


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The shipped model."""
    return ROOT / "models"


@pytest.fixture
def copied_model(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    for path in model_dir.glob("digits*"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """A valid manifest without a real model."""
    return Manifest(
        name="digits",
        version="1.2.3",
        sha256={"digits.keras": "0" * 64},
        preprocessing=VERSION,
        classes=tuple(range(10)),
        architecture="stand-in",
        parameters=0,
        multiply_adds=0,
        recipe={},
        data={},
        temperature=1.0,
        thresholds=Thresholds(not_a_digit=1.5, low_confidence=0.25),
        metrics={},
        trained={},
    )


@pytest.fixture(scope="session")
def engine_of(manifest: Manifest) -> Callable[[Run], KerasEngine]:
    """A real engine around a stand-in for the model."""
    return lambda run: KerasEngine(manifest, run)


@pytest.fixture(scope="session")
def seven(engine_of: Callable[[Run], KerasEngine]) -> KerasEngine:
    """Reads everything as a seven, with a one in second place."""
    logits = np.array([0, 4, 0, 0, 0, 0, 0, 8, 0, 0], np.float32)
    return engine_of(lambda ink: np.tile(logits, (len(ink), 1)))


@pytest.fixture
async def client(seven: KerasEngine) -> AsyncIterator[httpx2.AsyncClient]:
    """Of an app with that engine."""
    async with service(seven) as client:
        yield client


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The URL of a service with the shipped model on LiteRT. Tests only send requests to it."""
    with running(engine="litert") as process:
        yield process.ready()
