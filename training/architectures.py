"""Architectures: untrained keras.Model by name, from ink (n, 28, 28, 1) to logits. Independent of data and optimizer.

The tutorials' networks end in a softmax. Here all networks end in logits and the loss takes logits: the function and
the gradient are the same, and a temperature can be fitted afterwards.
"""

from collections.abc import Callable
from math import prod

import keras
from keras import layers

from app.model.decision import DIGITS

INPUT_SHAPE = (28, 28, 1)


def soorya() -> keras.Model:
    """Three convolutions of 64 filters with pooling, then 64 and 32 units."""
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
    """One convolution, without activation as in the tutorial, then 128 units with dropout."""
    return _sequential(
        "yalcin",
        layers.Conv2D(28, 3),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dropout(0.2),
    )


def rajwal() -> keras.Model:
    """Three convolutions of 25, 64 and 64 filters with pooling, then 64 units."""
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
    """The network of the first Keras MNIST example: two convolutions, pooling, 128 units, dropout."""
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
    """Residual convolutions with batch normalisation, then a depthwise convolution as learned pooling.

    The first convolution has stride 2: at 28×28 the second one, 32 to 32 filters, would cost 7.2 million multiply-adds.
    The eleventh logit stands for "not a digit".
    """
    ink = layers.Input(INPUT_SHAPE)
    maps = _convolution(ink, 32, size=5, stride=2)
    maps = layers.MaxPooling2D()(_residual(maps))
    maps = _residual(_convolution(maps, 56))
    maps = layers.MaxPooling2D(padding="same")(_residual(maps, squeeze_excite=True))
    maps = _residual(_convolution(maps, 104), squeeze_excite=True)
    pooled = layers.BatchNormalization()(layers.DepthwiseConv2D(4, use_bias=False)(maps))
    logits = layers.Dense(DIGITS + 1, name="logits")(layers.Flatten()(pooled))
    return keras.Model(ink, logits, name="compact")


ARCHITECTURES: dict[str, Callable[[], keras.Model]] = {
    "soorya": soorya,
    "yalcin": yalcin,
    "rajwal": rajwal,
    "adadelta": adadelta,
    "compact": compact,
}


def multiply_adds(model: keras.Model) -> int:
    """Multiply-adds per image in convolutions and dense layers."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            _, rows, columns, _ = layer.output.shape
            total += rows * columns * prod(layer.kernel.shape)
        elif isinstance(layer, layers.Dense):
            total += prod(layer.kernel.shape)
    return total


def _convolution(
    maps: keras.KerasTensor, filters: int, *, size: int = 3, stride: int = 1, activation: bool = True
) -> keras.KerasTensor:
    convolved = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(maps)
    normalised = layers.BatchNormalization()(convolved)
    return layers.ReLU()(normalised) if activation else normalised


def _residual(maps: keras.KerasTensor, *, squeeze_excite: bool = False) -> keras.KerasTensor:
    """A residual block of one convolution, optionally with squeeze-and-excitation.

    Sources: He et al. 2016, Deep Residual Learning; Hu, Shen and Sun 2018, Squeeze-and-Excitation Networks.
    """
    filters = maps.shape[-1]
    added = _convolution(maps, filters, activation=False)
    if squeeze_excite:
        means = layers.GlobalAveragePooling2D(keepdims=True)(added)
        squeezed = layers.Conv2D(filters // 4, 1, activation="relu")(means)
        added = layers.Multiply()([added, layers.Conv2D(filters, 1, activation="sigmoid")(squeezed)])
    return layers.ReLU()(layers.Add()([maps, added]))


def _sequential(name: str, *body: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input(INPUT_SHAPE), *body, layers.Dense(DIGITS, name="logits")], name=name)
