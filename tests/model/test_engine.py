"""The engines: the shipped model on real images, padding, and files that they refuse to load."""

import json
import pickle
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import ModelError
from app.imaging.preprocess import Mode, find_ink
from app.model.decision import probabilities
from app.model.engine import ENGINES, Engine, KerasEngine, LiteRTEngine
from app.model.manifest import WEIGHTS, Manifest, sha256_of, write_manifest
from tests.drawings import mnist_test

Rows = NDArray[np.float32]

each_engine = pytest.mark.parametrize("kind", ENGINES.values(), ids=ENGINES)

# For a fresh interpreter: loads a model, runs it, and prints which of these libraries were imported.


@pytest.fixture(scope="module")
def engines(model_dir: Path) -> dict[str, Engine]:
    """The shipped model in each."""
    return {name: kind.load(model_dir) for name, kind in ENGINES.items()}


@pytest.fixture(params=ENGINES)
def shipped(request: pytest.FixtureRequest, engines: dict[str, Engine]) -> Engine:
    return engines[request.param]


def sealed(manifest: Manifest, folder: Path, file_name: str) -> None:
    """Write a manifest with the digest of the weights that are there."""
    write_manifest(manifest.model_copy(update={"sha256": {file_name: sha256_of(folder / file_name)}}), folder)


def written(layers: list[keras.Layer], kind: type[Engine], manifest: Manifest, folder: Path) -> None:
    """Save a network of ``layers`` where the engine looks for its model, with a valid manifest."""
    network = keras.Sequential(layers)
    if kind is KerasEngine:
        network.save(folder / kind.file_name)
    else:
        network.export(folder / kind.file_name, format="litert", verbose=False)
    sealed(manifest, folder, kind.file_name)


@pytest.mark.parametrize("mode", ["auto", "plain"])
def test_the_shipped_model_reads_mnist(shipped: Engine, mode: Mode) -> None:
    images, labels = mnist_test()

    digits = shipped.logits(np.stack([find_ink(image, mode).ink for image in images]))[:, :10].argmax(axis=1)

    assert np.count_nonzero(digits != labels) <= 3  # of 200: some of MNIST is hard for people too


def test_the_engines_agree_on_mnist(engines: dict[str, Engine]) -> None:
    inks = np.stack([find_ink(image).ink for image in mnist_test()[0]])

    keras_, litert, int8 = (probabilities(each.logits(inks), each.manifest.temperature) for each in engines.values())

    assert np.abs(keras_ - litert).max() <= 1e-4
    assert np.array_equal(litert.argmax(axis=1), int8.argmax(axis=1))
    assert 1e-4 < np.abs(litert - int8).max() < 0.05


def test_an_ink_gets_the_same_logits_alone_and_in_a_batch(shipped: Engine) -> None:
    inks = np.stack([find_ink(image).ink for image in mnist_test()[0][:67]])

    together = shipped.logits(inks)

    assert together.shape == (67, 11)  # the digits, and no digit
    assert together.dtype == np.float32
    alone = np.concatenate([shipped.logits(each[None]) for each in inks[[0, 30, 66]]])  # none overwrites another
    assert np.allclose(together[[0, 30, 66]], alone, atol=1e-4)


@each_engine
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 64, 65, 130])
def test_any_number_of_inks_runs_in_warm_batch_sizes(manifest: Manifest, kind: type[Engine], count: int) -> None:
    sizes = []

    def run(ink: Rows) -> Rows:
        sizes.append(len(ink))
        return ink[:, :10, 0, 0]

    ink = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)

    assert np.array_equal(kind(manifest, run).logits(ink), ink[:, :10, 0, 0])
    assert set(sizes) <= set(kind.batch_sizes)
    assert sum(sizes) < 2 * max(1, count)


@pytest.mark.parametrize(
    ("kind", "library", "advice"),
    [
        (KerasEngine, "tensorflow", r"needs TensorFlow: pip install '\.\[keras\]'"),
        (LiteRTEngine, "ai_edge_litert.interpreter", r"needs ai-edge-litert: pip install '\.\[litert\]'"),
    ],
    ids=["keras", "litert"],
)
def test_an_engine_without_its_library_says_what_to_install(
    kind: type[Engine], library: str, advice: str, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(ModelError, match=advice):
        kind.load(model_dir)


@each_engine
def test_a_changed_file_is_refused_before_anything_reads_it(
    kind: type[Engine], copied_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rules are in `tests.model.test_manifest`."""
    weights = copied_model / kind.file_name
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    monkeypatch.setattr(kind, "_function", lambda path: pytest.fail(f"{path} was read"))

    with pytest.raises(ModelError, match=rf"^damaged model: .*{kind.file_name}"):
        kind.load(copied_model)


@each_engine
def test_a_file_that_changes_while_it_is_loaded_is_refused(
    kind: type[Engine], copied_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "_function", lambda path: path.write_bytes(b"another"))

    with pytest.raises(ModelError, match=rf"^damaged model: .*{kind.file_name}"):
        kind.load(copied_model)


class Payload:
    """Its pickle makes the file ``ran`` when it is loaded."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.ran,)


@each_engine
@pytest.mark.parametrize("content", ["", "text", "pickle"])
def test_a_file_that_is_not_a_model_is_refused_and_runs_no_code(
    manifest: Manifest, kind: type[Engine], tmp_path: Path, content: str
) -> None:
    ran = tmp_path / "ran"
    (tmp_path / kind.file_name).write_bytes(pickle.dumps(Payload(ran)) if content == "pickle" else content.encode())
    sealed(manifest, tmp_path, kind.file_name)

    with pytest.raises(ModelError, match=r"^incompatible model: "):
        kind.load(tmp_path)
    assert not ran.exists()


@each_engine
@pytest.mark.parametrize(
    ("side_px", "classes", "scale"),
    [(28, 9, 1.0), (28, 12, 1.0), (28, 10, float("nan")), (30, 10, 1.0)],
    ids=["nine classes", "twelve classes", "not finite", "pictures of another size"],
)
def test_a_model_of_another_shape_is_refused(
    manifest: Manifest, kind: type[Engine], tmp_path: Path, side_px: int, classes: int, scale: float
) -> None:
    layers = [
        keras.Input((side_px, side_px, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(classes),
        keras.layers.Rescaling(scale),
    ]
    written(layers, kind, manifest, tmp_path)

    with pytest.raises(ModelError, match=r"^incompatible model: "):
        kind.load(tmp_path)


def _replaced(folder: Path, name: str, layer: dict[str, object]) -> None:
    """Replace the layer of class ``name`` in the model of ``folder`` by ``layer``."""
    with zipfile.ZipFile(folder / WEIGHTS) as archive:
        files = {each: archive.read(each) for each in archive.namelist()}
    config = json.loads(files["config.json"])
    place = next(at for at, each in enumerate(config["config"]["layers"]) if each["class_name"] == name)
    config["config"]["layers"][place] |= layer
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(folder / WEIGHTS, "w") as archive:
        for each, data in files.items():
            archive.writestr(each, data)


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "os", "class_name": "system", "registered_name": None, "config": "touch {ran}"},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "{ran}"}},
        {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {
                "function": {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"}
            },
        },
    ],
    ids=["a command", "a SavedModel", "a lambda by name"],
)
def test_a_keras_model_that_names_code_is_refused_and_runs_none(
    manifest: Manifest, tmp_path: Path, layer: dict[str, object]
) -> None:
    """Even with a valid manifest."""
    ran = tmp_path / "ran"
    layers = [keras.Input((28, 28, 1)), keras.layers.ReLU(), keras.layers.Flatten(), keras.layers.Dense(10)]
    written(layers, KerasEngine, manifest, tmp_path)
    KerasEngine.load(tmp_path)
    _replaced(tmp_path, "ReLU", json.loads(json.dumps(layer).replace("{ran}", str(ran))))
    sealed(manifest, tmp_path, WEIGHTS)

    with pytest.raises(ModelError, match=r"^incompatible model: "):
        KerasEngine.load(tmp_path)
    assert not ran.exists()


def test_a_lambda_is_refused_and_not_run(manifest: Manifest, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    path = str(ran)
    harmful = keras.layers.Lambda(
        lambda ink: (__import__("pathlib").Path(path).touch(), ink)[1], output_shape=(28, 28, 1)
    )
    layers = [keras.Input((28, 28, 1)), harmful, keras.layers.Flatten(), keras.layers.Dense(10)]
    written(layers, KerasEngine, manifest, tmp_path)
    harmed = keras.saving.load_model(tmp_path / WEIGHTS, compile=False, safe_mode=False)
    harmed(np.zeros((1, 28, 28, 1), np.float32))
    ran.unlink()  # it would run

    with pytest.raises(ModelError, match=r"^incompatible model: "):
        KerasEngine.load(tmp_path)
    assert not ran.exists()
