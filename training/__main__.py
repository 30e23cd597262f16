"""The commands of training, ``python -m training COMMAND``; ``--help`` lists them.

Each command imports what it needs when it runs, so that ``--help`` does not load TensorFlow.
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
from training.data.folders import read_labels, read_numbers, read_unlabelled
from training.data.mnist import Mnist, load_mnist
from training.data.samples import Samples, default_cache, find, load, load_all
from training.data.sources import SOURCES, find_sources
from training.errors import DataError, RecipeError, TrainingError
from training.recipes import find_recipe
from training.reporting.tables import (
    show_choices,
    show_corruptions,
    show_numbers,
    show_rejection,
    show_scores,
    show_sets,
    show_sources,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
stderr = Console(stderr=True, soft_wrap=True, highlight=False)

Data = Annotated[
    Path | None,
    typer.Option(help="MNIST as .npz, in the layout of keras.datasets.mnist; downloaded by default."),
]
Model = Annotated[
    Path, typer.Argument(help="A models directory, a run directory, or a .keras file in a run directory.")
]
Models = Annotated[Path, typer.Option(help="The directory of the exported model.")]
SourcesFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Look for sources here first. Nothing is written here.")
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where sources are downloaded to; default: digits in your cache directory."),
]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A folder of images with labels.csv (file,label; optionally tag and group), or such a table.",
    ),
]
OnlyTags = Annotated[str | None, typer.Option(metavar="TAG,TAG", help="Only the images with one of these tags.")]
Outliers = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A folder of images without a digit; if it has labels.csv (file), only those in it. If that has a column "
        "pure_negative, only rows that say yes are used.",
    ),
]
Several = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A folder of images of several digits, with labels.csv (file).")
]
NumberPictures = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Pictures of numbers, with labels.csv (file,label, lines joined by |; optionally tag and touching); "
        "`evaluate` then reads only these.",
    ),
]
Sets = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="A set, or a folder of sets; may be repeated. An .npz file of digits (x, y) or of none (x, label), or a "
        ".zip file of pictures without a digit.",
    ),
]


@app.callback()
def training() -> None:
    """Train, evaluate and export the model."""
    configure_codecs(MAX_PIXELS)


@app.command()
def fit(
    recipe: Annotated[str | None, typer.Option(help="The name of a recipe, or FILE.json with its fields.")] = None,
    models: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Fine-tune the model in this directory on --images.")
    ] = None,
    images: Images = None,
    outliers: Outliers = None,
    data: Data = None,
    run: Annotated[Path | None, typer.Option(help="The run directory to write; default: runs/RECIPE-SEED.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the recipe's seed.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Overrides the recipe's number of epochs.")] = None,
    limit: Annotated[int | None, typer.Option(help="Train on the first images only.")] = None,
    sources: SourcesFolder = None,
    cache: Cache = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train without this source of the recipe; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
) -> None:
    """Train a network, or fine-tune a model on your own pictures, and write a run directory."""
    from training import fine_tuning

    folders = _folders(sources, cache)
    start, skipped = None, set(without or ())
    own: list[Samples] = []
    if recipe and not (models or images):
        chosen = find_recipe(recipe)
    elif models and images and not recipe:
        start = fine_tuning.Start(models=models, images=images, outliers=outliers)
        chosen, own = fine_tuning.begin(start)
        missing = {source.name for source in find_sources(chosen.sources) if not find(source, folders)} - skipped
        if missing:
            stderr.print(f"trained without sources that are not here: {', '.join(sorted(missing))}")
        skipped |= missing
    else:
        raise RecipeError("pass either --recipe, or --from and --images")
    if unused := skipped - set(chosen.sources):
        raise DataError(f"recipe {chosen.name} has no source {', '.join(sorted(unused))}")
    chosen = replace(
        chosen,
        sources=tuple(name for name in chosen.sources if name not in skipped),
        seed=chosen.seed if seed is None else seed,
        epochs=chosen.epochs if epochs is None else epochs,
        limit=chosen.limit if limit is None else limit,
    )
    run = run or Path("runs") / f"{chosen.name}-{chosen.seed}"
    samples = [*load_all(find_sources(chosen.sources), folders), *own]
    mnist = _mnist(data)

    from training import fit as training_fit

    training_fit.fit(chosen, run, mnist, samples, start, resume=resume, console=console)
    console.print(f"{run}")


@app.command("data")
def list_sources(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All sources by default.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download these sources and convert them.")] = False,
    sources: SourcesFolder = None,
    cache: Cache = None,
) -> None:
    """List the sources of training data besides MNIST: which are here, what the others take."""
    from training.data import download

    chosen = find_sources(names or SOURCES)
    if fetch and not names:
        raise DataError("name the sources to fetch; python -m training data lists them with their licences")
    for source in chosen if fetch else ():
        fetched = download.fetch(source, cache or default_cache(), console)
        console.print(f"{fetched}", highlight=False, soft_wrap=True)
    show_sources(chosen, _folders(sources, cache), console)


@app.command()
def evaluate(
    model: Model = Path("models"),
    data: Data = None,
    images: Images = None,
    only_tags: OnlyTags = None,
    outliers: Outliers = None,
    several: Several = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Evaluate only on the test images with the corruptions of MNIST-C.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Use the first test images only.")] = None,
    sets: Sets = None,
    numbers: NumberPictures = None,
    through_service: Annotated[
        str | None, typer.Option(metavar="URL", help="Evaluate a running service instead of MODEL.")
    ] = None,
    preprocess: Annotated[Mode, typer.Option(help="The preprocessing mode.")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all results to this file, as JSON.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the mistakes on --images to this PNG.")
    ] = None,
) -> None:
    """Evaluate a model on the MNIST test set, a folder of images or sets, and on images that it should reject."""
    from training.evaluation import evaluate as evaluation
    from training.evaluation.classifier import load_classifier
    from training.evaluation.numbers import read_number_files
    from training.evaluation.rejection import score_rejection
    from training.evaluation.remote import RemoteService
    from training.evaluation.scoring import Predictor
    from training.reporting.sheets import mistakes_sheet

    if numbers is not None:
        figures_of_numbers = read_number_files(model, read_numbers(numbers))
        show_numbers(figures_of_numbers, console)
        _write_json(json_file, asdict(figures_of_numbers))
        return
    predictor: Predictor = load_classifier(model) if through_service is None else RemoteService(through_service)
    if corruptions:
        mnist = _mnist(data)
        accuracies = evaluation.corrupted_accuracy(predictor, mnist.x_test[:limit], mnist.y_test[:limit], preprocess)
        show_corruptions(accuracies, console)
        _write_json(json_file, dict(accuracies))
        return
    if sets:
        digit_sets, other_sets = evaluation.read_sets(predictor, sets, preprocess)
        show_sets(digit_sets, other_sets, console)
        _write_json(json_file, {name: asdict(each) for name, each in (digit_sets | other_sets).items()})
        return
    if images is None:
        mnist = _mnist(data)
        answers, scores = evaluation.read_images(predictor, mnist.x_test[:limit], mnist.y_test[:limit], preprocess)
    else:
        files = read_labels(images, _tags(only_tags))
        answers, scores = evaluation.read_folder(predictor, files, preprocess)
        if sheet is not None:
            pictures = evaluation.contents([file.path for file in files])
            names = [file.path.name for file in files]
            mistakes_sheet(scores, dict(zip(names, pictures, strict=True)), preprocess, sheet)
    show_scores(scores, console)
    figures = asdict(scores)
    for title, folder in (("outliers", outliers), ("several digits", several)):
        if folder is not None:
            rejected = predictor.read(evaluation.contents(read_unlabelled(folder)), preprocess)
            # no AUROC for several digits: the outlier score does not detect them
            rejection = score_rejection(rejected, answers.outlier_scores if folder is outliers else None)
            show_rejection(title, rejection, console)
            if folder is outliers and rejection.auroc is None:
                console.print("  no AUROC: a service does not report the outlier scores of accepted images")
            figures[title.replace(" ", "_")] = asdict(rejection)
    _write_json(json_file, figures)


@app.command()
def thresholds(
    images: Annotated[Path, typer.Option(help="A folder of digits by other people, with labels.csv (file,label).")],
    model: Model = Path("models"),
    data: Data = None,
    only_tags: OnlyTags = None,
    outliers: Outliers = None,
) -> None:
    """Show the effect of each pair of thresholds. training/evaluation/rejection.py sets the pair in use."""
    from training.evaluation.classifier import load_classifier
    from training.evaluation.evaluate import contents, read_validation
    from training.evaluation.rejection import choices

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
    models: Models = Path("models"),
    sources: SourcesFolder = None,
    cache: Cache = None,
) -> None:
    """Export a run's model for the service, calibrated and evaluated, with manifest and card."""
    from training import export as training_export

    others = training_export.held_out_pictures(run, _folders(sources, cache))
    scores = training_export.export(run, models, version, _mnist(data), others)
    show_scores(scores, console)
    console.print(f"{models}")


@app.command()
def reference(
    models: Models = Path("models"),
    data: Data = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images from your own traffic, instead of MNIST.")
    ] = None,
) -> None:
    """Write the drift reference to the manifest: the images that the service compares its traffic with."""
    from app.model.engine import KerasEngine
    from app.model.manifest import write_manifest
    from training.drift_reference import MIN_IMAGES, folder_images, make_reference, validation_images

    engine = KerasEngine.load(models)
    manifest = engine.manifest
    if images is None:
        made = make_reference(engine, manifest, validation_images(manifest, _mnist(data)), "mnist")
    else:
        made = make_reference(engine, manifest, folder_images(images), "pictures")
    if made.pictures < MIN_IMAGES:
        raise DataError(f"a reference needs at least {MIN_IMAGES} readable images; found {made.pictures}")
    write_manifest(manifest.model_copy(update={"reference": made}), models)
    console.print(f"{models}: drift reference made from {made.pictures} images", highlight=False)


@app.command()
def report(
    models: Models = Path("models"),
    data: Data = None,
    images: Images = None,
    only_tags: OnlyTags = None,
    outliers: Outliers = None,
    several: Several = None,
    sets: Sets = None,
    numbers: NumberPictures = None,
    limit: Annotated[int | None, typer.Option(help="Corrupt the first test images only.")] = None,
) -> None:
    """Evaluate the exported model on the given data and write its card, plots and manifest metrics."""
    from training.evaluation.evaluate import EvaluationData
    from training.reporting import report as reporting

    mnist = _mnist(data)
    evaluated = EvaluationData(
        mnist=mnist,
        files=[] if images is None else read_labels(images, _tags(only_tags)),
        outliers=[] if outliers is None else read_unlabelled(outliers),
        several=[] if several is None else read_unlabelled(several),
        sets=sets or (),
        numbers=[] if numbers is None else read_numbers(numbers),
        corrupted=len(mnist.x_test) if limit is None else limit,
    )
    console.print(
        f"Evaluating; the fifteen corruptions of {evaluated.corrupted} test images take the longest.", highlight=False
    )
    figures = reporting.report(models, evaluated)
    show_scores(figures.test, console)
    console.print(f"{models / reporting.CARD}")


@app.command()
def sheets(
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    data: Data = None,
    sources: SourcesFolder = None,
    cache: Cache = None,
) -> None:
    """Draw contact sheets of the training images, with the sources that are here, and of the corrupted test images."""
    from training.reporting.sheets import drawn_sheets

    here = [(source, find(source, _folders(sources, cache))) for source in SOURCES.values()]
    samples = [load(source, folder) for source, folder in here if folder]
    for path in drawn_sheets(_mnist(data), samples, out):
        console.print(f"{path}")


def main() -> None:
    """Run the command. An error that the user can fix is printed as one line, with exit status 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hide TensorFlow's notes on the processor
    try:
        app()
    except (TrainingError, ModelError, DigitsError) as error:
        stderr.print(f"error: {error}", markup=False)
        raise SystemExit(1) from None


def _tags(only_tags: str | None) -> list[str]:
    return [tag.strip() for tag in (only_tags or "").split(",") if tag.strip()]


def _folders(sources: Path | None, cache: Path | None) -> list[Path]:
    return [folder for folder in (sources, cache or default_cache()) if folder is not None]


def _write_json(path: Path | None, figures: dict[str, object]) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _mnist(data: Path | None) -> Mnist:
    mnist = load_mnist(data)
    if not mnist.published:
        stderr.print("warning: this is not the original MNIST; its hashes are recorded with the model")
    return mnist


if __name__ == "__main__":
    main()
