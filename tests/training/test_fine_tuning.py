import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from app.model.manifest import read_manifest
from tests.drawings import encoded, mnist_test
from tests.training.test_command_line import run_training
from training.architectures import ARCHITECTURES
from training.data.mnist import Mnist
from training.errors import RunError
from training.evaluation.scoring import Scores
from training.export import export
from training.fine_tuning import Figures, why_not

BLANK = encoded(np.full((40, 40), 255, np.uint8))


def _own(folder: Path, pictures: list[bytes], labels: list[int] | None = None) -> Path:
    """A folder of pictures, with labels.csv if there are ``labels``."""
    folder.mkdir()
    for index, picture in enumerate(pictures):
        (folder / f"{index}.png").write_bytes(picture)
    if labels is not None:
        rows = "".join(f"{index}.png,{label}\n" for index, label in enumerate(labels))
        (folder / "labels.csv").write_text(f"file,label\n{rows}")
    return folder


def test_a_model_is_fine_tuned_on_own_pictures_and_exported_only_if_it_is_better(
    exported: tuple[Path, Scores],
    small_file: Path,
    mnist: Mnist,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = exported[0]
    grey, labels = mnist_test()
    own = _own(tmp_path / "own", [encoded(255 - each.T) for each in grey[:40]], labels[:40].tolist())
    cross = np.eye(60, dtype=np.uint8) * 255
    none = _own(tmp_path / "none", [BLANK, *(encoded(np.roll(cross | cross[::-1], n, 0)) for n in range(12))])
    run, models = tmp_path / "run", tmp_path / "models"
    folders = ("--from", start, "--images", own, "--outliers", none, "--sources", tmp_path, "--cache", tmp_path)

    assert run_training("fit", *folders, "--data", small_file, "--run", run, "--epochs", 1) == 0
    assert {source["name"] for source in json.loads((run / "sources.json").read_text())} == {
        "own_digits",
        "own_outliers",
    }
    export(run, models, "1.3.0", mnist)
    assert "own pictures kept aside: right" in capsys.readouterr().out
    manifest = read_manifest(models)
    assert manifest.architecture == "tiny"
    name = f"digits 1.2.3, sha256 {read_manifest(start).sha256['digits.keras']}"
    assert manifest.recipe["start"] == name
    card = (models / "card.md").read_text()
    assert f"start {name}" in card
    assert f"| own_digits | {manifest.sources[0].samples} | your own |" in card
    assert 20 < manifest.sources[0].samples < 40

    ARCHITECTURES["tiny"]().save(run / "model.keras")  # untrained
    with pytest.raises(RunError, match=r"not better on your own pictures than digits 1\.2\.3.*: right \d+ → \d+, loss"):
        export(run, models, "1.4.0", mnist)
    assert read_manifest(models).version == "1.3.0"
    shutil.copytree(models, tmp_path / "other")
    start_file = json.loads((run / "start.json").read_text())
    (run / "start.json").write_text(json.dumps({**start_file, "models": str(tmp_path / "other")}))
    with pytest.raises(RunError, match="no longer has the model"):
        export(run, models, "1.4.0", mnist)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (Figures(8, 0.5, 0.99), None),
        (Figures(7, 0.2, 0.989), None),
        (Figures(7, 0.3, 0.99), "not better"),
        (Figures(6, 0.1, 0.995), "not better"),
        (Figures(8, 0.1, 0.9888), "worse on MNIST"),
    ],
)
def test_a_better_model_has_more_right_or_less_loss_and_loses_a_tenth_of_a_point_at_most(
    after: Figures, expected: str | None
) -> None:
    why = why_not(Figures(7, 0.3, 0.99), after)
    assert why is None if expected is None else expected in (why or "")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no folder", "labels.csv cannot be read"),
        ("no rows", "lists no image"),
        ("missing file", "0.png: No such file or directory"),
        ("no picture", "0.png: "),
        ("blank", "0.png: "),
        ("one picture", "add pictures"),
        ("empty outliers", "has no image"),
        ("a recipe, too", "either --recipe, or --from and --images"),
    ],
)
def test_own_pictures_that_cannot_be_used_are_one_line_before_training(
    case: str,
    message: str,
    exported: tuple[Path, Scores],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grey, labels = mnist_test()
    own, run = tmp_path / "own", tmp_path / "run"
    extra: tuple[object, ...] = ()
    if case != "no folder":
        count = 1 if case == "one picture" else 30
        _own(own, [encoded(each) for each in grey[:count]], [] if case == "no rows" else labels[:count].tolist())
    if case == "missing file":
        (own / "0.png").unlink()
    if case in {"no picture", "blank"}:
        (own / "0.png").write_bytes(BLANK if case == "blank" else b"text")
    if case == "empty outliers":
        extra = ("--outliers", _own(tmp_path / "none", []))
    if case == "a recipe, too":
        extra = ("--recipe", "compact")
    assert run_training("fit", "--from", exported[0], "--images", own, "--run", run, *extra) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not run.exists()
