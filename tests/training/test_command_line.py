import json
import sys
from pathlib import Path

import cv2
import pytest

from training.__main__ import main
from training.data import Mnist
from training.export import export


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_recipe_is_trained_measured_and_exported(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.json"
    recipe.write_text('{"name": "mine", "architecture": "rajwal", "preprocessing": "auto"}')
    data = ("--data", small_file)

    assert _run(monkeypatch, "fit", "--recipe", recipe, *data, "--epochs", 1, "--limit", 200, "--seed", 5) == 0
    run = tmp_path / "runs" / "mine-5"
    assert json.loads((run / "recipe.json").read_text())["limit"] == 200

    assert _run(monkeypatch, "export", "runs/mine-5", *data, "--version", "0.1.0") == 0
    assert _run(monkeypatch, "evaluate", *data, "--json", "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["images"] == 200
    assert _run(monkeypatch, "report", *data, "--limit", 5) == 0
    assert "the first 5 each" in (tmp_path / "models" / "card.md").read_text()
    assert _run(monkeypatch, "evaluate", *data, "--corruptions", "--limit", 5, "--json", "corrupted.json") == 0
    assert len(json.loads((tmp_path / "corrupted.json").read_text())) == 15
    printed = capsys.readouterr()
    assert f"accuracy {100 * scores['accuracy']:.2f} %" in printed.out
    assert "not the arrays of the MNIST database" in printed.err


def test_a_folder_is_measured(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("file,label,tag\ngone.png,3,photo\n")
    assert _run(monkeypatch, "evaluate", finished_run, "--images", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "gone.png" in printed
    assert "photo" in printed


def test_a_folder_is_measured_with_what_should_be_rejected(
    finished_run: Path,
    mnist: Mnist,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = tmp_path / "models"
    export(finished_run, models, "1.0.0", mnist)
    (tmp_path / "labels.csv").write_text("file,label,tag\nseven.png,1,photo\nseven.png,7,printed\n")
    cv2.imwrite(str(tmp_path / "seven.png"), 255 - mnist.x_test[mnist.y_test == 7][0])
    folder = ("--images", tmp_path, "--only-tags", "photo", "--outliers", tmp_path)
    files = ("--sheet", tmp_path / "sheet.png", "--json", tmp_path / "scores.json")
    assert _run(monkeypatch, "evaluate", models, *folder, "--several", tmp_path, *files) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["images"], scores["outliers"]["images"], scores["several_digits"]["auroc"]) == (1, 2, None)
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
    data = ("--data", Path(__file__).parents[1] / "data" / "mnist-small.npz")
    assert _run(monkeypatch, "thresholds", models, *data, *folder) == 0
    printed = capsys.readouterr().out
    assert "AUROC of the outlier score" in printed
    assert "low_confidence" in printed


def test_the_contact_sheets_are_drawn(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "sheets", "--data", small_file, "--out", tmp_path / "figures") == 0
    assert (tmp_path / "figures" / "strokes.png").is_file()


def test_a_mistake_is_one_line_and_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "fit", "--recipe", "yalcin", "--data", tmp_path / "none.npz") == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.npz'}: there is no such file\n"


@pytest.mark.parametrize("images", [True, False], ids=["folder", "mnist"])
def test_a_service_that_is_not_there_is_one_line(
    images: bool,
    small_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "labels.csv").write_text("file,label\nlabels.csv,3\n")
    source = ("--images", tmp_path) if images else ("--data", small_file)
    assert _run(monkeypatch, "evaluate", "--through-service", "http://127.0.0.1:9", *source) == 1
    assert "error: http://127.0.0.1:9 does not answer" in capsys.readouterr().err
