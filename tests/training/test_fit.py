import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from training.data import Mnist
from training.errors import RecipeError, RunError
from training.fit import compiled_model, fit
from training.recipes import RECIPES, Recipe
from training.run_directory import environment, read_environment

# Dropout and no averaging; distortions, averaging and batch normalisation; images kept to be learnt again: all that
# resuming could lose.
RESUMED = {
    "dropout": replace(RECIPES["yalcin"], epochs=3),
    "distorted": replace(
        RECIPES["compact"], epochs=3, distinct_epochs=None, batch_size=50, average_momentum=0.9, limit=150
    ),
    "learnt again": replace(
        RECIPES["compact"], epochs=3, distinct_epochs=1, batch_size=50, average_momentum=0.9, limit=150
    ),
}


class Interrupting(Console):
    """A console that is interrupted when it is told of the first epoch."""

    def print(self, *_: object, **__: object) -> None:
        raise KeyboardInterrupt


def _weights(run: Path) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    weights: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = keras.saving.load_model(
        run / "model.keras", compile=False
    ).get_weights()
    return weights


def _same_weights(first: Path, second: Path) -> bool:
    return all(np.array_equal(*pair) for pair in zip(_weights(first), _weights(second), strict=True))


def test_a_run_leaves_everything_that_explains_it(finished_run: Path, recipe: Recipe, mnist: Mnist) -> None:
    assert json.loads((finished_run / "recipe.json").read_text()) == asdict(recipe)
    assert json.loads((finished_run / "data.json").read_text()) == mnist.hashes
    assert json.loads((finished_run / "environment.json").read_text()) == environment()
    assert "Trainable params" in (finished_run / "summary.txt").read_text()
    assert (finished_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(finished_run.glob("part-*"))


def test_history_has_one_row_an_epoch(finished_run: Path) -> None:
    with (finished_run / "history.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == ["epoch", "seconds", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"]


def test_a_network_learns(finished_run: Path) -> None:
    with (finished_run / "history.csv").open() as lines:
        first, second = csv.DictReader(lines)
    assert float(second["loss"]) < float(first["loss"]) < 2.3
    assert float(second["accuracy"]) > 0.4


def test_the_environment_names_no_machine_and_no_person() -> None:
    facts = json.dumps(environment())
    assert os.uname().nodename not in facts
    assert str(Path.home()) not in facts


def test_the_model_that_is_kept_has_neither_optimizer_nor_loss(finished_run: Path) -> None:
    assert not keras.saving.load_model(finished_run / "model.keras").compiled


@pytest.mark.parametrize("what", RESUMED)
def test_a_resumed_run_ends_at_the_very_weights_of_one_that_was_never_stopped(
    what: str, mnist: Mnist, tmp_path: Path
) -> None:
    recipe = RESUMED[what]
    fit(recipe, tmp_path / "whole", mnist, workers=2)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "stopped", mnist, workers=1, console=Interrupting())
    assert not (tmp_path / "stopped" / "model.keras").exists()
    fit(recipe, tmp_path / "stopped", mnist, workers=1, resume=True)
    assert _same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_another_seed_gives_other_weights(mnist: Mnist, tmp_path: Path) -> None:
    for seed in (0, 1):
        fit(replace(RECIPES["rajwal"], epochs=1, limit=64, seed=seed), tmp_path / str(seed), mnist)
    assert not _same_weights(tmp_path / "0", tmp_path / "1")


KILLED = """
import multiprocessing, os, signal, sys
from dataclasses import replace
from pathlib import Path
from rich.console import Console
from training.data import load_mnist
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


def test_a_killed_run_loses_the_running_epoch_alone_and_leaves_no_worker_behind(
    small_file: Path, mnist: Mnist, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(run), str(small_file)],
        capture_output=True,
        text=True,
        timeout=120,
        # measured by coverage, it would leave half a file of data behind
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    workers = [int(pid) for pid in killed.stdout.split()]
    assert len(workers) == 2
    until = time.monotonic() + 10
    while any(_lives(pid) for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.05)

    recipe = replace(RECIPES["compact"], epochs=2, batch_size=50, limit=100)
    before = (run / "history.csv").read_text()
    fit(recipe, run, mnist, workers=1, resume=True)
    assert (run / "history.csv").read_text().startswith(before)
    assert (run / "model.keras").exists()


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_finished_run_can_be_finished_again(finished_run: Path, recipe: Recipe, mnist: Mnist) -> None:
    before = _weights(finished_run)
    fit(recipe, finished_run, mnist, resume=True)
    assert all(np.array_equal(*pair) for pair in zip(before, _weights(finished_run), strict=True))


def test_a_directory_that_holds_something_is_left_alone(finished_run: Path, recipe: Recipe, mnist: Mnist) -> None:
    with pytest.raises(RunError, match=r"is not empty.*--resume"):
        fit(recipe, finished_run, mnist)


def test_a_run_is_not_resumed_with_another_recipe(finished_run: Path, recipe: Recipe, mnist: Mnist) -> None:
    with pytest.raises(RunError, match="another recipe"):
        fit(replace(recipe, seed=7), finished_run, mnist, resume=True)


def test_a_run_is_not_resumed_with_other_data(finished_run: Path, recipe: Recipe, mnist: Mnist) -> None:
    with pytest.raises(RunError, match="other data"):
        fit(recipe, finished_run, replace(mnist, hashes={}), resume=True)


def test_a_run_that_learnt_through_another_preprocessing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({**environment(), "preprocessing": "0"}))
    with pytest.raises(RunError, match="another version of the preprocessing"):
        read_environment(tmp_path)


@pytest.mark.parametrize("field", ["architecture", "augmentation"])
def test_a_recipe_that_names_what_is_not_there_leaves_no_directory(field: str, mnist: Mnist, tmp_path: Path) -> None:
    changed: dict[str, str] = {field: "nothing"}
    with pytest.raises(RecipeError, match="'nothing'"):
        fit(replace(RECIPES["yalcin"], **changed), tmp_path / "run", mnist)  # type: ignore[arg-type]  # str fields
    assert not (tmp_path / "run").exists()


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    optimizer = compiled_model(
        replace(RECIPES["compact"], learning_rate=0.01, warmup_epochs=2, epochs=10), steps_per_epoch=100
    ).optimizer
    rates = []
    for step in (0, 100, 200, 600, 1000):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0, 0.005, 0.01, 0.005, 0], abs=1e-6)


def test_without_warm_up_the_cosine_starts_at_its_peak() -> None:
    recipe = replace(RECIPES["compact"], learning_rate=0.01, warmup_epochs=0)
    assert float(compiled_model(recipe, 10).optimizer.learning_rate) == pytest.approx(0.01)


def test_weight_decay_spares_all_but_kernels() -> None:
    model = compiled_model(replace(RECIPES["compact"], weight_decay=0.1), 10)
    model.optimizer.build(model.trainable_variables)
    decayed = {variable.name for variable in model.trainable_variables if model.optimizer._use_weight_decay(variable)}
    assert decayed == {"kernel"}


def test_stochastic_gradient_descent_has_nesterov_momentum() -> None:
    optimizer = compiled_model(replace(RECIPES["compact"], optimizer="sgd"), 10).optimizer
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)


def test_one_hot_labels_are_learnt_as_well(mnist: Mnist, tmp_path: Path) -> None:
    recipe = replace(RECIPES["adadelta"], epochs=1, limit=64, label_smoothing=0.1)
    fit(recipe, tmp_path / "run", mnist)
    assert (tmp_path / "run" / "model.keras").exists()
