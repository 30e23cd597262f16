"""The run directory: everything a training run writes. A run killed at any moment loses only the current epoch.

state.json names its checkpoint and is replaced last, so the two always match. Keras is imported by the functions that
need it, not with this module.
"""

import csv
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter

from app.imaging.preprocess import VERSION
from app.model.manifest import TrainingSource
from training.data.arrays import read_npz
from training.errors import RunError
from training.recipes import Recipe, read_recipe

if TYPE_CHECKING:
    import keras

MODEL = "model.keras"
RECIPE = "recipe.json"
DATA = "data.json"
SOURCES = "sources.json"
ENVIRONMENT = "environment.json"
HISTORY = "history.csv"
SUMMARY = "summary.txt"
START = "start.json"
CURVES = "curves.png"
STATE = "state.json"
ROUND = "round-{:03}.npz"  # by the epoch after which it was made


@dataclass(frozen=True)
class EpochFigures:
    """One row of history.csv. ``learning_rate`` is the value at the epoch's last step; losses are in nats."""

    epoch: int
    seconds: float
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


def open_run(
    run: Path, recipe: Recipe, hashes: dict[str, str], sources: Sequence[TrainingSource] = (), *, resume: bool
) -> None:
    """Create the directory and record recipe, data and environment; or check them against an existing run.

    Raises RunError if the directory is not empty and ``resume`` is False, or if recipe, data or preprocessing differ.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())) and not resume:
        raise RunError(f"{run} is not empty: choose another --run, or pass --resume to continue it")
    if (run / RECIPE).exists():
        if read_recipe(run / RECIPE) != recipe:
            raise RunError(f"{run} was started with a different recipe, seed, epochs or limit: see its {RECIPE}")
        if json.loads((run / DATA).read_bytes()) != hashes or read_sources(run) != tuple(sources):
            raise RunError(f"{run} was started with different data: see its {DATA} and {SOURCES}")
        read_environment(run)
        return
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / ENVIRONMENT, dict(environment()))
    write_json(run / DATA, dict(hashes))
    write_json(run / SOURCES, [source.model_dump() for source in sources])
    write_json(run / RECIPE, recipe.as_json())


def read_sources(run: Path) -> tuple[TrainingSource, ...]:
    """What the run learns from besides MNIST."""
    path = run / SOURCES  # runs of earlier versions have none
    return tuple(TypeAdapter(list[TrainingSource]).validate_json(path.read_bytes())) if path.exists() else ()


def read_environment(run: Path) -> dict[str, str]:
    """The `environment` at the start of the run. Raises RunError if the preprocessing version has changed since."""
    recorded: dict[str, str] = json.loads((run / ENVIRONMENT).read_bytes())
    if recorded.get("preprocessing") != VERSION:
        raise RunError(f"{run} was trained with another preprocessing version than {VERSION}: train it again")
    return recorded


def save_checkpoint(run: Path, model: "keras.Model", history: list[EpochFigures]) -> None:
    """Write weights, optimizer, random state and history; then delete the previous checkpoint."""
    checkpoint = f"checkpoint-{len(history):03}.keras"
    _replace(run / checkpoint, model.save)
    write_json(run / STATE, {"checkpoint": checkpoint, "history": [asdict(figures) for figures in history]})
    write_history(run / HISTORY, history)
    for older in run.glob("checkpoint-*.keras"):
        if older.name != checkpoint:
            older.unlink()


def restore_checkpoint(run: Path, model: "keras.Model") -> list[EpochFigures]:
    """Load the last checkpoint into a compiled model and return its history; an empty list if there is none."""
    if not (run / STATE).exists():
        return []
    state = json.loads((run / STATE).read_bytes())
    model.optimizer.build(model.trainable_variables)
    model.load_weights(run / state["checkpoint"])
    return [EpochFigures(**row) for row in state["history"]]


def save_round(run: Path, epoch: int, kept: Mapping[str, NDArray[np.int64]]) -> None:
    """Write which samples of each source are drawn from after this epoch."""
    _replace(run / ROUND.format(epoch), lambda part: np.savez(part, allow_pickle=False, **kept))


def read_round(run: Path, before: int) -> dict[str, NDArray[np.int64]]:
    """The last round of fewer epochs than ``before``; empty if there is none.

    The epoch after a round is drawn while the round is made, so it takes the round before.
    """
    rounds = [path for epoch in range(before) if (path := run / ROUND.format(epoch)).exists()]
    return {name: kept.astype(np.int64) for name, kept in read_npz(rounds[-1]).items()} if rounds else {}


def save_model(path: Path, model: "keras.Model") -> None:
    """Write the network and its weights, without optimizer or loss."""
    bare = model.__class__.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    _replace(path, bare.save)


def write_history(path: Path, history: list[EpochFigures]) -> None:
    """Write the history as CSV: a header, then one row per epoch."""
    table = StringIO(newline="")
    writer = csv.DictWriter(table, [field.name for field in fields(EpochFigures)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(figures) for figures in history)
    write_text(path, table.getvalue())


def read_history_table(path: Path) -> list[EpochFigures]:
    """Read a file written by `write_history`."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [
            EpochFigures(int(row.pop("epoch")), **{name: float(value) for name, value in row.items()})
            for row in csv.DictReader(lines)
        ]


def write_json(path: Path, value: JsonValue) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    _replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def environment() -> dict[str, str]:
    """The library versions, processor and date that the weights depend on. Names no machine and no person."""
    import keras

    backend = keras.backend.backend()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "backend": backend,
        "keras": keras.__version__,
        **{name: found for name in ("tensorflow", "tensorflow-cpu", "jax") if (found := _version(name))},
        "numpy": version("numpy"),
        "opencv": cv2.__version__,
        "preprocessing": VERSION,
        "cpu": _cpu_model(),
        "cpu_count": str(os.cpu_count()),
    }


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f"part-{path.name}")
    write(part)
    part.replace(path)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
