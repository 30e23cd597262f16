"""The progress bar of a training run: one bar over all batches of all epochs."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

REFRESH_S = 0.25  # reading a metric waits for the device, so do it rarely


class ProgressBar(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Follows `Model.fit`: shows loss and accuracy of the current epoch and the remaining time."""

    def __init__(self, console: Console, *, epochs: int, steps_per_epoch: int, epochs_done: int) -> None:
        super().__init__()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._done = epochs_done * steps_per_epoch
        self._task = self.progress.add_task("", total=epochs * steps_per_epoch, completed=self._done, figures="")
        self._refreshed = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.progress.update(self._task, description=f"epoch {epoch + 1}/{self._epochs}")
        self._done = epoch * self._steps_per_epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.monotonic()
        if now - self._refreshed < REFRESH_S or not logs:
            return
        self._refreshed = now
        figures = f"loss {float(logs['loss']):.4f} accuracy {float(logs['accuracy']):.4f}"
        self.progress.update(self._task, completed=self._done + batch + 1, figures=figures)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.progress.update(self._task, completed=(epoch + 1) * self._steps_per_epoch)
