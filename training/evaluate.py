"""Evaluation: a classifier or a running service, asked about MNIST's test set or a folder -> scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.decoding import encode_png
from app.errors import DigitsError
from app.preprocessing import Ink, Mode, preprocess
from training.classifier import Classifier
from training.data import LabelledFile, Mnist
from training.preparation import normalise_columns, prepare
from training.remote import RemoteService
from training.scoring import CLASSES, Scores, score


def evaluate_mnist(classifier: Classifier, mnist: Mnist, mode: Mode = "auto") -> Scores:
    """Scores on the test images. ``mode`` concerns classifiers that learnt through ``auto``; the rest see their own."""
    plain = classifier.preprocessing == "auto" and mode == "plain"
    ink = prepare(mnist.x_test, "unit" if plain else classifier.preprocessing)
    probabilities = classifier.classify(ink)
    unread = {int(place): "no ink" for place in np.flatnonzero(~ink.any(axis=(1, 2, 3)))}
    probabilities[list(unread)] = np.nan
    return score(probabilities, mnist.y_test, _test_names(mnist), unread=unread)


def evaluate_folder(classifier: Classifier, files: Sequence[LabelledFile], mode: Mode = "auto") -> Scores:
    """Scores on encoded images, through the preprocessing of the service. One that cannot be read counts as wrong."""
    contents, unread = _read(files)
    inks: dict[int, Ink] = {}
    for place, data in contents.items():
        try:
            inks[place] = preprocess(data, mode).ink
        except DigitsError as error:
            unread[place] = error.code
    probabilities = np.full((len(files), CLASSES), np.nan)
    if inks:
        ink = np.stack(list(inks.values()))
        ink = normalise_columns(ink) if classifier.preprocessing == "l2" else ink
        probabilities[list(inks)] = classifier.classify(ink)
    return _score_files(probabilities, files, unread)


def evaluate_mnist_through(service: RemoteService, mnist: Mnist, mode: Mode = "auto") -> Scores:
    """Scores on the test images, each sent as a PNG."""
    probabilities, unread = service.classify((encode_png(grey) for grey in mnist.x_test), mode)
    return score(probabilities, mnist.y_test, _test_names(mnist), unread=unread)


def evaluate_folder_through(service: RemoteService, files: Sequence[LabelledFile], mode: Mode = "auto") -> Scores:
    """Scores on the files of a folder, each sent as it is."""
    contents, unread = _read(files)
    answers, refused = service.classify(contents.values(), mode)
    places = list(contents)
    probabilities = np.full((len(files), CLASSES), np.nan)
    probabilities[places] = answers
    return _score_files(probabilities, files, unread | {places[at]: code for at, code in refused.items()})


def _read(files: Sequence[LabelledFile]) -> tuple[dict[int, bytes], dict[int, str]]:
    """The bytes of the files by place, and the reason for those that cannot be opened."""
    contents, unread = {}, {}
    for place, file in enumerate(files):
        try:
            contents[place] = file.path.read_bytes()
        except OSError as error:
            unread[place] = error.strerror or "cannot be opened"
    return contents, unread


def _score_files(probabilities: NDArray[np.float64], files: Sequence[LabelledFile], unread: dict[int, str]) -> Scores:
    return score(
        probabilities,
        np.array([file.label for file in files], np.int64),
        [file.path.name for file in files],
        unread=unread,
        tags=[file.tag for file in files],
    )


def _test_names(mnist: Mnist) -> list[str]:
    return [f"test {place}" for place in range(len(mnist.x_test))]
