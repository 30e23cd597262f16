"""How fast `digits scan` is, and how much memory it takes: `python -m benchmarks.scan --mnist FILE`.

Against decoding, search and network alone, `POST /predict/batch`, and one picture after the other with Keras. The
pictures are MNIST's training images as PNG, in tar archives of 10,000, which are read again and again.
"""

import multiprocessing
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.imaging.decode import encode_png
from app.imaging.preprocess import preprocess
from app.scan import shards
from app.scan.reading import load_model
from benchmarks.load import BATCH, multipart
from benchmarks.results import machine
from benchmarks.servers import ROOT, digits, running

ARCHIVE = 10_000  # pictures
MODELS = str(ROOT / "models")


def main(
    mnist: Annotated[Path, typer.Option(metavar="FILE", help="mnist.npz.")],
    pictures: Annotated[int, typer.Option(help="A multiple of 10,000.")] = 1_000_000,
    processes: Annotated[int, typer.Option(help="For the scan, and for what it is compared with.")] = 2,
    seconds: Annotated[float, typer.Option(help="For the network alone, and for the service.")] = 20,
    textbook: Annotated[int, typer.Option(help="Pictures for the textbook's loop.")] = 300,
) -> None:
    """Measure the rate and the memory of a scan."""
    typer.echo(machine())
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "mnist.tar"
        images = _archive(archive, mnist)
        for count in (ARCHIVE, pictures):
            rate, peak_mb = _scan(archive, count, processes)
            typer.echo(
                f"{count:,} pictures: {rate:,.0f} per second with its start, at most {peak_mb:,.0f} MB a process"
            )
        others = {
            "decoding, search and network alone": _alone(archive, processes, seconds),
            "POST /predict/batch": _served(images, processes, seconds),
            "the textbook's loop": _textbook(images[:textbook]),
        }
    for name, other in others.items():
        typer.echo(f"{name}: {other:,.0f} per second; the scan {rate / other:.2f} times as many")


def _archive(path: Path, mnist: Path) -> list[bytes]:
    with np.load(mnist) as arrays:
        images = [encode_png(image) for image in arrays["x_train"][:ARCHIVE]]
    with tarfile.open(path, "w") as archive:
        for number, image in enumerate(images):
            info = tarfile.TarInfo(f"{number:05}.png")
            info.size = len(image)
            archive.addfile(info, BytesIO(image))
    return images


def _scan(archive: Path, count: int, processes: int) -> tuple[float, float]:
    """Pictures per second, and the largest resident memory of any process so far in MB (2^20 bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count // ARCHIVE):
            (Path(folder) / f"{number:05}.tar").symlink_to(archive)
        command = [sys.executable, "-m", "app.cli", "scan", folder, "--processes", str(processes)]
        started = time.monotonic()
        subprocess.run([*command, "--out", f"{folder}/out"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - started
    return count / seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _alone(archive: Path, processes: int, seconds: float) -> float:
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(partial(_alone_in_process, archive), [seconds] * processes))


def _alone_in_process(archive: Path, seconds: float) -> float:
    """Pictures per second, read from memory in batches as a scan reads them."""
    model = load_model(MODELS)
    [shard] = shards.find_shards([str(archive)], 1, "")
    images = [picture.data for picture in shards.pictures(shard, "") if isinstance(picture.data, bytes)]
    started, read = time.monotonic(), 0
    while (spent := time.monotonic() - started) < seconds:
        left = iter(images)
        while batch := [preprocess(image) for image in islice(left, BATCH)]:
            for found, logits in zip(batch, model.engine.logits(np.stack([each.ink for each in batch])), strict=True):
                model.reader.look_again(model.reader.judge(found, logits), model.engine.logits)
            read += len(batch)
    return read / spent


def _served(images: list[bytes], processes: int, seconds: float) -> float:
    """The best of three loads: the connections of one may all fall to one worker."""
    with running(digits("digits", engine="litert-int8", workers=processes)) as server:
        body = multipart("files", images[:BATCH])
        return max(server.load("batch", body, 2 * processes, seconds / 3).rate for _ in range(3))


def _textbook(images: list[bytes]) -> float:
    """As `benchmarks.textbook` reads a picture, without HTTP."""
    import keras
    from PIL import Image

    model = keras.saving.load_model(ROOT / "models" / "digits.keras", compile=False)

    def read(image: bytes) -> int:
        grey = Image.open(BytesIO(image)).convert("L").resize((28, 28))
        return int(model.predict(np.asarray(grey, np.float32).reshape(1, 28, 28, 1) / 255, verbose=0)[0, :10].argmax())

    read(images[0])
    started = time.monotonic()
    for image in images:
        read(image)
    return len(images) / (time.monotonic() - started)


if __name__ == "__main__":
    typer.run(main)
