"""The manifest: written, read back, and compared with the files beside it."""

import json
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelError
from app.model.manifest import MANIFEST, WEIGHTS, Manifest, check, read_manifest, write_manifest


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


@pytest.mark.parametrize(
    "changed",
    [
        {"nickname": "d"},
        {"thresholds": None},
        {"thresholds": {"low_confidence": 0.5}},
        {"reference": {"edges": [1, 2], "shares": [0.5, 0.5]}},
        {"reference": {"edges": [2, 1], "shares": [0.2, 0.3, 0.5]}},
        {"reference": {"edges": [1]}},
        {"risk": {"pictures": 9, "without_digit": 0, "scores": [], "risks": []}},
        {"risk": {"pictures": 9, "without_digit": 0, "scores": [0.1, 1], "risks": [1]}},
        {"risk": {"pictures": 9, "without_digit": 0, "scores": [0.1, 1], "risks": [0.1, 0.9]}},
        {"risk": {"pictures": 9, "without_digit": 0, "scores": [0.2, 0.1, 1], "risks": [0.1, 0.2, 1]}},
        {"risk": {"pictures": 9, "without_digit": 0, "scores": [0, 1], "risks": [0.1, 1]}},
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


@pytest.mark.parametrize(
    ("weights", "changed", "preprocessing", "message"),
    [
        (b"weights", {}, "1", None),
        (b"weightz", {}, "1", "^damaged model: "),
        (b"weights", {"sha256": {}}, "1", "^damaged model: "),
        (None, {}, "1", "^no model: "),
        (b"weights", {}, "another", "^incompatible model: .*train and export it again$"),
    ],
    ids=["as the manifest says", "changed", "without a digest", "missing", "another preprocessing"],
)
def test_a_file_is_checked_against_the_manifest(
    manifest: Manifest,
    tmp_path: Path,
    weights: bytes | None,
    changed: dict[str, Any],
    preprocessing: str,
    message: str | None,
) -> None:
    ours = {"preprocessing": "1", "sha256": {WEIGHTS: sha256(b"weights").hexdigest()}} | changed
    if weights is not None:
        (tmp_path / WEIGHTS).write_bytes(weights)

    with nullcontext() if message is None else pytest.raises(ModelError, match=message):
        assert check(manifest.model_copy(update=ours), tmp_path, WEIGHTS, preprocessing) == tmp_path / WEIGHTS
