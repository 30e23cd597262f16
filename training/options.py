"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(help="MNIST as .npz, in the layout of keras.datasets.mnist; downloaded by default."),
]

ModelToMeasure = Annotated[Path, typer.Argument(help="A models directory, a run directory, or a .keras file of a run.")]
ImageFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A folder with labels.csv (file,label; tag and group if you like).")
]
OnlyTags = Annotated[str | None, typer.Option(metavar="TAG,TAG", help="Only the images with one of these tags.")]
OutlierFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A folder with labels.csv (file) of what is no digit; pure_negative=yes if told."),
]
SeveralFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A folder with labels.csv (file) of several digits in one picture.")
]
