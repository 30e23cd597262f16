"""The commands of `digits`: files in, lines out. `app.cli.client` gets the answers."""

import asyncio
import glob
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from app import VERSION
from app.api.read_schemas import ReadParameters
from app.api.schemas import PredictQuery
from app.cli.client import (
    CONCURRENCY,
    Ask,
    Json,
    PredictionError,
    Question,
    ServiceUnavailable,
    digit_question,
    load,
    local,
    model_of,
    numbers_question,
    remote,
)
from app.cli.output import show_card, show_entry, show_load
from app.errors import ModelError, ScanError
from app.imaging.formats import SUFFIXES
from app.imaging.preprocess import Mode
from app.inference.memory import cores
from app.model.manifest import read_manifest
from app.settings import Settings, complaint

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
complaints = Console(stderr=True, soft_wrap=True, highlight=False)

_STDIN = "-"

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="Pictures, directories with pictures at any depth, patterns such as '*.png', or - for standard input.",
        show_default=False,
    ),
]
Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="Use the service at this address; do not load the model.")
]
AsJson = Annotated[bool, typer.Option("--json/--table", help="Print a line of JSON, or a readable line.")]


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"digits {VERSION}")
        raise typer.Exit


@app.callback()
def digits(
    _: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Read handwritten digits."""


@app.command()
def predict(
    files: Files,
    url: Url = None,
    as_json: AsJson = False,
    top_k: Annotated[
        int | None, typer.Option(min=1, max=10, help="Print this many digits, the most probable first.")
    ] = None,
    preprocess: Annotated[
        Mode, typer.Option(help="auto finds the digit; plain assumes light ink on dark and only resizes.")
    ] = "auto",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what the model saw and which pixels decided.")
    ] = False,
    accept_risk: Annotated[
        float | None, typer.Option(min=0.0001, max=0.1, help="Accept where the risk of being wrong is at most this.")
    ] = None,
) -> None:
    """Read the digit on each picture.

    --json prints each line as an entry of POST /predict/batch: filename, and either prediction or error.
    Exit status: 0 all were read, accepted or not; 1 some could not be read; 2 wrong usage.
    """
    query = PredictQuery(
        top_k=top_k or (3 if as_json else 1), preprocess=preprocess, explain=explain, accept_risk=accept_risk
    )
    _ask_all(files, url, digit_question(query), "prediction", as_json=as_json)


@app.command()
def read(
    files: Files,
    url: Url = None,
    as_json: AsJson = False,
    digits: Annotated[
        str | None, typer.Option(metavar="N|N-M", help="How many digits each number has, such as 4 or 3-6.")
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What a number can be: one a line.", exists=True, dir_okay=False)
    ] = None,
    fields: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The fields of a form, as POST /read takes them.", exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Read the numbers on each picture.

    --json prints each line as an entry of POST /read/batch: filename, and either reading or error.
    Exit status: 0 all were read, accepted or not; 1 some could not be read; 2 wrong usage.
    """
    try:
        asked = ReadParameters(
            digits=digits,
            candidates=_words(candidates) if candidates else [],
            fields=json.loads(fields.read_text()) if fields else [],
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise typer.BadParameter(": ".join([".".join(map(str, wrong["loc"])), wrong["msg"]]).lstrip(": ")) from error
    except ValueError as error:
        raise typer.BadParameter(f"a FILE cannot be read: {error}") from error
    _ask_all(files, url, numbers_question(asked), "reading", as_json=as_json)


@app.command()
def bench(
    files: Files,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="The service.")] = "http://localhost:8000",
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="Duration.")] = 10,
    connections: Annotated[int, typer.Option(min=1, max=256, help="Requests in flight.")] = 16,
) -> None:
    """Measure how many of these pictures a service reads per second.

    Exit status: 0 some were read; 1 none; 2 wrong usage.
    """
    try:
        pictures = [_content(name) for name in _names(files)]
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from error
    result = asyncio.run(load(_address(url), pictures, connections, seconds))
    show_load(result, pictures, connections, url)
    raise SystemExit(0 if result.times_ms else 1)


@app.command()
def card(url: Url = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show which model answers, how it was trained and how accurate it is."""
    if url is None:
        manifest = read_manifest(Settings().model_dir).model_dump(mode="json")
    else:
        manifest = asyncio.run(model_of(_address(url)))
    if as_json:
        typer.echo(json.dumps(manifest))
    else:
        show_card(manifest)


@app.command()
def scan(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Folders and patterns of pictures, .tar shards and .parquet files; paths, or URLs such as s3://bucket.",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the results are written.")],
    shard: Annotated[int, typer.Option(min=1, help="Picture files for each file of results.")] = 1000,
    column: Annotated[str, typer.Option(help="The column of Parquet files with the encoded images.")] = "image",
    processes: Annotated[int | None, typer.Option(min=1, max=1024, help="One for each core by default.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS]", help="Use a Ray cluster: at this address, or one started for it."),
    ] = None,
    read: Annotated[bool, typer.Option("--read", help="Read numbers, as many as each picture has.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write results.csv as well.")] = False,
) -> None:
    """Read millions of pictures, each exactly once. The same command continues a scan that ended early.

    A picture that cannot be read is a row with its error. Exit status: 0 all were scanned; 1 not all; 2 wrong usage.
    """
    from app.cli import scanning

    typer.echo(
        scanning.scan(
            inputs,
            out,
            shard=shard,
            column=column,
            processes=processes or cores(),
            ray=ray,
            read=read,
            csv=csv,
            console=complaints,
        )
    )


@app.command()
def review(folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of a finished scan.")]) -> None:
    """Correct what a scan did not accept, in the browser, with a key for each digit. Saves corrections.csv."""
    from app.cli import scanning

    typer.echo(scanning.review(folder))


@app.command()
def serve() -> None:
    """Start the HTTP service. Its settings are environment variables, DIGITS_*."""
    from app.server import main

    main()


def run() -> None:
    """Run the command. An error that the user can fix is one line and exit status 1."""
    try:
        app(_arguments(sys.argv[1:]), prog_name="digits")
    except (ModelError, ScanError, ServiceUnavailable) as error:
        complaints.print(f"digits: {error}", markup=False)
    except ValidationError as error:
        complaints.print(complaint(error), markup=False)
    except ModuleNotFoundError as error:
        if error.name not in {"fsspec", "pyarrow", "ray"}:
            raise
        extra = "ray" if error.name == "ray" else "scan"
        complaints.print(f"digits: {error.name} is not installed: pip install '.[{extra}]'", markup=False)
    raise SystemExit(1)


def _arguments(given: Sequence[str]) -> list[str]:
    """With an empty address for `--ray` without one: Typer has no options whose value may be missing."""
    return [
        "--ray=" if name == "--ray" and not re.fullmatch(r"ray://.+|auto|.+:\d+", address) else name
        for name, address in zip_longest(given, given[1:], fillvalue="")
    ]


def _ask_all(files: Sequence[str], url: str | None, question: Question, kind: str, *, as_json: bool) -> None:
    unread = asyncio.run(_answer_all(_names(files), url, question, kind, as_json=as_json))
    raise SystemExit(1 if unread else 0)


async def _answer_all(names: Sequence[str], url: str | None, question: Question, kind: str, *, as_json: bool) -> int:
    """Print the answers in the order of the files. Returns how many files could not be read."""
    unread = 0
    width = min(40, max(map(len, names)))
    watched = sys.stderr.isatty() and not sys.stdout.isatty()  # printed lines show the progress themselves
    async with local(question) if url is None else remote(_address(url), question) as ask:
        with Progress(console=complaints, transient=True, disable=not watched) as progress:
            bar = progress.add_task("", total=len(names))
            for start in range(0, len(names), CONCURRENCY):
                part = names[start : start + CONCURRENCY]
                for entry in await asyncio.gather(*(_entry(ask, name, kind) for name in part)):
                    unread += entry["error"] is not None
                    if as_json:
                        typer.echo(json.dumps(entry))
                    else:
                        show_entry(entry, width)
                    progress.advance(bar)
    return unread


async def _entry(ask: Ask, name: str, kind: str) -> Json:
    """The entry of a file as in the answer to a batch."""
    answer = problem = None
    try:
        answer = await ask(_content(name))
    except OSError as error:
        problem = {"code": "unreadable_file", "detail": error.strerror}
    except PredictionError as error:
        problem = error.problem
    return {"filename": os.fsencode(name).decode("utf-8", "replace"), kind: answer, "error": problem}


def _words(file: Path) -> list[str]:
    """What a file lists. Raises ValueError for an empty one: without candidates anything would be read."""
    if not (words := file.read_text().split()):
        raise ValueError("there is no candidate in it")
    return words


def _names(files: Sequence[str]) -> list[str]:
    """The files, with directories and patterns expanded. Raises BadParameter if there are none."""
    names = [name for file in files for name in _expanded(file)]
    if not names:
        raise typer.BadParameter(f"no pictures: searched for {', '.join(sorted(SUFFIXES))}")
    return names


def _expanded(file: str) -> Iterator[str]:
    if Path(file).is_dir():
        yield from sorted(
            str(path) for path in Path(file).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
    elif glob.has_magic(file) and not Path(file).exists():  # not expanded by a shell
        yield from sorted(glob.glob(file, recursive=True)) or [file]  # noqa: PTH207 - Path takes no absolute pattern
    else:
        yield file


def _content(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == _STDIN else Path(name).read_bytes()


def _address(url: str) -> str:
    """The address of the service in ``url``, which may lack http:// or end in /predict or /read."""
    return re.sub("(?<=[^:/])/((predict|read)/?)?$", "", url if "://" in url else f"http://{url}")
