from collections.abc import Callable
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.imaging.preprocess import Mode, preprocess
from app.model.manifest import Manifest, Thresholds
from training.data.folders import read_labels
from training.data.mnist import Mnist, split
from training.drawing.corruptions import CORRUPTIONS
from training.errors import RunError, ServiceError
from training.evaluation.classifier import Classifier, load_classifier
from training.evaluation.evaluate import corrupted_accuracy, read_folder, read_images, read_validation
from training.evaluation.remote import RemoteService
from training.preparation import normalise_columns, prepare
from training.recipes import Preprocessing

Ink = NDArray[np.float32]


class Recorder:
    """A classifier that always answers 7 with confidence 0.91, and records its input."""

    def __init__(self, preprocessing: Preprocessing = "auto", manifest: Manifest | None = None) -> None:
        self.seen: list[Ink] = []
        self.classifier = Classifier(self._logits, preprocessing, manifest)

    def _logits(self, ink: Ink) -> NDArray[np.float32]:
        self.seen.append(ink)
        return np.tile(np.log(np.eye(10)[7] * 0.9 + 0.01).astype(np.float32), (len(ink), 1))


@pytest.fixture
def folder(mnist: Mnist, tmp_path: Path) -> Path:
    """A large 7 and a large 2, a blank image, a file that is not an image, and a missing file."""
    for name, grey in (("seven.png", mnist.x_test[7]), ("two.png", mnist.x_test[2])):
        cv2.imwrite(str(tmp_path / name), cv2.resize(255 - grey, (200, 200)))
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((50, 50), 255, np.uint8))
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "labels.csv").write_text(
        "file,label,tag\nseven.png,7,photo\ntwo.png,2,photo\nblank.png,1,canvas\ntext.png,1,canvas\ngone.png,1,\n"
    )
    return tmp_path


def test_a_run_directory_and_its_keras_file_are_evaluated(finished_run: Path, mnist: Mnist) -> None:
    scores = read_images(load_classifier(finished_run), mnist.x_test, mnist.y_test)[1]
    assert scores.images == 200
    assert scores.wrong == len(scores.mistakes) == round(200 * (1 - scores.accuracy))
    assert read_images(load_classifier(finished_run / "model.keras"), mnist.x_test, mnist.y_test)[1] == scores


def test_what_is_not_a_model_is_refused(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a models directory, a finished run"):
        load_classifier(tmp_path)
    (tmp_path / "recipe.json").write_bytes((finished_run / "recipe.json").read_bytes())
    (tmp_path / "model.keras").write_text("not a network")
    with pytest.raises(RunError, match="is not a Keras model"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("preprocessing", "mode", "expected"),
    [("unit", "auto", "unit"), ("l2", "auto", "l2"), ("auto", "auto", "auto"), ("auto", "plain", "unit")],
)
def test_a_network_gets_the_input_that_it_was_trained_on(
    preprocessing: Preprocessing, mode: Mode, expected: Preprocessing, mnist: Mnist
) -> None:
    recorder = Recorder(preprocessing)
    read_images(recorder.classifier, mnist.x_test, mnist.y_test, mode)
    assert np.allclose(recorder.seen[0], prepare(mnist.x_test, expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("preprocessing", ["auto", "l2"])
def test_a_folder_is_read_with_the_preprocessing_of_the_service(preprocessing: Preprocessing, folder: Path) -> None:
    recorder = Recorder(preprocessing)
    answers, scores = read_folder(recorder.classifier, read_labels(folder))
    two = preprocess((folder / "two.png").read_bytes()).ink
    expected = normalise_columns(two[np.newaxis])[0] if preprocessing == "l2" else two
    assert np.array_equal(recorder.seen[0][1], expected)

    assert scores.accuracy == 0.2  # unreadable files count as wrong
    assert scores.unread == {
        "blank.png": "no_ink",
        "text.png": "unsupported_media_type",
        "gone.png": "No such file or directory",
    }
    assert {tag: of_tag.accuracy for tag, of_tag in scores.tags.items()} == {"photo": 0.5, "canvas": 0.0}
    assert answers.outlier_scores is not None
    assert np.isposinf(answers.outlier_scores).tolist() == [False, False, True, True, True]
    assert (answers.rejections, scores.acceptance) == (None, None)  # no thresholds without a manifest


@pytest.mark.parametrize(("low_confidence", "reason"), [(0.5, None), (0.95, "low_confidence")])
def test_an_exported_model_rejects_by_its_thresholds(
    low_confidence: float, reason: str | None, manifest: Manifest, folder: Path
) -> None:
    thresholds = Thresholds(not_a_digit=0.0, low_confidence=low_confidence)
    recorder = Recorder(manifest=manifest.model_copy(update={"thresholds": thresholds}))
    answers, _ = read_folder(recorder.classifier, read_labels(folder))
    assert answers.rejections == [reason, reason, "no_ink", "unsupported_media_type", "No such file or directory"]


def test_the_validation_images_of_an_exported_model_are_those_held_out(manifest: Manifest, mnist: Mnist) -> None:
    recorder = Recorder(manifest=manifest.model_copy(update={"recipe": {"validation_share": 0.1}}))
    _, scores = read_validation(recorder.classifier, mnist)
    _, held_out = split(600, 0.1)
    assert scores.images == 60
    assert np.array_equal(recorder.seen[0], prepare(mnist.x_train[held_out], "auto"))
    with pytest.raises(RunError, match="exported model"):
        read_validation(Recorder().classifier, mnist)


def test_accuracy_is_given_by_corruption_and_erased_images_count_as_wrong(mnist: Mnist) -> None:
    images, labels = mnist.x_test[:20], mnist.y_test[:20]
    accuracies = corrupted_accuracy(Recorder().classifier, images, labels)
    assert set(accuracies) == set(CORRUPTIONS)
    assert accuracies["rotate"] == (labels == 7).mean()
    blank = np.zeros((2, 28, 28), np.uint8)
    assert corrupted_accuracy(Recorder().classifier, blank, np.array([7, 7]))["scale"] == 0


def _service(answer: Callable[[httpx2.Request], httpx2.Response]) -> RemoteService:
    client = httpx2.Client(base_url="http://digits", transport=httpx2.MockTransport(answer))
    return RemoteService("http://digits", client)


def _seven(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(
        200, json={"probabilities": [0.009] * 7 + [0.919] + [0.009] * 2, "accepted": True, "rejection": None}
    )


def test_images_are_sent_to_a_service_as_png(mnist: Mnist) -> None:
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append((request.url.path, dict(request.url.params), request.read()))
        return _seven(request)

    scores = read_images(_service(answer), mnist.x_test, mnist.y_test, "plain")[1]
    assert (scores.accuracy, len(sent)) == (0.1, 200)
    path, parameters, body = sent[0]
    assert (path, parameters) == ("/predict", {"preprocess": "plain"})
    assert b"\x89PNG" in body


def test_images_that_a_service_cannot_read_or_rejects_are_counted_by_reason(folder: Path) -> None:
    rejected = {"probabilities": [0.1] * 10, "accepted": False, "rejection": {"reason": "not_a_digit", "score": 2.0}}

    def answer(request: httpx2.Request) -> httpx2.Response:
        if b"PNG" not in request.read():
            return httpx2.Response(415, json={"code": "unsupported"})
        return httpx2.Response(200, json=rejected)

    answers, scores = read_folder(_service(answer), read_labels(folder))
    assert scores.unread == {"gone.png": "No such file or directory", "text.png": "unsupported"}
    assert answers.outlier_scores is None
    assert scores.acceptance is not None
    assert (scores.acceptance.share, scores.acceptance.reasons["not_a_digit"]) == (0.0, 3)


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
    ids=["unreachable", "not ready", "not JSON", "another response", "a list"],
)
def test_an_unusable_service_is_an_error(answer: Callable[[httpx2.Request], httpx2.Response], mnist: Mnist) -> None:
    with pytest.raises(ServiceError, match=r"http://digits does not (answer|respond)"):
        read_images(_service(answer), mnist.x_test[:3], mnist.y_test[:3])
