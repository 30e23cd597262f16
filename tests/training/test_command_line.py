import json
import sys
from pathlib import Path

import pytest

from training.__main__ import main


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
