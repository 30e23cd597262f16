"""The command line of training: ``python -m training fit | evaluate | export | reference | report``.

Commands import what they need when they run: ``--help`` waits for no TensorFlow.
"""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from app.errors import DigitsError, ModelError
from app.imaging.codecs import configure_codecs
from app.imaging.formats import MAX_PIXELS
from app.imaging.preprocess import Mode
from training.data import Mnist, load_mnist, read_arrays, read_labels, read_unlabelled
from training.errors import DataError, TrainingError
from training.evaluation.answers import Reader
from training.options import Data, ImageFolder, ModelToMeasure, OnlyTags, OutlierFolder, SeveralFolder
from training.recipes import find_recipe
from training.reporting.tables import show_choices, show_corruptions, show_rejection, show_scores

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
complaints = Console(stderr=True, soft_wrap=True, highlight=False)


@app.callback()
def training() -> None:
    """Train, measure and export the model."""
    configure_codecs(MAX_PIXELS)


@app.command()
def fit(
    recipe: Annotated[str, typer.Option(help="A named recipe, or FILE.json with the fields of one.")],
    data: Data = None,
    run: Annotated[Path | None, typer.Option(help="Where the run is written; runs/RECIPE-SEED by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's own.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's own.")] = None,
    limit: Annotated[int | None, typer.Option(help="Learn from the first images only.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was killed.")] = False,
) -> None:
    """Train a network and write a run directory."""
    chosen = find_recipe(recipe)
    chosen = replace(
        chosen,
        seed=chosen.seed if seed is None else seed,
        epochs=chosen.epochs if epochs is None else epochs,
        limit=chosen.limit if limit is None else limit,
    )
    run = run or Path("runs") / f"{chosen.name}-{chosen.seed}"
    mnist = _mnist(data)

    from training import fit as training_fit

    training_fit.fit(chosen, run, mnist, resume=resume, console=console)
    console.print(f"{run}")


@app.command()
def evaluate(
    model: ModelToMeasure = Path("models"),
    data: Data = None,
    images: ImageFolder = None,
    only_tags: OnlyTags = None,
    outliers: OutlierFolder = None,
    several: SeveralFolder = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Only the test images, corrupted in the fifteen ways of MNIST-C.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first of the test images.")] = None,
    through_service: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a running service, instead of MODEL.")
    ] = None,
    preprocess: Annotated[Mode, typer.Option(help="How the service's preprocessing reads an image.")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there too.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the mistakes in DIR there, a PNG.")] = None,
) -> None:
    """Measure a model on MNIST's test set or on a folder of images, and how it rejects what is no digit."""
    from training.evaluation import evaluate as evaluation
    from training.evaluation.classifier import load_classifier
    from training.evaluation.rejection import score_rejection
    from training.evaluation.remote import RemoteService
    from training.reporting.sheets import mistakes_sheet

    reader: Reader = load_classifier(model) if through_service is None else RemoteService(through_service)
    if corruptions:
        mnist = _mnist(data)
        by_corruption = evaluation.corrupted_accuracy(reader, mnist.x_test[:limit], mnist.y_test[:limit], preprocess)
        show_corruptions(by_corruption, console)
        _write_json(json_file, dict(by_corruption))
        return
    if images is None:
        answers, scores = evaluation.read_mnist(reader, _mnist(data).first_tests(limit), preprocess)
    else:
        files = read_labels(images, _tags(only_tags))
        answers, scores = evaluation.read_folder(reader, files, preprocess)
        if sheet is not None:
            opened = evaluation.contents([file.path for file in files])
            mistakes_sheet(
                scores, dict(zip((file.path.name for file in files), opened, strict=True)), preprocess, sheet
            )
    show_scores(scores, console)
    figures = asdict(scores)
    for what, folder in (("outliers", outliers), ("several digits", several)):
        if folder is not None:
            rejected = reader.read(evaluation.contents(read_unlabelled(folder)), preprocess)
            # several digits look like digits: the score is not what tells them
            rejection = score_rejection(rejected, answers if folder is outliers else None)
            show_rejection(what, rejection, console)
            if folder is outliers and rejection.auroc is None:
                console.print("  AUROC is left out: a service does not tell the score of what it accepts")
            figures[what.replace(" ", "_")] = asdict(rejection)
    _write_json(json_file, figures)


@app.command()
def thresholds(
    images: Annotated[Path, typer.Option(help="Digits of other people: a folder with labels.csv (file,label).")],
    model: ModelToMeasure = Path("models"),
    data: Data = None,
    only_tags: OnlyTags = None,
    outliers: OutlierFolder = None,
) -> None:
    """Show what each choice of thresholds would accept; those chosen are constants of training.export."""
    from training.evaluation.classifier import load_classifier
    from training.evaluation.evaluate import contents, read_validation
    from training.evaluation.thresholds import choices

    classifier = load_classifier(model)
    files = read_labels(images, _tags(only_tags))
    show_choices(
        choices(
            read_validation(classifier, _mnist(data))[0],
            classifier.read(contents([file.path for file in files]), "auto"),
            np.array([file.label for file in files]),
            None if outliers is None else classifier.read(contents(read_unlabelled(outliers)), "auto"),
        ),
        console,
    )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run directory.")],
    version: Annotated[str, typer.Option(metavar="X.Y.Z", help="The version of the model.")],
    data: Data = None,
    models: Annotated[Path, typer.Option(help="Where the service finds the model.")] = Path("models"),
) -> None:
    """Write the model of a run as the service loads it, calibrated and measured, with manifest and card."""
    from training import export as training_export

    scores = training_export.export(run, models, version, _mnist(data))
    show_scores(scores, console)
    console.print(f"{models}")


@app.command()
def reference(
    models: Annotated[Path, typer.Option(help="Where the exported model is.")] = Path("models"),
    data: Data = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures as your callers send them, instead of MNIST's.")
    ] = None,
) -> None:
    """Write into the manifest what the service compares its callers' pictures with, to tell drift."""
    from app.model.engine import KerasEngine
    from app.model.manifest import write_manifest
    from training.drift_reference import LEAST, folder_pictures, make_reference, validation_pictures

    engine = KerasEngine.load(models)
    manifest = engine.manifest
    if images is None:
        made = make_reference(engine, manifest, validation_pictures(manifest, _mnist(data)), "mnist")
    else:
        made = make_reference(engine, manifest, folder_pictures(images), "pictures")
    if made.pictures < LEAST:
        raise DataError(f"a reference needs {LEAST} pictures that can be read: there are {made.pictures}")
    write_manifest(manifest.model_copy(update={"reference": made}), models)
    console.print(f"{models}: drift is told from {made.pictures} pictures", highlight=False)


@app.command()
def report(
    models: Annotated[Path, typer.Option(help="Where the model is, and where the card is written.")] = Path("models"),
    data: Data = None,
    images: ImageFolder = None,
    only_tags: OnlyTags = None,
    outliers: OutlierFolder = None,
    several: SeveralFolder = None,
    semeion: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Semeion as .npz: x uint8 (n, 16, 16), y.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Corrupt only the first of the test images.")] = None,
) -> None:
    """Measure the exported model on the data given, and write its card, its pictures and its figures."""
    from training.reporting import report as reporting

    mnist = _mnist(data)
    sources = reporting.Sources(
        mnist=mnist,
        files=[] if images is None else read_labels(images, _tags(only_tags)),
        outliers=[] if outliers is None else read_unlabelled(outliers),
        several=[] if several is None else read_unlabelled(several),
        semeion=None if semeion is None else read_arrays(semeion),
        corrupted=len(mnist.x_test) if limit is None else limit,
    )
    console.print(
        f"Measuring; {sources.corrupted} test images corrupted in fifteen ways take the longest.", highlight=False
    )
    figures = reporting.report(models, sources)
    show_scores(figures.test, console)
    console.print(f"{models / reporting.CARD}")


@app.command()
def sheets(
    out: Annotated[Path, typer.Option(help="The folder that the pictures are written into.")],
    data: Data = None,
) -> None:
    """Draw contact sheets of what a model learns from, and of the corruptions that it is measured on."""
    from training.reporting.sheets import drawn_sheets

    for path in drawn_sheets(_mnist(data), out):
        console.print(f"{path}")


def main() -> None:
    """Run the command; a mistake that a person can mend is one line and exit status 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on the processor drown the figures
    try:
        app()
    except (TrainingError, ModelError, DigitsError) as error:
        complaints.print(f"error: {error}", markup=False)
        raise SystemExit(1) from None


def _tags(only_tags: str | None) -> list[str]:
    return [tag.strip() for tag in (only_tags or "").split(",") if tag.strip()]


def _write_json(path: Path | None, figures: dict[str, object]) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _mnist(data: Path | None) -> Mnist:
    mnist = load_mnist(data)
    if not mnist.published:
        complaints.print("warning: these are not the arrays of the MNIST database; their hashes are recorded")
    return mnist


if __name__ == "__main__":
    main()
