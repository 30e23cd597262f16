"""Architectures: a name -> an untrained keras.Model from (28, 28, 1) to ten logits. Knows no data and no optimiser.

The networks of the tutorials end in a softmax and learn from probabilities. Here every network ends in logits and its
loss takes logits: the same function and the same gradient, and a temperature can be fitted to it afterwards.
"""

from collections.abc import Callable
from math import prod

import keras
from keras import layers

INPUT_SHAPE = (28, 28, 1)
CLASSES = 10


def soorya() -> keras.Model:
    """Three blocks of 64 filters, then 64 and 32 units."""
    return _sequential(
        "soorya",
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(32, activation="relu"),
    )


def yalcin() -> keras.Model:
    """One convolution, linear as its author left it, then 128 units with dropout."""
    return _sequential(
        "yalcin",
        layers.Conv2D(28, 3),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.2),
    )


def rajwal() -> keras.Model:
    """Three blocks of 25, 64 and 64 filters, then 64 units."""
    return _sequential(
        "rajwal",
        layers.Conv2D(25, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
    )


def adadelta() -> keras.Model:
    """The network of the first Keras MNIST example: two convolutions, one pooling, 128 units, dropout."""
    return _sequential(
        "adadelta",
        layers.Conv2D(32, 3, activation="relu"),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.5),
    )


def compact() -> keras.Model:
    """All-convolutional, batch normalisation after each 3x3 convolution, global average pooling at the end.

    An eleventh logit speaks for what is no digit. Few filters where the frame is large: a second convolution of 32
    filters at 28x28 would cost 7.2 million multiply-adds by itself.
    """
    return _sequential(
        "compact",
        *_convolution(16),
        layers.MaxPooling2D(),
        *_convolution(32),
        *_convolution(32),
        layers.MaxPooling2D(),
        *_convolution(64),
        *_convolution(64),
        layers.MaxPooling2D(padding="same"),
        *_convolution(96),
        *_convolution(96),
        layers.GlobalAveragePooling2D(),
        outputs=CLASSES + 1,
    )


ARCHITECTURES: dict[str, Callable[[], keras.Model]] = {
    "soorya": soorya,
    "yalcin": yalcin,
    "rajwal": rajwal,
    "adadelta": adadelta,
    "compact": compact,
}


def multiply_adds(model: keras.Model) -> int:
    """Multiplications, each with an addition, that one image costs in convolutions and dense layers alone."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            _, rows, columns, _ = layer.output.shape
            total += rows * columns * prod(layer.kernel.shape)
        elif isinstance(layer, layers.Dense):
            total += prod(layer.kernel.shape)
    return total


def _convolution(filters: int) -> tuple[keras.Layer, ...]:
    return (
        layers.Conv2D(filters, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
    )


def _sequential(name: str, *body: keras.Layer, outputs: int = CLASSES) -> keras.Model:
    return keras.Sequential([layers.Input(INPUT_SHAPE), *body, layers.Dense(outputs, name="logits")], name=name)
