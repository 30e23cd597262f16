import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.arrays import read_arrays
from training.data.folders import read_labels, read_unlabelled
from training.data.mnist import PUBLISHED, Mnist, load_mnist, split
from training.errors import DataError


def test_a_local_file_is_read_with_the_hashes_of_its_bytes(mnist: Mnist) -> None:
    assert (mnist.x_train.shape, mnist.x_test.shape) == ((600, 28, 28), (200, 28, 28))
    assert np.bincount(mnist.y_train).tolist() == [60] * 10
    assert mnist.hashes["x_test"] == hashlib.sha256(mnist.x_test.tobytes()).hexdigest()
    assert mnist.hashes["y_test"] == hashlib.sha256(mnist.y_test.astype(np.uint8).tobytes()).hexdigest()
    assert not mnist.published
    assert replace(mnist, hashes=PUBLISHED).published


def test_without_a_file_keras_downloads_mnist(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (mnist.x_train, mnist.y_train.astype(np.uint8)), (mnist.x_test, mnist.y_test.astype(np.uint8))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: parts)
    assert load_mnist().hashes == mnist.hashes


def test_the_error_of_a_failed_download_names_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise Exception("URL fetch failure: no route")  # as Keras raises it

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(DataError, match=r"no route.*--data FILE"):
        load_mnist()


def _flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:0], lambda content: content[:1000], lambda content: content[:-20], _flip_a_bit],
    ids=["empty", "first part", "end missing", "flipped bit"],
)
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes], small_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(damage(small_file.read_bytes()))
    with pytest.raises(DataError, match=r"is damaged or not an \.npz file"):
        load_mnist(tmp_path / "mnist.npz")


def test_a_missing_file_a_single_array_and_a_missing_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_mnist(tmp_path / "mnist.npz")
    np.save(tmp_path / "mnist.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"is damaged or not an \.npz file"):
        load_mnist(tmp_path / "mnist.npy")
    np.savez(tmp_path / "other.npz", x_train=np.zeros(3))
    with pytest.raises(DataError, match="x_train, y_train, x_test, y_test"):
        load_mnist(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x_train", np.zeros((600, 28, 28), np.float32), "x_train must be uint8"),
        ("x_train", np.zeros((600, 784), np.uint8), "x_train must be uint8"),
        ("x_test", np.zeros((0, 28, 28), np.uint8), "x_test must be uint8"),
        ("y_train", np.zeros(599, np.uint8), "y_train must have one integer per image"),
        ("y_test", np.zeros((200, 10), np.uint8), "y_test must have one integer per image"),
        ("y_test", np.zeros(200, np.float32), "y_test must have one integer per image"),
        ("y_test", np.full(200, 10, np.uint8), "y_test must hold digits from 0 to 9"),
    ],
    ids=["float images", "flat images", "no images", "too few labels", "one-hot labels", "float labels", "label 10"],
)
def test_an_array_with_the_wrong_layout_is_refused(
    name: str, array: NDArray[np.generic], message: str, small_file: Path, tmp_path: Path
) -> None:
    with np.load(small_file) as file:
        arrays = dict(file) | {name: array}
    np.savez(tmp_path / "other.npz", allow_pickle=False, **arrays)
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path / "other.npz")


def test_the_split_is_fixed_55000_to_5000_without_overlap() -> None:
    train, validation = split(60_000, 1 / 12)
    assert (len(train), len(validation)) == (55_000, 5_000)
    assert not set(train) & set(validation)
    assert all(np.array_equal(*pair) for pair in zip(split(60_000, 1 / 12), (train, validation), strict=True))


def test_labels_are_read_with_tags_and_groups_and_selected_by_tag(tmp_path: Path) -> None:
    table = "file,label,tag,group,note\na.png,3,photo,anna,x\nb.png,0,scan,bert,\nc.png,1,,,\n"
    (tmp_path / "labels.csv").write_text(table)
    first, second, third = read_labels(tmp_path)
    assert (first.path, first.label, first.tag, first.group) == (tmp_path / "a.png", 3, "photo", "anna")
    assert (third.label, third.tag, third.group) == (1, "", "")
    assert read_labels(tmp_path, ["scan", "paint"]) == [second]
    with pytest.raises(DataError, match="no image with these tags"):
        read_labels(tmp_path, ["screenshot"])


@pytest.mark.parametrize(
    "table",
    [
        None,
        "",
        "file,label\n",
        "file,label\na.png,12\n",
        "file,label\n,3\n",
        "name,digit\na.png,3\n",
        "file,label\na.png\n",
    ],
    ids=["missing", "empty", "no rows", "not a digit", "no file", "other columns", "short row"],
)
def test_a_table_without_files_and_labels_is_refused(table: str | None, tmp_path: Path) -> None:
    if table is not None:
        (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("file,kind\na.png,cat\nb.png,dog\n", ["a.png", "b.png"]),
        ("file,pure_negative\na.png,no\nb.png,yes\n", ["b.png"]),
        ("file,label\na.png,12\n", ["a.png"]),
    ],
    ids=["all", "pure negatives", "several digits"],
)
def test_images_to_reject_need_no_label(table: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(table)
    assert [path.name for path in read_unlabelled(tmp_path)] == names
    (tmp_path / "labels.csv").write_text("file,pure_negative\na.png,no\n")
    with pytest.raises(DataError, match="no image to reject"):
        read_unlabelled(tmp_path)


def test_arrays_of_another_image_size_are_read_if_their_shapes_match(tmp_path: Path) -> None:
    path, labels = tmp_path / "small.npz", np.arange(3, dtype=np.uint8)
    np.savez(path, x=np.zeros((3, 16, 16), np.uint8), y=labels)
    assert [array.shape for array in read_arrays(path)] == [(3, 16, 16), (3,)]
    for shape in ((3, 16), (2, 16, 16)):
        np.savez(path, x=np.zeros(shape, np.uint8), y=labels)
        with pytest.raises(DataError, match="x must be uint8"):
            read_arrays(path)
