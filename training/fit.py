"""Training: (recipe, run directory) -> weights. Same seed, machine and versions: same weights, resumed or not.

Runs on any Keras 3 backend. The only file format it knows is the run directory.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from app.model.decision import probabilities
from app.model.manifest import WEIGHTS
from training.architectures import ARCHITECTURES
from training.data.mnist import Mnist, split
from training.data.samples import Samples
from training.data.sources import OWN
from training.errors import RecipeError
from training.evaluation.measures import accuracy, nll
from training.fine_tuning import Start
from training.preparation import EpochInputs, Kept, epoch_inputs, prepare
from training.recipes import Recipe
from training.reporting import plots
from training.reporting.progress import ProgressBar
from training.rounds import resampled
from training.run_directory import (
    CURVES,
    MODEL,
    START,
    SUMMARY,
    EpochFigures,
    open_run,
    read_round,
    restore_checkpoint,
    save_checkpoint,
    save_model,
    save_round,
    write_text,
)

VALIDATION_BATCH = 1000


def fit(
    recipe: Recipe,
    run_directory: Path,
    mnist: Mnist,
    sources: Sequence[Samples] = (),
    start: Start | None = None,
    *,
    resume: bool = False,
    workers: int | None = None,
    console: Console | None = None,
) -> None:
    """Train ``recipe`` on ``mnist`` and write everything to ``run_directory``.

    ``resume`` continues a killed run after its last complete epoch and gives the weights of an uninterrupted run.
    ``sources``: those of the recipe, and own pictures. They are recorded with the run, like ``start``, which has the
    model to fine-tune.
    ``workers``: processes that augment images, all cores by default; the number does not affect the weights.
    Raises RunError or RecipeError before training starts.
    """
    console = console or Console()
    if recipe.architecture not in ARCHITECTURES:
        raise RecipeError(f"unknown architecture {recipe.architecture!r}; choose one of {', '.join(ARCHITECTURES)}")
    open_run(run_directory, recipe, mnist.hashes, [samples.record for samples in sources], resume=resume)
    _make_deterministic(recipe.seed)
    sources = [samples if samples.source.name in OWN else samples.split()[0] for samples in sources]

    train, held_out = split(len(mnist.x_train), recipe.validation_share)
    train = train[: recipe.limit]
    validation_ink = prepare(mnist.x_train[held_out], recipe.preprocessing)
    validation_labels = mnist.y_train[held_out]

    steps_per_epoch = math.ceil(len(train) / recipe.batch_size)
    model = compiled_model(recipe, steps_per_epoch)
    if start:
        write_text(run_directory / START, start.model_dump_json())
        exported = keras.saving.load_model(start.models / WEIGHTS, compile=False, safe_mode=True)
        model.set_weights(exported.get_weights())
    write_text(run_directory / SUMMARY, _summary(model))
    history = restore_checkpoint(run_directory, model)
    bar = ProgressBar(console, epochs=recipe.epochs, steps_per_epoch=steps_per_epoch, epochs_done=len(history))
    kept = partial(read_round, run_directory)
    grey, digits = mnist.x_train[train], mnist.y_train[train]
    with bar.progress, epoch_inputs(grey, digits, recipe, workers, sources, kept) as inputs:
        for epoch in range(len(history), recipe.epochs):
            started = time.monotonic()
            _seed_dropout(model, recipe.seed, epoch)
            last_step = _LastStepWeights()
            ink, labels = inputs.of(epoch)
            logs = model.fit(
                ink,
                _targets(labels, recipe, outputs=model.output_shape[-1]),
                batch_size=recipe.batch_size,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                verbose=0,
                callbacks=[bar, last_step],
            ).history
            # If the recipe averages weights, the model now holds the averages: validate those. On JAX they share
            # buffers with the optimizer, and predict() donates its buffers, so copy them first.
            model.set_weights(model.get_weights())
            logits = model.predict(validation_ink, batch_size=VALIDATION_BATCH, verbose=0)
            validation_probabilities = probabilities(logits, temperature=1.0)
            figures = EpochFigures(
                epoch=epoch + 1,
                seconds=round(time.monotonic() - started, 2),
                learning_rate=float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
                loss=float(logs["loss"][0]),
                accuracy=float(logs["accuracy"][0]),
                val_loss=nll(validation_probabilities, validation_labels),
                val_accuracy=accuracy(validation_probabilities, validation_labels),
            )
            history.append(figures)
            if epoch + 1 in recipe.rounds:
                save_round(run_directory, epoch + 1, _round(inputs, sources, model, recipe.seed + epoch))
            model.set_weights(last_step.weights)
            save_checkpoint(run_directory, model, history)
            console.print(_line(figures), soft_wrap=True, highlight=False)

    if recipe.average_momentum is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    save_model(run_directory / MODEL, model)
    plots.learning_curves(history, run_directory / CURVES)


def _round(inputs: EpochInputs, sources: Sequence[Samples], model: keras.Model, seed: int) -> Kept:
    """The outliers of each source, drawn once, read by ``model`` and drawn again by how hard they are."""
    kept = {}
    for place, samples in enumerate(sources):
        if samples.source.kind == "outliers":
            ink = inputs.draw_each(place, len(samples))
            logits = model.predict(ink, batch_size=VALIDATION_BATCH, verbose=0)
            kept[samples.source.name] = resampled(samples.kept, logits, seed)
    return kept


def compiled_model(recipe: Recipe, steps_per_epoch: int) -> keras.Model:
    """The recipe's untrained network with optimizer, loss and metric."""
    model = ARCHITECTURES[recipe.architecture]()
    losses = {
        "sparse_categorical_crossentropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "categorical_crossentropy": lambda: keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
    }
    model.compile(optimizer=_optimizer(recipe, steps_per_epoch), loss=losses[recipe.loss](), metrics=["accuracy"])
    return model


class _LastStepWeights(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Saves the weights of the epoch's last step, before `Model.fit` replaces them by their moving average."""

    weights: list[NDArray[np.float32]]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.weights = self.model.get_weights()


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    classes = {"adam": keras.optimizers.Adam, "adadelta": keras.optimizers.Adadelta}
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
    restart = min(recipe.restart or recipe.epochs, recipe.epochs) * steps_per_epoch
    first = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else recipe.learning_rate,
        decay_steps=max(1, restart - warmup_steps),
        warmup_target=recipe.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    left = recipe.epochs * steps_per_epoch - restart
    if not left:
        return first
    return _Restarted(first, keras.optimizers.schedules.CosineDecay(recipe.learning_rate / 2, left), restart)


class _Restarted(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # Keras has no types
    """One schedule, and from step ``restart`` on another. Source: Loshchilov and Hutter 2017, SGDR."""

    def __init__(self, first: Callable[..., Any], second: Callable[..., Any], restart: int) -> None:
        self._first, self._second, self._restart = first, second, restart

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        again = keras.ops.maximum(step - self._restart, 0)
        return keras.ops.where(step < self._restart, self._first(step), self._second(again))

    def get_config(self) -> dict[str, object]:
        return {"restart": self._restart}  # checkpoints name it; the recipe makes it again


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
    """Reseed the random generators each epoch, because Keras does not write their state to checkpoints."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for index, state in enumerate(states):
        start = int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0] >> 1)
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
