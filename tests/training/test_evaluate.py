from collections.abc import Callable
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.preprocessing import preprocess
from training.classifier import Classifier, load_classifier
from training.data import Mnist, read_labels
from training.errors import RunError, ServiceError
from training.evaluate import evaluate_folder, evaluate_folder_through, evaluate_mnist, evaluate_mnist_through
from training.preparation import prepare
from training.recipes import Preprocessing
from training.remote import RemoteService

Ink = NDArray[np.float32]


class Recorder:
    """A classifier that answers 7 and keeps what it was shown."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.seen: list[Ink] = []
        self.classifier = Classifier(self._classify, preprocessing)

    def _classify(self, ink: Ink) -> NDArray[np.float64]:
        self.seen.append(ink)
        return np.tile(np.eye(10)[7] * 0.91 + 0.009, (len(ink), 1))


@pytest.fixture
def folder(mnist: Mnist, tmp_path: Path) -> Path:
    """A 7 and a 2 drawn large, a blank sheet, a file that is no image, and one that is not there."""
    for name, grey in (("seven.png", mnist.x_test[7]), ("two.png", mnist.x_test[2])):
        cv2.imwrite(str(tmp_path / name), cv2.resize(255 - grey, (200, 200)))
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((50, 50), 255, np.uint8))
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "labels.csv").write_text(
        "file,label,tag\nseven.png,7,photo\ntwo.png,2,photo\nblank.png,1,canvas\ntext.png,1,canvas\ngone.png,1,\n"
    )
    return tmp_path


def test_a_run_directory_is_evaluated_on_its_own_input(finished_run: Path, mnist: Mnist) -> None:
    classifier = load_classifier(finished_run)
    assert classifier.preprocessing == "auto"
    scores = evaluate_mnist(classifier, mnist)
    assert scores.images == 200
    assert scores.wrong == len(scores.mistakes) == round(200 * (1 - scores.accuracy))


def test_a_keras_file_is_evaluated_as_the_run_that_it_lies_in(finished_run: Path, mnist: Mnist) -> None:
    expected = evaluate_mnist(load_classifier(finished_run), mnist)
    assert evaluate_mnist(load_classifier(finished_run / "model.keras"), mnist) == expected


def test_what_is_neither_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no models directory, no finished run"):
        load_classifier(tmp_path)


def test_a_file_that_is_no_network_is_one_clear_error(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_bytes((finished_run / "recipe.json").read_bytes())
    (tmp_path / "model.keras").write_text("no network")
    with pytest.raises(RunError, match="is not a Keras model"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("preprocessing", ["unit", "l2", "auto"])
def test_a_network_sees_the_test_images_as_it_learnt_to(preprocessing: Preprocessing, mnist: Mnist) -> None:
    recorder = Recorder(preprocessing)
    evaluate_mnist(recorder.classifier, mnist)
    assert np.array_equal(recorder.seen[0], prepare(mnist.x_test, preprocessing))


def test_plain_shows_the_test_images_as_they_are(mnist: Mnist) -> None:
    recorder = Recorder("auto")
    evaluate_mnist(recorder.classifier, mnist, "plain")
    assert np.array_equal(recorder.seen[0], prepare(mnist.x_test, "unit"))


def test_a_blank_test_image_counts_as_unread(mnist: Mnist) -> None:
    images = np.concatenate([np.zeros((1, 28, 28), np.uint8), mnist.x_test[:1]])
    blank_first = Mnist(mnist.x_train, mnist.y_train, images, np.array([7, 7]), {})
    scores = evaluate_mnist(Recorder("auto").classifier, blank_first)
    assert (scores.accuracy, scores.unread) == (0.5, {"test 0": "no ink"})


def test_a_folder_is_read_through_the_preprocessing_of_the_service(folder: Path) -> None:
    recorder = Recorder("auto")
    evaluate_folder(recorder.classifier, read_labels(folder))
    assert np.array_equal(recorder.seen[0][1], preprocess((folder / "two.png").read_bytes()).ink)


def test_what_cannot_be_read_counts_as_wrong_and_is_listed(folder: Path) -> None:
    scores = evaluate_folder(Recorder("auto").classifier, read_labels(folder))
    assert scores.accuracy == 0.2
    assert scores.unread == {
        "blank.png": "no_ink",
        "text.png": "unsupported_media_type",
        "gone.png": "No such file or directory",
    }
    assert {tag: of_tag.accuracy for tag, of_tag in scores.tags.items()} == {"photo": 0.5, "canvas": 0.0}


def test_a_folder_of_which_nothing_can_be_read_has_an_accuracy_of_nothing(folder: Path) -> None:
    files = [file for file in read_labels(folder) if file.path.name == "text.png"]
    assert evaluate_folder(Recorder("auto").classifier, files).accuracy == 0


def test_a_network_of_normalised_columns_sees_a_folder_normalised(folder: Path) -> None:
    recorder = Recorder("l2")
    evaluate_folder(recorder.classifier, read_labels(folder))
    lengths = np.linalg.norm(recorder.seen[0], axis=1)
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-5)


def _service(answer: Callable[[httpx2.Request], httpx2.Response]) -> RemoteService:
    client = httpx2.Client(base_url="http://digits", transport=httpx2.MockTransport(answer))
    return RemoteService("http://digits", client)


def _seven(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"probabilities": [0.009] * 7 + [0.919] + [0.009] * 2})


def test_the_test_images_are_sent_to_a_service_as_png(mnist: Mnist) -> None:
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append((request.url.path, dict(request.url.params), request.read()))
        return _seven(request)

    scores = evaluate_mnist_through(_service(answer), mnist, "plain")
    assert scores.accuracy == 0.1
    assert len(sent) == 200
    path, parameters, body = sent[0]
    assert (path, parameters) == ("/predict", {"preprocess": "plain"})
    assert b"\x89PNG" in body


def test_what_a_service_refuses_counts_as_unread(folder: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return _seven(request) if b"PNG" in request.read() else httpx2.Response(415, json={"code": "unsupported"})

    scores = evaluate_folder_through(_service(answer), read_labels(folder))
    assert scores.accuracy == 0.2
    assert scores.unread == {"gone.png": "No such file or directory", "text.png": "unsupported"}


def _refuse(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused")


@pytest.mark.parametrize(
    "answer",
    [
        _refuse,
        lambda _: httpx2.Response(503, json={"code": "not_ready"}),
        lambda _: httpx2.Response(200, text="<html>"),
        lambda _: httpx2.Response(200, json={"predictions": []}),
        lambda _: httpx2.Response(200, json=[1, 2]),
    ],
    ids=["unreachable", "not ready", "no json", "another answer", "a list"],
)
def test_a_service_that_gives_no_answer_is_one_clear_error(
    answer: Callable[[httpx2.Request], httpx2.Response], mnist: Mnist
) -> None:
    with pytest.raises(ServiceError, match="http://digits does not answer"):
        evaluate_mnist_through(_service(answer), mnist)
