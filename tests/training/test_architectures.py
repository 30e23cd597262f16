from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from app.imaging.preprocess import ink_from_grey
from app.model.engine import LiteRTEngine
from tests.drawings import digit_drawn
from training.architectures import ARCHITECTURES, compact, multiply_adds


@pytest.mark.parametrize(
    ("name", "outputs", "parameters"),
    [
        ("soorya", 10, 81_066),
        ("yalcin", 10, 607_394),
        ("rajwal", 10, 56_452),
        ("adadelta", 10, 1_199_882),
        ("compact", 11, 244_523),
    ],
)
def test_networks_end_in_logits_and_have_the_published_size(name: str, outputs: int, parameters: int) -> None:
    model = ARCHITECTURES[name]()
    assert model(np.zeros((3, 28, 28, 1), np.float32)).shape == (3, outputs)
    assert model.layers[-1].activation is keras.activations.linear
    assert model.count_params() == parameters


def test_multiply_adds_match_a_count_by_hand() -> None:
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
    assert multiply_adds(compact()) == 7_925_304


@pytest.mark.slow
def test_compact_gives_the_same_logits_in_litert(tmp_path: Path) -> None:
    model = compact()
    random = np.random.default_rng(0)  # no weight or moving average is 0 or 1, as after training
    model.set_weights([weights + random.uniform(0.01, 0.1, weights.shape) for weights in model.get_weights()])
    ink = np.stack([ink_from_grey(digit_drawn(digit)) for digit in range(4)])
    model.export(tmp_path / "model.tflite", format="litert", verbose=False)
    logits = LiteRTEngine._function(tmp_path / "model.tflite")(ink)
    expected = model.predict(ink, verbose=0)
    assert logits.shape == (4, 11)
    assert np.ptp(expected, axis=0).min() > 1e-3  # otherwise any logits would match
    assert np.allclose(logits, expected, rtol=1e-3, atol=1e-4)
