"""Evaluation: a model or a running service reads MNIST or a folder of images -> answers, scores and all figures."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.imaging.decode import encode_png
from app.imaging.preprocess import Mode
from app.model.manifest import Manifest
from training.data.arrays import Images, Labels, read_arrays, read_npz
from training.data.folders import LabelledFile, NumberFile
from training.data.mnist import Mnist, split
from training.drawing.corruptions import CORRUPTIONS
from training.errors import RunError
from training.evaluation.classifier import Classifier, load_classifier
from training.evaluation.measures import accuracy
from training.evaluation.numbers import NumberFigures, read_number_files
from training.evaluation.rejection import RejectionScores, score_rejection
from training.evaluation.scoring import Answers, Predictor, Scores, score

CORRUPTION_SEED = 2019


@dataclass(frozen=True)
class EvaluationData:
    """The data to evaluate on; MNIST is required. ``corrupted``: how many test images to corrupt."""

    mnist: Mnist
    files: Sequence[LabelledFile] = ()
    outliers: Sequence[Path] = ()
    several: Sequence[Path] = ()
    sets: Sequence[Path] = ()  # see `read_sets`
    numbers: Sequence[NumberFile] = ()
    corrupted: int = 0


@dataclass(frozen=True)
class Figures:
    """Everything measured of one model; None where there was no data.

    ``images``: drawings and photos by other people. ``outliers`` are compared with these, or with the MNIST test digits
    if there are none. ``corruptions``: accuracy by name, on ``corrupted`` images each.
    """

    test: Scores
    validation: Scores
    images: Scores | None
    outliers: RejectionScores | None
    several: RejectionScores | None
    corrupted: int
    corruptions: dict[str, float] | None
    digit_sets: dict[str, Scores]
    other_sets: dict[str, RejectionScores]
    numbers: NumberFigures | None

    @property
    def sets(self) -> dict[str, Scores]:
        """Scores of the digit sets that were measured, by name."""
        sets = {"test": self.test, "validation": self.validation, "images": self.images}
        return {name: scores for name, scores in sets.items() if scores} | self.digit_sets

    @property
    def to_reject(self) -> dict[str, RejectionScores]:
        """Scores of the sets to reject that were measured, by name."""
        sets = {"outliers": self.outliers, "several": self.several}
        return {name: scores for name, scores in sets.items() if scores} | self.other_sets

    @property
    def corrupted_accuracy(self) -> float | None:
        """The mean over the corruptions."""
        return sum(self.corruptions.values()) / len(self.corruptions) if self.corruptions else None


def measure(models: Path, data: EvaluationData) -> Figures:
    """All figures of the model in ``models``, measured with the served engine. Raises ModelError."""
    classifier = load_classifier(models)
    mnist, corrupted = data.mnist, min(data.corrupted, len(data.mnist.x_test))
    digits, test = read_images(classifier, mnist.x_test, mnist.y_test)
    images = outliers = several = corruptions = None
    if data.files:
        digits, images = read_folder(classifier, data.files)
    if data.outliers:
        outliers = score_rejection(classifier.read(contents(data.outliers), "auto"), digits.outlier_scores)
    if data.several:
        several = score_rejection(classifier.read(contents(data.several), "auto"), None)
    if corrupted:
        corruptions = corrupted_accuracy(classifier, mnist.x_test[:corrupted], mnist.y_test[:corrupted])
    digit_sets, other_sets = read_sets(classifier, data.sets)
    return Figures(
        test=test,
        validation=read_validation(classifier, mnist)[1],
        images=images,
        outliers=outliers,
        several=several,
        corrupted=corrupted,
        corruptions=corruptions,
        digit_sets=digit_sets,
        other_sets=other_sets,
        numbers=read_number_files(models, data.numbers) if data.numbers else None,
    )


def read_images(predictor: Predictor, images: Images, labels: Labels, mode: Mode = "auto") -> tuple[Answers, Scores]:
    """Answers to grey images, uint8 (n, height, width), sent as PNG, and their scores.

    A network trained on another input than ``auto`` gets that input, regardless of ``mode``.
    """
    if isinstance(predictor, Classifier) and predictor.preprocessing != "auto":
        mode = "plain"
    answers = predictor.read([encode_png(grey) for grey in images], mode)
    return answers, score(answers, labels, [f"test {index}" for index in range(len(images))])


def read_sets(
    predictor: Predictor, paths: Sequence[Path], mode: Mode = "auto"
) -> tuple[dict[str, Scores], dict[str, RejectionScores]]:
    """Scores of sets by name: of digits, and of what shows none, compared with all the digits. ``paths``: or folders.

    An .npz file has digits (x and y) or none (x and label); a .zip file has pictures without a digit. Raises DataError.
    """
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    digits: dict[str, Scores] = {}
    others: dict[str, Answers] = {}
    outlier_scores = []
    for path in files:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith(("/", ".csv"))]
                others[path.stem] = predictor.read([archive.read(name) for name in names], mode)
        elif path.suffix == ".npz":
            arrays = read_npz(path)
            if "y" in arrays:
                answers, digits[path.stem] = read_images(predictor, *read_arrays(path), mode)
                outlier_scores.append(answers.outlier_scores)
            else:
                others[path.stem] = predictor.read([encode_png(grey.astype(np.uint8)) for grey in arrays["x"]], mode)
    known = [scores for scores in outlier_scores if scores is not None]
    beside = np.concatenate(known) if known else None
    return digits, {name: score_rejection(answers, beside) for name, answers in others.items()}


def read_validation(classifier: Classifier, mnist: Mnist) -> tuple[Answers, Scores]:
    """Answers to the images an exported model was validated on. Raises RunError if the model was not exported."""
    if classifier.manifest is None:
        raise RunError("this needs an exported model with its manifest: pass a models directory")
    return read_images(classifier, *validation_set(classifier.manifest, mnist))


def validation_set(manifest: Manifest, mnist: Mnist) -> tuple[Images, Labels]:
    """The MNIST training images that were held out when the model was trained, and their labels."""
    share = manifest.recipe["validation_share"]
    assert isinstance(share, float)
    _, held_out = split(len(mnist.x_train), share)
    return mnist.x_train[held_out], mnist.y_train[held_out]


def read_folder(predictor: Predictor, files: Sequence[LabelledFile], mode: Mode = "auto") -> tuple[Answers, Scores]:
    """Answers to image files and their scores. An unreadable file counts as wrong."""
    answers = predictor.read(contents([file.path for file in files]), mode)
    scores = score(
        answers,
        np.array([file.label for file in files], np.int64),
        [file.path.name for file in files],
        tags=[file.tag for file in files],
        groups=[file.group for file in files],
    )
    return answers, scores


def corrupted_accuracy(predictor: Predictor, images: Images, labels: Labels, mode: Mode = "auto") -> dict[str, float]:
    """Accuracy by corruption, always on the same images. An unreadable image counts as wrong."""
    accuracies = {}
    for name, corrupt in CORRUPTIONS.items():
        answers = predictor.read([encode_png(grey) for grey in corrupt(images, CORRUPTION_SEED)], mode)
        answered = np.array([index not in answers.unread for index in range(len(labels))], bool)
        correct = accuracy(answers.probabilities[answered], labels[answered]) if answered.any() else 0.0
        accuracies[name] = correct * float(answered.mean())
    return accuracies


def contents(paths: Sequence[Path]) -> list[bytes | str]:
    """The bytes of each file, or the reason why it cannot be opened."""
    return [_content(path) for path in paths]


def _content(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return error.strerror or "cannot be opened"
