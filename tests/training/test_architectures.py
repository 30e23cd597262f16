import keras
import numpy as np
import pytest
from keras import layers

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
    assert multiply_adds(compact()) == 7_925_304  # as in the model card
