"""The command line of training: ``python -m training fit | evaluate | export``.

Commands import what they need when they run: ``--help`` waits for no TensorFlow.
"""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.errors import DigitsError, ModelError
from app.preprocessing import Mode
from training.data import Mnist, load_mnist, read_labels
from training.errors import TrainingError
from training.recipes import find_recipe
from training.tables import show_scores

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
complaints = Console(stderr=True, soft_wrap=True, highlight=False)

Data = Annotated[
    Path | None,
    typer.Option(help="MNIST as .npz, in the layout of keras.datasets.mnist; downloaded by default."),
]


@app.callback()
def training() -> None:
    """Train, measure and export the model."""


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
    model: Annotated[
        Path, typer.Argument(help="A models directory, a run directory, or a .keras file of a run.")
    ] = Path("models"),
    data: Data = None,
    images: Annotated[
        Path | None, typer.Option(help="A folder with labels.csv (file,label), instead of MNIST's test set.")
    ] = None,
    through_service: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a running service, instead of MODEL.")
    ] = None,
    preprocess: Annotated[Mode, typer.Option(help="How the service's preprocessing reads an image.")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there too.")
    ] = None,
) -> None:
    """Measure a model on MNIST's test set or on a folder of images."""
    from training import evaluate as evaluation
    from training.classifier import load_classifier
    from training.remote import RemoteService

    if through_service is not None:
        service = RemoteService(through_service)
        scores = (
            evaluation.evaluate_mnist_through(service, _mnist(data), preprocess)
            if images is None
            else evaluation.evaluate_folder_through(service, read_labels(images), preprocess)
        )
    else:
        classifier = load_classifier(model)
        scores = (
            evaluation.evaluate_mnist(classifier, _mnist(data), preprocess)
            if images is None
            else evaluation.evaluate_folder(classifier, read_labels(images), preprocess)
        )
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(scores), indent=2) + "\n", encoding="utf-8")
    show_scores(scores, console)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run directory.")],
    data: Data = None,
    models: Annotated[Path, typer.Option(help="Where the service finds the model.")] = Path("models"),
    version: Annotated[str, typer.Option(metavar="X.Y.Z", help="The version of the model.")] = "1.0.0",
) -> None:
    """Write the model of a run as the service loads it, calibrated and measured, with manifest and card."""
    from training import export as training_export

    scores = training_export.export(run, models, version, _mnist(data))
    show_scores(scores, console)
    console.print(f"{models}")


def main() -> None:
    """Run the command; a mistake that a person can mend is one line and exit status 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on the processor drown the figures
    try:
        app()
    except (TrainingError, ModelError, DigitsError) as error:
        complaints.print(f"error: {error}", markup=False)
        raise SystemExit(1) from None


def _mnist(data: Path | None) -> Mnist:
    mnist = load_mnist(data)
    if not mnist.published:
        complaints.print("warning: these are not the arrays of the MNIST database; their hashes are recorded")
    return mnist


if __name__ == "__main__":
    main()
