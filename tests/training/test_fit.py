import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from tests.server import has_ended
from training.data.mnist import Mnist
from training.data.samples import Samples
from training.data.sources import SOURCES
from training.errors import RecipeError, RunError
from training.evaluation.scoring import Scores
from training.fine_tuning import Start
from training.fit import compiled_model, fit
from training.recipes import RECIPES, Recipe
from training.run_directory import environment, read_environment

COMPACT = replace(RECIPES["compact"], epochs=3, batch_size=50, average_momentum=0.9, limit=150)

# Everything that resuming could lose: dropout, averaged weights, batch normalisation, cached augmented images.
RESUMED = {
    "dropout": Recipe(
        name="tiny", architecture="tiny", preprocessing="auto", epochs=2, limit=150, average_momentum=0.9
    ),
    "fine-tuned": Recipe(name="tiny", architecture="tiny", preprocessing="auto", epochs=2, limit=150),
    "augmented": replace(COMPACT, distinct_epochs=None),
    "reused epochs": replace(COMPACT, distinct_epochs=1),
    "rounds": replace(COMPACT, distinct_epochs=None, rounds=(1,)),
}


class Interrupting(Console):
    """Raises KeyboardInterrupt after the first epoch."""

    def print(self, *_: object, **__: object) -> None:
        raise KeyboardInterrupt


def _weights(run: Path) -> list[NDArray[np.float32]]:
    weights: list[NDArray[np.float32]] = keras.saving.load_model(run / "model.keras", compile=False).get_weights()
    return weights


def _same_weights(first: Path, second: Path) -> bool:
    return all(np.array_equal(*pair) for pair in zip(_weights(first), _weights(second), strict=True))


def test_a_run_directory_records_what_the_weights_depend_on(finished_run: Path, recipe: Recipe, mnist: Mnist) -> None:
    assert json.loads((finished_run / "recipe.json").read_text()) == recipe.as_json()
    assert json.loads((finished_run / "data.json").read_text()) == mnist.hashes
    assert json.loads((finished_run / "environment.json").read_text()) == environment()
    assert "Trainable params" in (finished_run / "summary.txt").read_text()
    assert (finished_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not keras.saving.load_model(finished_run / "model.keras").compiled
    assert not list(finished_run.glob("part-*"))


def test_history_has_one_row_per_epoch_and_the_loss_falls(finished_run: Path) -> None:
    with (finished_run / "history.csv").open() as lines:
        first, second = csv.DictReader(lines)
    assert list(first) == ["epoch", "seconds", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert (first["epoch"], second["epoch"]) == ("1", "2")
    assert float(second["loss"]) < float(first["loss"]) < 2.3
    assert float(second["accuracy"]) > 0.4


def test_the_environment_names_no_machine_and_no_person() -> None:
    facts = json.dumps(environment())
    assert os.uname().nodename not in facts
    assert str(Path.home()) not in facts


@pytest.mark.parametrize(
    "case",
    [
        "dropout",
        "fine-tuned",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("augmented", "reused epochs", "rounds")),
    ],
)
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_run(
    case: str, mnist: Mnist, sources: list[Samples], exported: tuple[Path, Scores], tmp_path: Path
) -> None:
    recipe = RESUMED[case]
    start = Start(models=exported[0], images=tmp_path) if case == "fine-tuned" else None
    used = sources if case == "rounds" else []
    fit(recipe, tmp_path / "whole", mnist, used, start, workers=2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "stopped", mnist, used, start, workers=1, console=Interrupting())
    assert not (tmp_path / "stopped" / "model.keras").exists()
    assert (tmp_path / "stopped" / "round-001.npz").exists() == (case == "rounds")
    fit(recipe, tmp_path / "stopped", mnist, used, start, workers=1, resume=True)
    assert _same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_the_seed_changes_the_weights_and_one_hot_labels_can_be_trained(mnist: Mnist, tmp_path: Path) -> None:
    recipe = replace(RECIPES["adadelta"], architecture="tiny", epochs=1, limit=64, label_smoothing=0.1)
    for seed in (0, 1):
        fit(replace(recipe, seed=seed), tmp_path / str(seed), mnist)
    assert not _same_weights(tmp_path / "0", tmp_path / "1")


KILLED = """
import multiprocessing, os, signal, sys
from dataclasses import replace
from pathlib import Path
from rich.console import Console
from training.data.mnist import load_mnist
from training.fit import fit
from training.recipes import RECIPES

class Killing(Console):
    def print(self, *_, **__):
        print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    recipe = replace(RECIPES["compact"], epochs=2, batch_size=50, limit=100)
    fit(recipe, Path(sys.argv[1]), load_mnist(Path(sys.argv[2])), workers=2, console=Killing(stderr=True))
"""


@pytest.mark.slow
def test_a_killed_run_loses_only_the_current_epoch_and_leaves_no_worker(small_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(run), str(small_file)],
        capture_output=True,
        text=True,
        timeout=120,
        # under coverage the killed process would leave a truncated data file
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    workers = [int(pid) for pid in killed.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while not all(map(has_ended, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len((run / "history.csv").read_text().splitlines()) == 2  # the header, and the epoch before


def test_resuming_a_finished_run_changes_no_weight(finished_run: Path, recipe: Recipe, mnist: Mnist) -> None:
    before = _weights(finished_run)
    fit(recipe, finished_run, mnist, resume=True)
    assert all(np.array_equal(*pair) for pair in zip(before, _weights(finished_run), strict=True))


def test_an_existing_run_is_continued_only_on_request_and_with_the_same_recipe_and_data(
    finished_run: Path, recipe: Recipe, mnist: Mnist
) -> None:
    with pytest.raises(RunError, match=r"is not empty.*--resume"):
        fit(recipe, finished_run, mnist)
    with pytest.raises(RunError, match="different recipe"):
        fit(replace(recipe, seed=7), finished_run, mnist, resume=True)
    with pytest.raises(RunError, match="different data"):
        fit(recipe, finished_run, replace(mnist, hashes={}), resume=True)
    samples = Samples(SOURCES["hds_shapes"], {"label": np.array(["other"])}, np.array([0]))
    with pytest.raises(RunError, match="different data"):
        fit(recipe, finished_run, mnist, [samples], resume=True)


def test_a_run_trained_with_another_preprocessing_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({**environment(), "preprocessing": "0"}))
    with pytest.raises(RunError, match="another preprocessing version"):
        read_environment(tmp_path)


def test_a_recipe_with_an_unknown_name_creates_no_directory(mnist: Mnist, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'nothing'"):
        fit(replace(RECIPES["yalcin"], architecture="nothing"), tmp_path / "run", mnist)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("warmup_epochs", "restart", "expected"),
    [(2, None, [0, 0.005, 0.01, 0.005, 0]), (0, None, [0.01]), (0, 6, [0.01, 0.00933, 0.0075, 0.005, 0])],
)
def test_the_learning_rate_follows_warmup_cosine_and_restart(
    warmup_epochs: int, restart: int | None, expected: list[float]
) -> None:
    recipe = replace(RECIPES["compact"], architecture="tiny", learning_rate=0.01, epochs=10)
    recipe = replace(recipe, warmup_epochs=warmup_epochs, restart=restart)
    optimizer = compiled_model(recipe, steps_per_epoch=100).optimizer
    rates = []
    for step in (0, 100, 200, 600, 1000)[: len(expected)]:
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx(expected, abs=2e-6)


def test_weight_decay_applies_to_kernels_only() -> None:
    model = compiled_model(replace(RECIPES["compact"], architecture="tiny", weight_decay=0.1), 10)
    model.set_weights([np.ones_like(weights) for weights in model.get_weights()])
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(10)  # after warm-up
    model.optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    weights = {variable.name: keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables}
    assert {name for name, values in weights.items() if values.max() < 1} == {"kernel"}
