"""What the tests of the service share: the shipped model, and stand-ins for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.imaging.preprocess import VERSION
from app.model.engine import KerasEngine
from app.model.manifest import Manifest, Thresholds
from tests.server import running

ROOT = Path(__file__).parent.parent

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The shipped model."""
    return ROOT / "models"


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """Of no real model: everything valid, nothing measured."""
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
    """Sees a seven in everything, and a one in the second place."""
    logits = np.array([0, 4, 0, 0, 0, 0, 0, 8, 0, 0], np.float32)
    return engine_of(lambda ink: np.tile(logits, (len(ink), 1)))


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Where the service answers, with the shipped model."""
    with running(engine="litert") as process:
        address = process.url()
        process.line_with('"ready"')
        yield address
