"""Training: (recipe, run directory) -> weights. Same seed, machine and versions: the same weights, resumed or not.

Runs on any backend of Keras 3. Knows no file format but that of its run directory.
"""

import math
import time
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from app.model.decision import probabilities
from training.architectures import ARCHITECTURES
from training.data import Mnist, split
from training.errors import RecipeError
from training.evaluation.measures import accuracy, nll
from training.preparation import epoch_inputs, find_augmentation, prepare
from training.recipes import Recipe
from training.reporting import plots
from training.reporting.progress import ProgressBar
from training.run_directory import (
    CURVES,
    MODEL,
    SUMMARY,
    EpochFigures,
    open_run,
    restore_checkpoint,
    save_checkpoint,
    save_model,
    write_text,
)

VALIDATION_BATCH = 1000


def fit(
    recipe: Recipe,
    run: Path,
    mnist: Mnist,
    *,
    resume: bool = False,
    workers: int | None = None,
    console: Console | None = None,
) -> None:
    """Train the recipe's network on ``mnist`` and leave everything in ``run``.

    With ``resume`` a run that was killed goes on after its last whole epoch, to the same weights as if it never was.
    ``workers``: processes that distort images, all cores by default; it changes no weight.
    Raises RunError and RecipeError before anything is learnt.
    """
    console = console or Console()
    if recipe.architecture not in ARCHITECTURES:
        raise RecipeError(f"no architecture is called {recipe.architecture!r}; there are {', '.join(ARCHITECTURES)}")
    find_augmentation(recipe.augmentation)
    open_run(run, recipe, mnist.hashes, resume=resume)
    _make_deterministic(recipe.seed)

    learnt, held_out = split(len(mnist.x_train), recipe.validation_share)
    learnt = learnt[: recipe.limit]
    labels = mnist.y_train[learnt]
    validation = prepare(mnist.x_train[held_out], recipe.preprocessing)
    validation_labels = mnist.y_train[held_out]

    steps_per_epoch = math.ceil(len(learnt) / recipe.batch_size)
    model = compiled_model(recipe, steps_per_epoch)
    write_text(run / SUMMARY, _summary(model))
    history = restore_checkpoint(run, model)
    bar = ProgressBar(console, epochs=recipe.epochs, steps_per_epoch=steps_per_epoch, epochs_done=len(history))
    with bar.progress, epoch_inputs(mnist.x_train[learnt], labels, recipe, workers) as inputs:
        for epoch in range(len(history), recipe.epochs):
            started = time.monotonic()
            _seed_dropout(model, recipe.seed, epoch)
            raw_weights = _RawWeights()
            ink, given = inputs.of(epoch)
            logs = model.fit(
                ink,
                _targets(given, recipe, outputs=model.output_shape[-1]),
                batch_size=recipe.batch_size,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                verbose=0,
                callbacks=[bar, raw_weights],
            ).history
            # Here the model holds the averaged weights where the recipe averages: they are what is validated. On JAX it
            # shares their buffers with the optimizer, and prediction gives its buffers away: hence copies.
            model.set_weights(model.get_weights())
            logits = model.predict(validation, batch_size=VALIDATION_BATCH, verbose=0)
            model.set_weights(raw_weights.weights)
            validated = probabilities(logits, temperature=1.0)
            figures = EpochFigures(
                epoch=epoch + 1,
                seconds=round(time.monotonic() - started, 2),
                learning_rate=float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
                loss=float(logs["loss"][0]),
                accuracy=float(logs["accuracy"][0]),
                val_loss=nll(validated, validation_labels),
                val_accuracy=accuracy(validated, validation_labels),
            )
            history.append(figures)
            save_checkpoint(run, model, history)
            console.print(_line(figures), soft_wrap=True, highlight=False)

    if recipe.average_momentum is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    save_model(run / MODEL, model)
    plots.learning_curves(history, run / CURVES)


def compiled_model(recipe: Recipe, steps_per_epoch: int) -> keras.Model:
    """The recipe's untrained network with its optimizer, loss and metric."""
    model = ARCHITECTURES[recipe.architecture]()
    losses = {
        "sparse_categorical_crossentropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "categorical_crossentropy": lambda: keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
    }
    model.compile(optimizer=_optimizer(recipe, steps_per_epoch), loss=losses[recipe.loss](), metrics=["accuracy"])
    return model


class _RawWeights(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the weights of the epoch's last step: after it, `Model.fit` puts the averaged ones in their place."""

    weights: list[NDArray[np.float32]]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.weights = self.model.get_weights()


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    classes = {
        "adam": keras.optimizers.Adam,
        "adadelta": keras.optimizers.Adadelta,
        "sgd": lambda **settings: keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings),
    }
    optimizer = classes[recipe.optimizer](
        learning_rate=_learning_rate(recipe, steps_per_epoch),
        weight_decay=recipe.weight_decay or None,
        use_ema=recipe.average_momentum is not None,
        ema_momentum=recipe.average_momentum or 0.99,
    )
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _learning_rate(recipe: Recipe, steps_per_epoch: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if recipe.schedule == "constant":
        return recipe.learning_rate
    warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else recipe.learning_rate,
        decay_steps=max(1, recipe.epochs * steps_per_epoch - warmup_steps),
        warmup_target=recipe.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def _targets(labels: NDArray[np.int64], recipe: Recipe, outputs: int) -> NDArray[np.int64] | NDArray[np.float32]:
    if recipe.loss == "sparse_categorical_crossentropy":
        return labels
    return np.eye(outputs, dtype=np.float32)[labels]


def _make_deterministic(seed: int) -> None:
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Start the epoch's random numbers anew: Keras writes the state of its generators into no checkpoint."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for place, state in enumerate(states):
        start = int(np.random.SeedSequence([seed, epoch, place]).generate_state(1)[0] >> 1)
        state.assign([start, 0])


def _summary(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=100)
    return "\n".join(lines) + "\n"


def _line(figures: EpochFigures) -> str:
    return (
        f"epoch {figures.epoch:3}  {figures.seconds:6.1f} s  learning rate {figures.learning_rate:.5f}"
        f"  loss {figures.loss:.4f}  accuracy {figures.accuracy:.4f}"
        f"  val_loss {figures.val_loss:.4f}  val_accuracy {figures.val_accuracy:.4f}"
    )
