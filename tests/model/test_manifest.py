"""The manifest: written, read back, and compared with the files beside it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

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
def test_a_manifest_that_cannot_be_parsed_is_a_damaged_model(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


def test_a_manifest_that_cannot_be_read_is_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).mkdir()

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"nickname": "d"},
        {"thresholds": None},
        {"thresholds": {"not_a_digit": 1.0}},
        {"thresholds": {"low_confidence": 0.5}},
        {"thresholds": {"not_a_digit": "high", "low_confidence": 0.5}},
        {"thresholds": {"not_a_digit": 1.0, "low_confidence": 0.5, "several_digits": 1.0}},
        {"reference": {"edges": [1, 2], "shares": [0.5, 0.5]}},
        {"reference": {"edges": [2, 1], "shares": [0.2, 0.3, 0.5]}},
        {"reference": {"edges": [1]}},
    ],
    ids=str,
)
def test_a_manifest_with_a_wrong_entry_is_a_damaged_model(
    model_dir: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    entries = json.loads((model_dir / MANIFEST).read_bytes())
    if histogram := changed.get("reference"):
        changed = {"reference": entries["reference"] | {"ink_fraction": histogram}}
    (tmp_path / MANIFEST).write_text(json.dumps(entries | changed))

    with pytest.raises(ModelError, match=r"^damaged model: "):
        read_manifest(tmp_path)


def test_a_manifest_may_lack_a_reference(manifest: Manifest, tmp_path: Path) -> None:
    entries = manifest.model_dump(mode="json")
    del entries["reference"]
    (tmp_path / MANIFEST).write_text(json.dumps(entries))

    assert read_manifest(tmp_path).reference is None


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


def test_a_file_without_a_digest_in_the_manifest_is_a_damaged_model(manifest: Manifest, tmp_path: Path) -> None:
    unnamed = with_weights(manifest, tmp_path).model_copy(update={"sha256": {}})

    with pytest.raises(ModelError, match=r"^damaged model: "):
        check(unnamed, tmp_path, WEIGHTS, unnamed.preprocessing)


def test_a_missing_file_is_no_model(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no model: "):
        check(manifest, tmp_path, WEIGHTS, manifest.preprocessing)


def test_another_preprocessing_is_a_foreign_model(manifest: Manifest, tmp_path: Path) -> None:
    ours = with_weights(manifest, tmp_path)

    with pytest.raises(ModelError, match=r"^foreign model: .*train and export it again$"):
        check(ours, tmp_path, WEIGHTS, "another")
