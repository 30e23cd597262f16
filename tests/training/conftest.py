"""A real subset of MNIST, and one finished run on it that the tests of export and evaluation share."""

from dataclasses import replace
from pathlib import Path

import pytest

from training.data import Mnist, load_mnist
from training.fit import fit
from training.recipes import RECIPES, Recipe


@pytest.fixture(scope="session")
def small_file() -> Path:
    return Path(__file__).parents[1] / "data" / "mnist-small.npz"


@pytest.fixture(scope="session")
def mnist(small_file: Path) -> Mnist:
    """600 training and 200 test images, the first of each digit."""
    return load_mnist(small_file)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """`compact`, shortened until it takes seconds."""
    return replace(RECIPES["compact"], epochs=2, batch_size=50, average_momentum=None, validation_share=0.1)


@pytest.fixture(scope="session")
def finished_run(mnist: Mnist, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "compact"
    fit(recipe, run, mnist, workers=1)
    return run
