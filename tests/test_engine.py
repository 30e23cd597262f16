"""The engine: the shipped model on real images, padding, and what it refuses to load."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engine import KerasEngine
from app.errors import ModelError
from app.manifest import MANIFEST, WEIGHTS, Manifest, read_manifest, sha256_of, write_manifest
from app.preprocessing import Mode, ink_from_grey
from tests.drawings import mnist_test

Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def shipped(model_dir: Path) -> KerasEngine:
    return KerasEngine.load(model_dir)


@pytest.fixture
def copied(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may spoil."""
    for name in (MANIFEST, WEIGHTS):
        shutil.copy(model_dir / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", ["auto", "plain"])
def test_the_shipped_model_reads_mnist(shipped: KerasEngine, mode: Mode) -> None:
    images, labels = mnist_test()

    digits = shipped.logits(np.stack([ink_from_grey(image, mode) for image in images]))[:, :10].argmax(axis=1)

    assert np.count_nonzero(digits != labels) <= 3  # of 200: some of MNIST is hard for people, too


def test_an_ink_gets_the_same_logits_alone_and_in_company(shipped: KerasEngine) -> None:
    inks = np.stack([ink_from_grey(image) for image in mnist_test()[0][:67]])

    together = shipped.logits(inks)

    assert together.shape == (67, 11)  # ten digits, and none
    assert together.dtype == np.float32
    alone = np.concatenate([shipped.logits(each[None]) for each in inks[[0, 30, 66]]])
    assert np.allclose(together[[0, 30, 66]], alone, atol=1e-4)


def test_the_manifest_of_the_shipped_model_tells_its_files_and_its_parameters(shipped: KerasEngine) -> None:
    assert shipped.manifest.classes == tuple(range(10))
    assert 0 < shipped.manifest.parameters <= 500_000
    assert shipped.manifest.temperature > 0


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 64, 65, 130])
def test_any_number_of_inks_is_run_in_the_sizes_that_are_warm(
    engine_of: Callable[[Callable[[Rows], Rows]], KerasEngine], count: int
) -> None:
    sizes = []

    def run(ink: Rows) -> Rows:
        sizes.append(len(ink))
        return ink[:, :10, 0, 0]

    ink = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)

    assert np.array_equal(engine_of(run).logits(ink), ink[:, :10, 0, 0])
    assert set(sizes) <= set(KerasEngine.batch_sizes)
    assert sum(sizes) < 2 * max(1, count)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no model: "):
        KerasEngine.load(tmp_path)


def test_a_model_with_one_byte_changed_is_refused(copied: Path) -> None:
    data = bytearray((copied / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / WEIGHTS).write_bytes(data)

    with pytest.raises(ModelError, match=r"^damaged model: "):
        KerasEngine.load(copied)


def test_a_model_of_another_preprocessing_is_refused(copied: Path) -> None:
    write_manifest(read_manifest(copied).model_copy(update={"preprocessing": "another"}), copied)

    with pytest.raises(ModelError, match=r"^foreign model: "):
        KerasEngine.load(copied)


def sealed(manifest: Manifest, folder: Path) -> None:
    """The manifest names the weights that lie there now."""
    write_manifest(manifest.model_copy(update={"sha256": {WEIGHTS: sha256_of(folder / WEIGHTS)}}), folder)


@pytest.mark.parametrize("content", [b"", b"no Keras model"], ids=["empty", "text"])
def test_a_file_that_is_no_keras_model_is_refused(manifest: Manifest, tmp_path: Path, content: bytes) -> None:
    (tmp_path / WEIGHTS).write_bytes(content)
    sealed(manifest, tmp_path)

    with pytest.raises(ModelError, match=r"^foreign model: "):
        KerasEngine.load(tmp_path)


@pytest.mark.parametrize(
    ("side_px", "classes", "scale"),
    [(28, 9, 1.0), (28, 12, 1.0), (28, 10, float("nan")), (30, 10, 1.0)],
    ids=["nine classes", "twelve classes", "not finite", "pictures of another size"],
)
def test_a_keras_model_that_is_not_of_ours_is_refused(
    manifest: Manifest, tmp_path: Path, side_px: int, classes: int, scale: float
) -> None:
    import keras

    layers = [
        keras.Input((side_px, side_px, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(classes),
        keras.layers.Rescaling(scale),
    ]
    keras.Sequential(layers).save(tmp_path / WEIGHTS)
    sealed(manifest, tmp_path)

    with pytest.raises(ModelError, match=r"^foreign model: "):
        KerasEngine.load(tmp_path)


@pytest.mark.parametrize("outputs", [10, 11], ids=["the digits alone", "the digits and none"])
def test_a_keras_model_of_ten_or_eleven_logits_is_taken(manifest: Manifest, tmp_path: Path, outputs: int) -> None:
    import keras

    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(outputs)]
    keras.Sequential(layers).save(tmp_path / WEIGHTS)
    sealed(manifest, tmp_path)

    assert KerasEngine.load(tmp_path).logits(np.zeros((3, 28, 28, 1), np.float32)).shape == (3, outputs)


def test_a_model_that_carries_code_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    import keras

    harmful = keras.layers.Lambda(lambda ink: ink, output_shape=(28, 28, 1))
    layers = [keras.Input((28, 28, 1)), harmful, keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers).save(tmp_path / WEIGHTS)
    sealed(manifest, tmp_path)

    with pytest.raises(ModelError, match=r"^foreign model: "):
        KerasEngine.load(tmp_path)
