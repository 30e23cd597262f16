"""The commands of `digits`: files in, lines out. `app.cli.client` gets the answers."""

import asyncio
import base64
import glob
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from app import VERSION
from app.api.schemas import PredictQuery
from app.cli.client import (
    CONCURRENCY,
    Ask,
    Json,
    LoadResult,
    PredictionError,
    ServiceUnavailable,
    load,
    local,
    model_of,
    remote,
)
from app.errors import ModelError, ScanError
from app.imaging.decode import decode
from app.imaging.formats import SUFFIXES, inspect
from app.imaging.preprocess import SIDE_PX, Mode
from app.inference.memory import cores
from app.model.manifest import read_manifest
from app.settings import Settings, complaint

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(soft_wrap=True, highlight=False)
complaints = Console(stderr=True, soft_wrap=True, highlight=False)

_STDIN = "-"
_SHADES = " ░▒▓█"
_ADVICE = {
    "low_confidence": "too uncertain",
    "not_a_digit": "if it is a digit: turn it upright, crop to it",
    "several_digits": "crop to one of them",
}

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
    as_json: Annotated[bool, typer.Option("--json/--table", help="Print a line of JSON, or a readable line.")] = False,
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
    unread = asyncio.run(_predict(_names(files), url, query, as_json=as_json))
    raise SystemExit(1 if unread else 0)


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
    _show_load(result, pictures, connections, url)
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
        _show_card(manifest)


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
        typer.Option(metavar="[ADDRESS]", help="Use a Ray cluster: at this address, or one found or started here."),
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


async def _predict(names: Sequence[str], url: str | None, query: PredictQuery, *, as_json: bool) -> int:
    """Print the answers in the order of the files. Returns how many files could not be read."""
    unread = 0
    width = min(40, max(map(len, names)))
    watched = sys.stderr.isatty() and not sys.stdout.isatty()  # printed lines show the progress themselves
    async with local(query) if url is None else remote(_address(url), query) as ask:
        with Progress(console=complaints, transient=True, disable=not watched) as progress:
            bar = progress.add_task("", total=len(names))
            for start in range(0, len(names), CONCURRENCY):
                for entry in await asyncio.gather(*(_entry(ask, name) for name in names[start : start + CONCURRENCY])):
                    unread += entry["error"] is not None
                    if as_json:
                        typer.echo(json.dumps(entry))
                    else:
                        _show_entry(entry, width)
                    progress.advance(bar)
    return unread


async def _entry(ask: Ask, name: str) -> Json:
    """The entry of a file as in the answer of `POST /predict/batch`."""
    try:
        prediction, problem = await ask(_content(name)), None
    except OSError as error:
        prediction, problem = None, {"code": "unreadable_file", "detail": error.strerror}
    except PredictionError as error:
        prediction, problem = None, error.problem
    return {"filename": os.fsencode(name).decode("utf-8", "replace"), "prediction": prediction, "error": problem}


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
    """The address of the service in ``url``, which may lack http:// or end in /predict."""
    return re.sub("(?<=[^:/])/(predict/?)?$", "", url if "://" in url else f"http://{url}")


def _show_entry(entry: Json, width: int) -> None:
    name = _printable(entry["filename"]).ljust(width)
    prediction = entry["prediction"]
    if prediction is None:
        problem = entry["error"]
        console.print(f"{name}  not read: {problem['detail']} ({problem['code']})", style="red", markup=False)
        return
    line = f"{name}  " + ", ".join(f"{each['digit']}  {_percent(each['probability'])}" for each in prediction["top"])
    rejection = prediction["rejection"]
    if rejection is not None:
        line += f"  not accepted: {rejection['reason']} ({_ADVICE[rejection['reason']]})"
    console.print(line, style="yellow" if rejection else None, markup=False)
    if explanation := prediction.get("explanation"):
        _show_explanation(explanation)


def _show_explanation(explanation: Json) -> None:
    """Both pictures side by side, one character per 1x2 pixels."""
    console.print(f"  {'what the model saw':{SIDE_PX}}  what its answer depends on")
    for seen, decisive in zip(_drawn(explanation["input_png"]), _drawn(explanation["saliency_png"]), strict=True):
        console.print(f"  {seen}  {decisive}".rstrip(), markup=False)
    box = explanation["ink_box"]
    ink = "darker" if explanation["inverted"] else "lighter"
    console.print(f"  from x {box['x']}, y {box['y']}, {box['width']}x{box['height']} pixels, {ink} than the paper")


def _drawn(png: str) -> list[str]:
    grey = decode(inspect(base64.b64decode(png))).grey
    halves = grey.reshape(SIDE_PX // 2, 2, SIDE_PX).mean(axis=1)
    return ["".join(_SHADES[int(level) * len(_SHADES) // 256] for level in row) for row in halves]


def _show_load(result: LoadResult, pictures: Sequence[bytes], connections: int, url: str) -> None:
    sizes = [len(picture) for picture in pictures]
    console.print(
        f"{url}: {len(pictures)} pictures of {min(sizes):,} to {max(sizes):,} bytes, "
        f"{connections} connections, {result.seconds:.1f} s",
        markup=False,
    )
    read = len(result.times_ms)
    console.print(f"read       {read:,} pictures, {read / result.seconds:,.1f} per second")
    if read:
        p50, p99 = np.percentile(result.times_ms, (50, 99))
        console.print(f"latency    p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    errors = ", ".join(f"{count:,} {code}" for code, count in result.errors.most_common())
    console.print(f"errors     {errors or 'none'}", markup=False)
    console.print(f"client     {result.client:.0%} of a processor core; near 100 % it limits the result")


def _show_card(manifest: Json) -> None:
    rows = {
        "architecture": f"{manifest['architecture']}, {manifest['parameters']:,} parameters, "
        f"{manifest['multiply_adds']:,} multiply-adds an image",
        "preprocessing": manifest["preprocessing"],
        "trained": ", ".join(f"{name} {value}" for name, value in manifest["trained"].items()),
        "temperature": manifest["temperature"],
        **{f"threshold {name}": value for name, value in manifest["thresholds"].items()},
        **{name.replace("_", " "): value for name, value in manifest["metrics"].items()},
    }
    width = max(map(len, rows))
    console.print(f"{manifest['name']} {manifest['version']}", style="bold", markup=False)
    for name, value in rows.items():
        console.print(f"{name.ljust(width)}  {value}", markup=False)


def _percent(probability: float) -> str:
    """Rounded down, so that only certainty is 100 %."""
    return f"{math.floor(probability * 10_000) / 100:.2f} %"


def _printable(name: str) -> str:
    """Without control characters, which would move the cursor or change colours."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
