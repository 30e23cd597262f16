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
    """Convolutions with batch normalisation, most of them residual; each map at the end has a weighting of its own.

    Few filters where the frame is large: a convolution of 32 filters at 28x28 would cost 7.2 million multiply-adds by
    itself, so that the first one has a stride of 2. An eleventh logit speaks for what is no digit.
    """
    picture = layers.Input(INPUT_SHAPE)
    maps = _convolved(picture, 32, size=5, stride=2)
    maps = layers.MaxPooling2D()(_residual(maps))
    maps = _residual(_convolved(maps, 56))
    maps = layers.MaxPooling2D(padding="same")(_residual(maps, excited=True))
    maps = _residual(_convolved(maps, 104), excited=True)
    weighted = layers.BatchNormalization()(layers.DepthwiseConv2D(4, use_bias=False)(maps))
    logits = layers.Dense(CLASSES + 1, name="logits")(layers.Flatten()(weighted))
    return keras.Model(picture, logits, name="compact")


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


def _convolved(
    maps: keras.KerasTensor, filters: int, *, size: int = 3, stride: int = 1, activated: bool = True
) -> keras.KerasTensor:
    convolved = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(maps)
    normalised = layers.BatchNormalization()(convolved)
    return layers.ReLU()(normalised) if activated else normalised


def _residual(maps: keras.KerasTensor, *, excited: bool = False) -> keras.KerasTensor:
    """The maps and what a convolution adds to them, ``excited``: weighted map by map by what it is overall.

    Sources: He et al. 2016, Deep Residual Learning; Hu, Shen and Sun 2018, Squeeze-and-Excitation Networks.
    """
    filters = maps.shape[-1]
    added = _convolved(maps, filters, activated=False)
    if excited:
        overall = layers.GlobalAveragePooling2D(keepdims=True)(added)
        squeezed = layers.Conv2D(filters // 4, 1, activation="relu")(overall)
        added = layers.Multiply()([added, layers.Conv2D(filters, 1, activation="sigmoid")(squeezed)])
    return layers.ReLU()(layers.Add()([maps, added]))


def _sequential(name: str, *body: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input(INPUT_SHAPE), *body, layers.Dense(CLASSES, name="logits")], name=name)
