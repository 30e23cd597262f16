import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from unittest.mock import patch

import cv2
import matplotlib as mpl
import numpy as np
import pytest

from app.model.manifest import read_manifest, write_manifest
from tests.drawings import encoded, mnist_test
from training.__main__ import main
from training.data.mnist import Mnist
from training.data.sources import SOURCES
from training.evaluation.scoring import Scores


def run_training(*arguments: object) -> int:
    """The exit status."""
    with patch.object(sys, "argv", ["training", *map(str, arguments)]), pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_recipe_is_trained_exported_evaluated_and_reported(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.json"
    recipe.write_text(
        '{"name": "mine", "architecture": "tiny", "preprocessing": "auto", "learning_rate": 0.01, '
        '"sources": ["fashion_mnist", "unipen_digits"]}'
    )
    np.savez(tmp_path / "fashion_mnist.npz", x=np.zeros((2, 28, 28), np.uint8), y=np.array([9, 0], np.uint8))
    data = ("--data", small_file)
    fit = ("fit", "--recipe", recipe, *data, "--epochs", 2, "--limit", 500, "--seed", 5, "--sources", tmp_path)

    assert run_training(*fit) == 1
    assert "--fetch unipen_digits" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert run_training(*fit, "--without", "unipen_digits") == 0
    run = tmp_path / "runs" / "mine-5"
    trained = json.loads((run / "recipe.json").read_text())
    assert (trained["limit"], trained["sources"]) == (500, ["fashion_mnist"])

    assert run_training("export", run, *data, "--version", "0.1.0", "--sources", tmp_path) == 0
    assert run_training("evaluate", *data, "--json", "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["images"] == 200
    assert run_training("report", *data, "--limit", 2) == 0
    card = (tmp_path / "models" / "card.md").read_text()
    assert "The first 2 test images" in card
    (source,) = read_manifest(tmp_path / "models").sources
    assert (source.name, source.samples) == ("fashion_mnist", 2)
    assert f"| fashion_mnist | 2 | MIT | {SOURCES['fashion_mnist'].citation} | `{source.sha256}` |" in card
    assert run_training("evaluate", *data, "--corruptions", "--limit", 2, "--json", "corrupted.json") == 0
    assert len(json.loads((tmp_path / "corrupted.json").read_text())) == 15
    printed = capsys.readouterr()
    assert f"accuracy {100 * scores['accuracy']:.2f} %" in printed.out
    assert "not the original MNIST" in printed.err


def test_the_sources_are_listed_and_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fonts = tmp_path / "digits" / "fonts"
    fonts.mkdir(parents=True)
    shutil.copy(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", fonts)
    assert run_training("data", "--fetch", "font_digits") == 0
    assert (tmp_path / "digits" / "font_digits.npz").exists()
    assert run_training("data") == 0
    listed = capsys.readouterr().out
    assert re.search(r"font_digits +digits +10 ", listed)
    assert re.search(r"pendigits_strokes +digits +none +1.7 MB +CC BY 4.0", listed)
    assert "pendigits_strokes: https://archive.ics.uci.edu/" in listed
    for arguments in (["--fetch"], ["emnist"], ["--fetch", "pictures_no_digit"]):
        assert run_training("data", *arguments) == 1


def test_a_folder_is_evaluated_with_images_to_reject(
    exported: tuple[Path, Scores],
    small_file: Path,
    mnist: Mnist,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "labels.csv").write_text("file,label,tag\nseven.png,1,photo\nseven.png,7,printed\ngone.png,3,photo\n")
    cv2.imwrite(str(tmp_path / "seven.png"), 255 - mnist.x_test[mnist.y_test == 7][0])
    folder = ("--images", tmp_path, "--only-tags", "photo", "--outliers", tmp_path)
    files = ("--sheet", tmp_path / "sheet.png", "--json", tmp_path / "scores.json")
    assert run_training("evaluate", exported[0], *folder, "--several", tmp_path, *files) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["images"], scores["outliers"]["images"], scores["several_digits"]["auroc"]) == (2, 3, None)
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
    assert run_training("thresholds", exported[0], "--data", small_file, *folder) == 0
    printed = capsys.readouterr().out
    assert "gone.png" in printed
    assert "AUROC of the outlier score" in printed
    assert "thresholds" in printed


def test_sets_of_digits_and_of_none_are_evaluated(exported: tuple[Path, Scores], mnist: Mnist, tmp_path: Path) -> None:
    crosses = np.repeat(np.eye(28, dtype=np.uint8)[np.newaxis] * 255, 3, axis=0)
    np.savez(tmp_path / "writers.npz", x=mnist.x_test, y=mnist.y_test)
    np.savez(tmp_path / "lines.npz", x=crosses, label=np.array(["line"] * 3))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photos/1.png", encoded(crosses[0]))
        archive.writestr("index.csv", "file,kind\n")
    assert run_training("evaluate", exported[0], "--sets", tmp_path, "--json", tmp_path / "sets.json") == 0
    sets = json.loads((tmp_path / "sets.json").read_text())
    assert {name: scores["images"] for name, scores in sets.items()} == {"writers": 200, "lines": 3, "photos": 1}
    assert sets["writers"]["accuracy"] == exported[1].accuracy
    assert None not in {sets[name]["accepted_beside"] for name in ("lines", "photos")}


def test_the_contact_sheets_are_drawn(small_file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "fashion_mnist.npz", x=np.zeros((2, 28, 28), np.uint8), label=np.array(["9", "0"]))
    folders = ("--sources", tmp_path, "--cache", tmp_path, "--out", tmp_path / "figures")
    assert run_training("sheets", "--data", small_file, *folders) == 0
    names = ["corruptions", "distorted", "hands", "photographs", "seen"]
    sheets = sorted((tmp_path / "figures").iterdir())
    assert [path.name for path in sheets] == [f"{name}.png" for name in names]
    assert max(path.stat().st_size for path in sheets) < 150_000


@pytest.mark.parametrize(("count", "status"), [(200, 0), (199, 1)])
def test_enough_images_of_a_folder_become_the_drift_reference(
    count: int, status: int, model_dir: Path, tmp_path: Path
) -> None:
    models, folder = tmp_path / "models", tmp_path / "pictures"
    models.mkdir()
    folder.mkdir()
    (models / "digits.keras").symlink_to(model_dir / "digits.keras")
    before = read_manifest(model_dir).model_copy(update={"reference": None})
    write_manifest(before, models)
    for index, grey in enumerate(mnist_test()[0][:count]):
        (folder / f"{index}.png").write_bytes(encoded(grey))

    assert run_training("reference", "--models", models, "--images", folder) == status

    after = read_manifest(models)
    assert (after.reference is None) == bool(status)
    assert after.model_copy(update={"reference": None}) == before
    assert sorted(path.name for path in models.iterdir()) == ["digits.json", "digits.keras"]


def test_an_error_is_one_line_and_exit_status_1(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_training("fit", "--recipe", "yalcin", "--data", tmp_path / "none.npz") == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.npz'}: no such file\n"
    assert run_training("evaluate", "--through-service", "http://127.0.0.1:9", "--data", small_file) == 1
    assert "error: http://127.0.0.1:9 does not answer" in capsys.readouterr().err
