"""A small subset of MNIST, a tiny network, one run and one exported model. All tests share them; none changes them."""

from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from training.architectures import ARCHITECTURES
from training.data.mnist import Mnist, load_mnist
from training.data.samples import Samples
from training.data.sources import SOURCES
from training.data.strokes import Drawn, pack
from training.evaluation.risk import NO_DIGIT
from training.evaluation.scoring import Scores
from training.export import export
from training.fit import fit
from training.recipes import Recipe

_SEVEN = [np.array([(0.0, 0.0), (6.0, 0.0), (2.0, 10.0)])]
_CROSS = [np.array([(0.0, 0.0), (9.0, 10.0)]), np.array([(9.0, 0.0), (0.0, 10.0)])]


def tiny() -> keras.Model:
    """Has what a checkpoint must restore: batch normalisation, dropout, and a logit for "not a digit"."""
    ink = layers.Input((28, 28, 1))
    maps = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 5, strides=3)(ink)))
    return keras.Model(ink, layers.Dense(11)(layers.Dropout(0.1)(layers.Flatten()(maps))))


@pytest.fixture(scope="session", autouse=True)
def _tiny_architecture() -> None:
    ARCHITECTURES["tiny"] = tiny


@pytest.fixture(scope="session")
def small_file() -> Path:
    return Path(__file__).parents[1] / "data" / "mnist-small.npz"


@pytest.fixture(scope="session")
def mnist(small_file: Path) -> Mnist:
    """The first 60 training and 20 test images of each digit."""
    return load_mnist(small_file)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe(
        name="tiny", architecture="tiny", preprocessing="auto", epochs=2, learning_rate=0.01, validation_share=0.1
    )


@pytest.fixture(scope="session")
def finished_run(mnist: Mnist, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    fit(recipe, run, mnist)
    return run


@pytest.fixture(scope="session")
def exported(finished_run: Path, mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores]:
    """The models directory of version 1.2.3 and its scores on the test images."""
    models = tmp_path_factory.mktemp("models")
    others = np.ones((20, 28, 28, 1), np.float32), np.full(20, NO_DIGIT)
    return models, export(finished_run, models, "1.2.3", mnist, others)


@pytest.fixture(scope="session")
def sources() -> list[Samples]:
    """Three samples of each source: sevens in sources of digits, crosses in the others."""
    return [_samples(name) for name in SOURCES]


def _samples(name: str) -> Samples:
    """Sevens or crosses, as strokes or as pictures, dark on light."""
    source = SOURCES[name]
    label, strokes = ("7", _SEVEN) if source.kind == "digits" else ("X", _CROSS)
    arrays = pack([Drawn(label, strokes)] * 3)
    if "strokes" not in name and "unipen" not in name:
        picture = np.full((40, 40), 230, np.uint8)
        for stroke in strokes:
            for start, end in pairwise(stroke):
                for at in np.linspace(start, end, 60):
                    x, y = (at * 3 + 5).astype(int)
                    picture[y : y + 3, x : x + 3] = 20
        arrays = {"x": np.stack([picture] * 3), "label": np.array([label] * 3)}
    return Samples(source, arrays, np.arange(3))
