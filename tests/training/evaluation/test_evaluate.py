from collections.abc import Callable
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.imaging.preprocess import preprocess
from app.model.engine import LiteRTEngine
from app.model.manifest import Manifest, Thresholds
from tests.drawings import digit_drawn, encoded
from tests.server import ROOT
from training.data import Mnist, read_labels, split
from training.drawing.corruptions import CORRUPTIONS
from training.errors import RunError, ServiceError
from training.evaluation.classifier import Classifier, load_classifier
from training.evaluation.evaluate import corrupted_accuracy, read_folder, read_mnist, read_validation
from training.evaluation.remote import RemoteService
from training.preparation import prepare
from training.recipes import Preprocessing

Ink = NDArray[np.float32]


class Recorder:
    """A classifier that answers 7, with a confidence of 0.91, and keeps what it was shown."""

    def __init__(self, preprocessing: Preprocessing, manifest: Manifest | None = None) -> None:
        self.seen: list[Ink] = []
        self.classifier = Classifier(self._logits, preprocessing, manifest)

    def _logits(self, ink: Ink) -> NDArray[np.float32]:
        self.seen.append(ink)
        return np.tile(np.log(np.eye(10)[7] * 0.9 + 0.01).astype(np.float32), (len(ink), 1))


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
    scores = read_mnist(classifier, mnist)[1]
    assert scores.images == 200
    assert scores.wrong == len(scores.mistakes) == round(200 * (1 - scores.accuracy))


def test_a_keras_file_is_evaluated_as_the_run_that_it_lies_in(finished_run: Path, mnist: Mnist) -> None:
    expected = read_mnist(load_classifier(finished_run), mnist)[1]
    assert read_mnist(load_classifier(finished_run / "model.keras"), mnist)[1] == expected


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
    read_mnist(recorder.classifier, mnist)
    assert np.allclose(recorder.seen[0], prepare(mnist.x_test, preprocessing), rtol=0, atol=1e-6)


def test_plain_shows_the_test_images_as_they_are(mnist: Mnist) -> None:
    recorder = Recorder("auto")
    read_mnist(recorder.classifier, mnist, "plain")
    assert np.array_equal(recorder.seen[0], prepare(mnist.x_test, "unit"))


def test_a_blank_test_image_counts_as_unread(mnist: Mnist) -> None:
    images = np.concatenate([np.zeros((1, 28, 28), np.uint8), mnist.x_test[:1]])
    blank_first = Mnist(mnist.x_train, mnist.y_train, images, np.array([7, 7]), {})
    scores = read_mnist(Recorder("auto").classifier, blank_first)[1]
    assert (scores.accuracy, scores.unread) == (0.5, {"test 0": "no_ink"})


def test_a_folder_is_read_through_the_preprocessing_of_the_service(folder: Path) -> None:
    recorder = Recorder("auto")
    read_folder(recorder.classifier, read_labels(folder))
    assert np.array_equal(recorder.seen[0][1], preprocess((folder / "two.png").read_bytes()).ink)


def test_what_cannot_be_read_counts_as_wrong_and_is_listed(folder: Path) -> None:
    scores = read_folder(Recorder("auto").classifier, read_labels(folder))[1]
    assert scores.accuracy == 0.2
    assert scores.unread == {
        "blank.png": "no_ink",
        "text.png": "unsupported_media_type",
        "gone.png": "No such file or directory",
    }
    assert {tag: of_tag.accuracy for tag, of_tag in scores.tags.items()} == {"photo": 0.5, "canvas": 0.0}


def test_a_folder_of_which_nothing_can_be_read_has_an_accuracy_of_nothing(folder: Path) -> None:
    files = [file for file in read_labels(folder) if file.path.name == "text.png"]
    assert read_folder(Recorder("auto").classifier, files)[1].accuracy == 0


def test_a_network_of_normalised_columns_sees_a_folder_normalised(folder: Path) -> None:
    recorder = Recorder("l2")
    read_folder(recorder.classifier, read_labels(folder))
    lengths = np.linalg.norm(recorder.seen[0], axis=1)
    assert np.allclose(lengths[lengths > 0], 1, atol=1e-5)


def _with_thresholds(manifest: Manifest, **thresholds: float) -> Classifier:
    complete = {"not_a_digit": 0.0, "low_confidence": 0.5} | thresholds
    return Recorder("auto", manifest.model_copy(update={"thresholds": Thresholds(**complete)})).classifier


def test_an_exported_model_rejects_as_the_service_does(manifest: Manifest, folder: Path) -> None:
    files = read_labels(folder)
    answers, _ = read_folder(_with_thresholds(manifest), files)
    assert answers.rejections == [None, None, "no_ink", "unsupported_media_type", "No such file or directory"]
    answers, _ = read_folder(_with_thresholds(manifest, low_confidence=0.95), files)
    assert answers.rejections is not None
    assert answers.rejections[:2] == ["low_confidence", "low_confidence"]


def test_a_digit_on_its_side_is_read_as_the_service_does() -> None:
    engine = LiteRTEngine.load(ROOT / "models")
    image = encoded(np.ascontiguousarray(np.rot90(digit_drawn(7))))
    answers = Classifier(engine.logits, "auto", engine.manifest).read([image], "auto")
    bare = Classifier(engine.logits, "auto").read([image], "auto")
    assert (answers.probabilities[0].argmax(), answers.rejections) == (7, ["not_a_digit"])
    assert bare.probabilities[0].argmax() != 7
    assert bare.outlier_scores is not None
    assert answers.outlier_scores is not None
    assert bare.outlier_scores.tolist() == answers.outlier_scores.tolist()


def test_a_network_that_was_not_exported_rejects_nothing(folder: Path) -> None:
    answers, scores = read_folder(Recorder("auto").classifier, read_labels(folder))
    assert answers.rejections is None
    assert scores.acceptance is None


def test_what_is_not_read_scores_higher_as_outlier_than_anything(folder: Path) -> None:
    answers, _ = read_folder(Recorder("auto").classifier, read_labels(folder))
    assert answers.outlier_scores is not None
    assert np.isposinf(answers.outlier_scores).tolist() == [False, False, True, True, True]


def test_the_validation_images_are_those_held_out(manifest: Manifest, mnist: Mnist) -> None:
    exported = Recorder("auto", manifest.model_copy(update={"recipe": {"validation_share": 0.1}}))
    _, scores = read_validation(exported.classifier, mnist)
    _, held_out = split(600, 0.1)
    assert scores.images == 60
    assert np.array_equal(exported.seen[0], prepare(mnist.x_train[held_out], "auto"))


def test_a_run_has_no_validation_to_be_asked_for(mnist: Mnist) -> None:
    with pytest.raises(RunError, match="was exported"):
        read_validation(Recorder("auto").classifier, mnist)


def test_accuracy_is_told_by_corruption(mnist: Mnist) -> None:
    images, labels = mnist.x_test[:20], mnist.y_test[:20]
    accuracies = corrupted_accuracy(Recorder("auto").classifier, images, labels)
    assert set(accuracies) == set(CORRUPTIONS)
    assert accuracies["rotate"] == (labels == 7).mean()


def test_what_a_corruption_wipes_out_counts_as_wrong() -> None:
    blank, labels = np.zeros((2, 28, 28), np.uint8), np.array([7, 7])
    assert corrupted_accuracy(Recorder("auto").classifier, blank, labels)["scale"] == 0


def _service(answer: Callable[[httpx2.Request], httpx2.Response]) -> RemoteService:
    client = httpx2.Client(base_url="http://digits", transport=httpx2.MockTransport(answer))
    return RemoteService("http://digits", client)


def _seven(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(
        200, json={"probabilities": [0.009] * 7 + [0.919] + [0.009] * 2, "accepted": True, "rejection": None}
    )


def test_the_test_images_are_sent_to_a_service_as_png(mnist: Mnist) -> None:
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append((request.url.path, dict(request.url.params), request.read()))
        return _seven(request)

    scores = read_mnist(_service(answer), mnist, "plain")[1]
    assert scores.accuracy == 0.1
    assert len(sent) == 200
    path, parameters, body = sent[0]
    assert (path, parameters) == ("/predict", {"preprocess": "plain"})
    assert b"\x89PNG" in body


def test_what_a_service_refuses_counts_as_unread(folder: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return _seven(request) if b"PNG" in request.read() else httpx2.Response(415, json={"code": "unsupported"})

    scores = read_folder(_service(answer), read_labels(folder))[1]
    assert scores.accuracy == 0.2
    assert scores.unread == {"gone.png": "No such file or directory", "text.png": "unsupported"}


def test_what_a_service_rejects_is_counted_by_reason(mnist: Mnist) -> None:
    body = {"probabilities": [0.1] * 10, "accepted": False, "rejection": {"reason": "not_a_digit", "score": 2.0}}
    answers, scores = read_mnist(_service(lambda _: httpx2.Response(200, json=body)), mnist)
    assert answers.outlier_scores is None
    assert scores.acceptance is not None
    assert (scores.acceptance.share, scores.acceptance.reasons) == (0.0, {"not_a_digit": 200})


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
        read_mnist(_service(answer), mnist)
