from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from app.imaging.preprocess import Ink, ink_from_grey
from app.model.engine import LiteRTEngine
from tests.drawings import digit_drawn
from training.architectures import ARCHITECTURES, compact, multiply_adds


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_turns_28x28_into_a_logit_a_digit_and_ours_into_one_more_for_none(name: str) -> None:
    model = ARCHITECTURES[name]()
    logits = keras.ops.convert_to_numpy(model(np.zeros((3, 28, 28, 1), np.float32)))
    assert logits.shape == (3, 11 if name == "compact" else 10)
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("soorya", 81_066), ("yalcin", 607_394), ("rajwal", 56_452), ("adadelta", 1_199_882)],
)
def test_the_networks_of_the_tutorials_have_as_many_parameters_as_published(name: str, parameters: int) -> None:
    assert ARCHITECTURES[name]().count_params() == parameters


def test_compact_keeps_within_its_budget() -> None:
    model = compact()
    assert model.count_params() <= 500_000
    assert multiply_adds(model) <= 8_000_000


def test_compact_is_as_large_as_it_is_said_to_be() -> None:
    model = compact()
    assert (model.count_params(), multiply_adds(model)) == (244_523, 7_925_304)


@pytest.fixture(scope="module")
def learnt() -> keras.Model:
    """`compact` with weights and moving averages as a training leaves them: none is 0 or 1."""
    model = compact()
    random = np.random.default_rng(0)
    model.set_weights([weights + random.uniform(0.01, 0.1, weights.shape) for weights in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def ink() -> Ink:
    return np.stack([ink_from_grey(digit_drawn(digit)) for digit in range(4)])  # as many as LiteRT takes at once


def test_compact_answers_the_same_once_it_was_written_and_read(learnt: keras.Model, ink: Ink, tmp_path: Path) -> None:
    learnt.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert np.array_equal(read.predict(ink, verbose=0), learnt.predict(ink, verbose=0))


def test_compact_answers_nearly_the_same_in_litert(learnt: keras.Model, ink: Ink, tmp_path: Path) -> None:
    learnt.export(tmp_path / "model.tflite", format="litert", verbose=False)
    logits = LiteRTEngine._function(tmp_path / "model.tflite")(ink)
    expected = learnt.predict(ink, verbose=0)
    assert logits.shape == (4, 11)
    assert np.ptp(expected, axis=0).min() > 1e-3  # or else any answer would be near
    assert np.allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_multiply_adds_are_those_counted_by_hand() -> None:
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.DepthwiseConv2D(3, padding="valid"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    assert multiply_adds(model) == 14 * 14 * 9 * 4 + 12 * 12 * 9 * 4 + 12 * 12 * 4 * 10
