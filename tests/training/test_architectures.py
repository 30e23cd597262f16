import keras
import numpy as np
import pytest
from keras import layers

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
