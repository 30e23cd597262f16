import hashlib
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import PUBLISHED, Mnist, load_mnist, read_arrays, read_labels, read_unlabelled, split
from training.errors import DataError


def test_a_local_file_of_the_layout_is_read(mnist: Mnist) -> None:
    assert mnist.x_train.shape == (600, 28, 28)
    assert mnist.x_test.shape == (200, 28, 28)
    assert np.bincount(mnist.y_train).tolist() == [60] * 10


def test_other_images_than_those_published_are_told_from_them(mnist: Mnist) -> None:
    assert not mnist.published
    assert Mnist(mnist.x_train, mnist.y_train, mnist.x_test, mnist.y_test, PUBLISHED).published


def test_the_hash_is_that_of_the_bytes_as_the_file_has_them(mnist: Mnist) -> None:
    assert mnist.hashes["x_test"] == hashlib.sha256(mnist.x_test.tobytes()).hexdigest()
    assert mnist.hashes["y_test"] == hashlib.sha256(mnist.y_test.astype(np.uint8).tobytes()).hexdigest()


def test_without_a_file_keras_downloads_it(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (mnist.x_train, mnist.y_train.astype(np.uint8)), (mnist.x_test, mnist.y_test.astype(np.uint8))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: parts)
    assert load_mnist().hashes == mnist.hashes


def test_a_download_that_fails_names_the_way_round_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise Exception("URL fetch failure: no route")  # as Keras raises it

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(DataError, match=r"no route.*--data FILE"):
        load_mnist()


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        load_mnist(tmp_path / "mnist.npz")


@pytest.mark.parametrize("keep", [0, 1000, -20], ids=["empty", "first part", "without its end"])
def test_a_truncated_file_is_one_clear_error(keep: int, small_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "mnist.npz"
    damaged.write_bytes(small_file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"is damaged or no \.npz file"):
        load_mnist(damaged)


def test_a_file_with_a_flipped_bit_is_one_clear_error(small_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "mnist.npz"
    content = bytearray(small_file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged or no \.npz file"):
        load_mnist(damaged)


def test_a_single_array_is_not_taken_for_a_data_set(tmp_path: Path) -> None:
    np.save(tmp_path / "mnist.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"is damaged or no \.npz file"):
        load_mnist(tmp_path / "mnist.npy")


def test_a_file_without_one_of_the_arrays_says_which_it_needs(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x_train=np.zeros(3))
    with pytest.raises(DataError, match="x_train, y_train, x_test, y_test"):
        load_mnist(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x_train", np.zeros((600, 28, 28), np.float32), "x_train must be uint8"),
        ("x_train", np.zeros((600, 784), np.uint8), "x_train must be uint8"),
        ("x_test", np.zeros((0, 28, 28), np.uint8), "x_test must be uint8"),
        ("y_train", np.zeros(599, np.uint8), "y_train must be one integer an image"),
        ("y_test", np.zeros((200, 10), np.uint8), "y_test must be one integer an image"),
        ("y_test", np.zeros(200, np.float32), "y_test must be one integer an image"),
        ("y_test", np.full(200, 10, np.uint8), "y_test must hold digits from 0 to 9"),
    ],
    ids=["float images", "flat images", "no images", "too few labels", "one-hot labels", "float labels", "label 10"],
)
def test_a_wrongly_shaped_array_is_one_clear_error(
    name: str, array: NDArray[np.generic], message: str, small_file: Path, tmp_path: Path
) -> None:
    with np.load(small_file) as file:
        arrays = dict(file) | {name: array}
    np.savez(tmp_path / "other.npz", allow_pickle=False, **arrays)
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path / "other.npz")


def test_the_default_split_of_mnist_is_55000_to_5000_without_overlap() -> None:
    learnt, held_out = split(60_000, 1 / 12)
    assert (len(learnt), len(held_out)) == (55_000, 5_000)
    assert not set(learnt) & set(held_out)


def test_the_split_is_the_same_each_time() -> None:
    assert all(np.array_equal(*pair) for pair in zip(split(600, 0.3), split(600, 0.3), strict=True))


def test_labels_are_read_with_their_tags_and_other_columns_ignored(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label,tag,note\na.png,3,photo,x\nb.png,0,,\n")
    first, second = read_labels(tmp_path)
    assert (first.path, first.label, first.tag) == (tmp_path / "a.png", 3, "photo")
    assert (second.label, second.tag) == (0, "")


@pytest.mark.parametrize(
    "table",
    ["", "file,label\n", "file,label\na.png,12\n", "file,label\n,3\n", "name,digit\na.png,3\n", "file,label\na.png\n"],
    ids=["empty", "no rows", "no digit", "no file", "other columns", "short row"],
)
def test_a_table_without_files_and_labels_is_refused(table: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_labels(tmp_path)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_labels(tmp_path)


def test_images_are_chosen_by_tag_and_told_by_group(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label,tag,group\na.png,3,photo,anna\nb.png,0,scan,bert\nc.png,1,,\n")
    (chosen,) = read_labels(tmp_path, ["scan", "paint"])
    assert (chosen.label, chosen.tag, chosen.group) == (0, "scan", "bert")


def test_tags_that_no_image_has_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label,tag\na.png,3,photo\n")
    with pytest.raises(DataError, match="no image of these tags"):
        read_labels(tmp_path, ["scan"])


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("file,kind\na.png,cat\nb.png,dog\n", ["a.png", "b.png"]),
        ("file,pure_negative\na.png,no\nb.png,yes\n", ["b.png"]),
        ("file,label\na.png,12\n", ["a.png"]),
    ],
    ids=["all", "pure ones", "several digits"],
)
def test_pictures_to_reject_need_no_label(table: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(table)
    assert [path.name for path in read_unlabelled(tmp_path)] == names


def test_a_folder_without_pictures_to_reject_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,pure_negative\na.png,no\n")
    with pytest.raises(DataError, match="no image to reject"):
        read_unlabelled(tmp_path)


def test_arrays_of_another_size_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "small.npz", x=np.zeros((3, 16, 16), np.uint8), y=np.arange(3, dtype=np.uint8))
    images, labels = read_arrays(tmp_path / "small.npz")
    assert (images.shape, labels.tolist()) == ((3, 16, 16), [0, 1, 2])


@pytest.mark.parametrize("shape", [(3, 16), (2, 16, 16)], ids=["no images", "other labels"])
def test_arrays_of_another_form_are_one_clear_error(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "small.npz", x=np.zeros(shape, np.uint8), y=np.arange(3, dtype=np.uint8))
    with pytest.raises(DataError, match="x must be uint8"):
        read_arrays(tmp_path / "small.npz")


def test_a_file_without_arrays_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.npz file"):
        read_arrays(tmp_path / "gone.npz")


def test_the_first_test_images_alone_can_be_taken(mnist: Mnist) -> None:
    few = mnist.first_tests(3)
    assert (len(few.x_test), len(few.y_test), len(few.x_train)) == (3, 3, 600)
    assert few.hashes == mnist.hashes
