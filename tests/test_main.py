"""The app: it serves only a model that it can, and a caller only as long as it should."""

import shutil
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from app import VERSION
from app.model.manifest import MANIFEST, WEIGHTS, read_manifest, write_manifest
from tests.server import ROOT, running

WAIT_S = 10


@pytest.fixture
def copied(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may spoil."""
    for name in (MANIFEST, WEIGHTS):
        shutil.copy(model_dir / name, tmp_path)
    return tmp_path


def remove_everything(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def remove_the_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def cut_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:100])


def flip_one_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 3] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def claim_another_preprocessing(folder: Path) -> None:
    write_manifest(read_manifest(folder).model_copy(update={"preprocessing": "another"}), folder)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (remove_everything, "digits: no model: "),
        (remove_the_weights, "digits: no model: "),
        (cut_the_manifest, "digits: damaged model: "),
        (flip_one_bit, "digits: damaged model: "),
        (claim_another_preprocessing, "digits: foreign model: "),
    ],
    ids=["empty folder", "no weights", "cut manifest", "one bit flipped", "another preprocessing"],
)
def test_a_model_that_cannot_be_served_stops_the_start_with_one_line(
    copied: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    spoil(copied)

    with running(model_dir=copied) as process:
        assert process.status() == 1
        [line] = process.errors().splitlines()

    assert line.startswith(complaint)


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert project["version"] == VERSION


def test_a_caller_who_stops_sending_is_answered_and_cut_off(model_dir: Path) -> None:
    with running(model_dir=model_dir, request_timeout_ms=300) as process:
        host, port = process.url().removeprefix("http://").split(":")
        process.line_with('"ready"')
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
            caller.sendall(b"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: 1000\r\n\r\nhalf of it")
            answer = b"".join(iter(lambda: caller.recv(4096), b""))  # until the server closes

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"too slowly" in answer
