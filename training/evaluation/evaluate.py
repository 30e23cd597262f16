"""Evaluation: a classifier or a running service, asked about MNIST's test set or a folder -> answers and scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.imaging.decode import encode_png
from app.imaging.preprocess import Mode
from training.data import Images, LabelledFile, Labels, Mnist, split
from training.drawing.corruptions import CORRUPTIONS
from training.errors import RunError
from training.evaluation.answers import Answers, Reader
from training.evaluation.classifier import Classifier
from training.evaluation.measures import accuracy
from training.evaluation.scoring import Scores, score

CORRUPTION_SEED = 2019


def read_mnist(reader: Reader, mnist: Mnist, mode: Mode = "auto") -> tuple[Answers, Scores]:
    """Of the test images, each encoded as PNG. A network that learnt its own input is shown that, not ``mode``."""
    return read_images(reader, mnist.x_test, mnist.y_test, mode)


def read_validation(classifier: Classifier, mnist: Mnist) -> tuple[Answers, Scores]:
    """Of the training images that an exported model was validated on. Raises RunError for one that was not exported."""
    if classifier.manifest is None:
        raise RunError("this asks for a model that was exported, and its manifest: give a models directory")
    share = classifier.manifest.recipe["validation_share"]
    assert isinstance(share, float)
    _, held_out = split(len(mnist.x_train), share)
    return read_images(classifier, mnist.x_train[held_out], mnist.y_train[held_out])


def read_images(reader: Reader, images: Images, labels: Labels, mode: Mode = "auto") -> tuple[Answers, Scores]:
    """Of grey images, uint8 (n, height, width), and their labels."""
    if isinstance(reader, Classifier) and reader.preprocessing != "auto":
        mode = "plain"
    answers = reader.read([encode_png(grey) for grey in images], mode)
    return answers, score(answers, labels, [f"test {place}" for place in range(len(images))])


def read_folder(reader: Reader, files: Sequence[LabelledFile], mode: Mode = "auto") -> tuple[Answers, Scores]:
    """Of encoded images. One that cannot be read counts as wrong."""
    answers = reader.read(contents([file.path for file in files]), mode)
    scores = score(
        answers,
        np.array([file.label for file in files], np.int64),
        [file.path.name for file in files],
        tags=[file.tag for file in files],
        groups=[file.group for file in files],
    )
    return answers, scores


def corrupted_accuracy(reader: Reader, images: Images, labels: Labels, mode: Mode = "auto") -> dict[str, float]:
    """Accuracy by corruption, on the same images each time."""
    return {
        name: _accuracy(reader, corrupt(images, CORRUPTION_SEED), labels, mode) for name, corrupt in CORRUPTIONS.items()
    }


def contents(paths: Sequence[Path]) -> list[bytes | str]:
    """The bytes of the files, or why one cannot be opened."""
    return [_content(path) for path in paths]


def _accuracy(reader: Reader, images: Images, labels: Labels, mode: Mode) -> float:
    answers = reader.read([encode_png(grey) for grey in images], mode)
    answered = np.array([place not in answers.unread for place in range(len(labels))], bool)
    if not answered.any():
        return 0.0
    return accuracy(answers.probabilities[answered], labels[answered]) * float(answered.mean())


def _content(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return error.strerror or "cannot be opened"
