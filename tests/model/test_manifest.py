"""The manifest: written, read back, held against the files beside it."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from app.errors import ModelError
from app.model.manifest import MANIFEST, WEIGHTS, Manifest, check, read_manifest, sha256_of, write_manifest


def test_a_manifest_is_read_back_as_it_was_written(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path)

    assert read_manifest(tmp_path) == manifest


def test_a_missing_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no model: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "digits"}', "\0\xff"], ids=repr)
def test_a_manifest_that_is_not_whole_is_a_damaged_model(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


def test_an_unknown_entry_of_a_manifest_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path)
    path = tmp_path / MANIFEST
    path.write_text(path.read_text().replace('"name"', '"nickname": "d", "name"'))

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


def test_a_manifest_that_cannot_be_read_is_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).mkdir()

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "thresholds",
    [
        None,
        {"not_a_digit": 1.0},
        {"low_confidence": 0.5},
        {"not_a_digit": "high", "low_confidence": 0.5},
        {"not_a_digit": None, "low_confidence": 0.5},
        {"not_a_digit": 1.0, "low_confidence": 0.5, "several_digits": 1.0},
    ],
    ids=["none", "one missing", "the other missing", "a word", "null", "one too many"],
)
def test_a_manifest_without_its_thresholds_is_a_damaged_model(
    manifest: Manifest, tmp_path: Path, thresholds: dict[str, object] | None
) -> None:
    entries = manifest.model_dump(mode="json") | {"thresholds": thresholds}
    (tmp_path / MANIFEST).write_text(json.dumps(entries))

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


def test_a_manifest_of_before_there_was_drift_has_no_reference(manifest: Manifest, tmp_path: Path) -> None:
    entries = manifest.model_dump(mode="json")
    del entries["reference"]
    (tmp_path / MANIFEST).write_text(json.dumps(entries))

    assert read_manifest(tmp_path).reference is None


@pytest.mark.parametrize(
    "histogram",
    [
        {"edges": [1, 2], "shares": [0.5, 0.5]},
        {"edges": [2, 1], "shares": [0.2, 0.3, 0.5]},
        {"edges": [1]},
    ],
    ids=["one share too few", "edges that descend", "no shares"],
)
def test_a_reference_that_is_not_whole_is_a_damaged_model(
    model_dir: Path, tmp_path: Path, histogram: dict[str, list[float]]
) -> None:
    entries = json.loads((model_dir / MANIFEST).read_bytes())
    entries["reference"]["ink_fraction"] = histogram
    (tmp_path / MANIFEST).write_text(json.dumps(entries))

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


def with_weights(manifest: Manifest, folder: Path) -> Manifest:
    (folder / WEIGHTS).write_bytes(b"weights")
    return manifest.model_copy(update={"sha256": {WEIGHTS: sha256(b"weights").hexdigest()}})


def test_a_file_that_is_as_the_manifest_says_passes(manifest: Manifest, tmp_path: Path) -> None:
    ours = with_weights(manifest, tmp_path)

    assert check(ours, tmp_path, WEIGHTS, ours.preprocessing) == tmp_path / WEIGHTS
    assert sha256_of(tmp_path / WEIGHTS) == ours.sha256[WEIGHTS]


def test_a_changed_file_is_a_damaged_model(manifest: Manifest, tmp_path: Path) -> None:
    ours = with_weights(manifest, tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"weightz")

    with pytest.raises(ModelError, match=r"^damaged model: "):
        check(ours, tmp_path, WEIGHTS, ours.preprocessing)


def test_a_file_that_the_manifest_does_not_name_is_a_damaged_model(manifest: Manifest, tmp_path: Path) -> None:
    with_weights(manifest, tmp_path)
    unnamed = manifest.model_copy(update={"sha256": {}})

    with pytest.raises(ModelError, match=r"^damaged model: "):
        check(unnamed, tmp_path, WEIGHTS, unnamed.preprocessing)


def test_a_missing_file_is_no_model(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no model: "):
        check(manifest, tmp_path, WEIGHTS, manifest.preprocessing)


def test_another_preprocessing_is_a_foreign_model(manifest: Manifest, tmp_path: Path) -> None:
    ours = with_weights(manifest, tmp_path)

    with pytest.raises(ModelError, match=r"^foreign model: .*train and export it again$"):
        check(ours, tmp_path, WEIGHTS, "another")
