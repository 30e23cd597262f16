"""`python -m benchmarks.numbers SET…`: `POST /read` with candidates, and on a form of a hundred fields, over HTTP.

A set is an .npz file of digits, dark on light (x, y). Rows and form are put together from them, the same in every run.
"""

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import httpx2
import numpy as np
import typer
from numpy.typing import NDArray

from app.imaging.decode import encode_png
from app.imaging.pixels import Grey, as_uint8
from benchmarks.results import machine
from benchmarks.servers import digits, running
from training.data.arrays import read_arrays
from training.evaluation.measures import ece, reliability

PAPER, HEIGHT_PX, LENGTH = 235, 60, 9
LISTED, MANY = 300, 10_000
GAPS = (-0.06, 0.2)  # between the digits of a row, in heights
Asked = tuple[str, dict[str, Any]]  # the digits that are drawn, and the number that is read


class Pens:
    """Digits of the sets, drawn by a generator of its own."""

    def __init__(self, paths: Sequence[Path], seed: int) -> None:
        sets = [read_arrays(path) for path in paths]
        self._inks = [[x[place] for x, y in sets for place in np.flatnonzero(y == digit)] for digit in range(10)]
        self.random = np.random.default_rng(seed)

    def digit(self, digit: str, width_px: int = HEIGHT_PX) -> Grey:
        """One of the set's, as large as fits."""
        inks = self._inks[int(digit)]
        grey = inks[self.random.integers(len(inks))]
        rows, columns = np.nonzero(grey < 200)
        cut = grey[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        scale = min(HEIGHT_PX / cut.shape[0], width_px / cut.shape[1])
        return as_uint8(cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))

    def text(self, length: int = LENGTH) -> str:
        return "".join(self.random.choice(list("0123456789"), length))

    def like(self, text: str) -> str:
        """A number that differs in one or two digits at most."""
        digits = list(text)
        for place in self.random.integers(len(text), size=self.random.integers(1, 3)):
            digits[place] = str(self.random.integers(10))
        return "".join(digits)

    def row(self, text: str) -> bytes:
        page = np.full((2 * HEIGHT_PX, 2 * HEIGHT_PX * len(text)), PAPER, np.uint8)
        left = HEIGHT_PX // 2
        for char in text:
            grey = self.digit(char)
            _draw(page, grey, left, HEIGHT_PX + round(self.random.normal(0, 3)))
            left += max(4, grey.shape[1] + round(self.random.uniform(*GAPS) * HEIGHT_PX))
        return encode_png(self._grainy(page[:, : left + HEIGHT_PX // 2]))

    def form(self) -> tuple[bytes, list[dict[str, Any]], list[str]]:
        """A4 at 12 megapixels: a hundred boxes, half of them with nine cells, every tenth empty."""
        page = np.full((4000, 3000), PAPER, np.uint8)
        fields, texts = [], []
        width, height = 620, 90
        for number in range(100):
            x, y, cells = 120 + number % 4 * 700, 120 + number // 4 * 150, LENGTH * (number // 4 % 2)
            for column in range(x, x + width + 1, width // (cells or 1)):
                cv2.line(page, (column, y), (column, y + height), 60, 3)
            for line in (y, y + height):
                cv2.line(page, (x, line), (x + width, line), 60, 3)
            texts.append("" if number % 10 == 9 else self.text(cells or int(self.random.integers(2, 8))))
            for place, char in enumerate(texts[-1]):
                grey = self.digit(char, width // LENGTH - 12)
                _draw(page, grey, x + place * width // LENGTH + (width // LENGTH - grey.shape[1]) // 2, y + height // 2)
            fields.append({"name": f"{number:02}", "box": [x, y, width, height], "cells": cells})
        jpeg = cv2.imencode(".jpg", self._grainy(page), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        return jpeg.tobytes(), fields, texts

    def _grainy(self, page: Grey) -> Grey:
        return np.clip(page + self.random.normal(0, 3, page.shape), 0, 255).astype(np.uint8)


def _draw(page: Grey, grey: Grey, left: int, middle: int) -> None:
    top = middle - grey.shape[0] // 2
    area = page[top : top + grey.shape[0], left : left + grey.shape[1]]
    np.minimum(area, grey, out=area)


def main(
    sets: Annotated[list[Path], typer.Argument(metavar="SET", help="Digits: .npz files with x and y.")],
    rows: Annotated[int, typer.Option(help="Rows of nine digits.")] = 400,
    engine: Annotated[str, typer.Option(help="DIGITS_ENGINE.")] = "litert-int8",
) -> None:
    """Measure candidates and forms."""
    pens = Pens(sets, seed=0)
    typer.echo(f"{machine()} {rows} rows of {LENGTH} digits, {engine}.")
    with running(digits("digits", engine=engine)) as server, httpx2.Client(timeout=60) as client:

        def read(picture: bytes, **asked: object) -> Mapping[str, Any]:
            fields = {name: json.dumps(value) for name, value in asked.items()}
            files = {"file": ("picture", picture)}
            answer = client.post(f"http://127.0.0.1:{server.port}/read", files=files, data=fields)
            return dict(answer.raise_for_status().json())

        found: dict[str, list[Asked]] = {"listed": [], "not listed": [], "alike": []}
        plain = 0
        more_ms = []
        for _ in range(rows):
            text = pens.text()
            picture, others = pens.row(text), [pens.text() for _ in range(LISTED - 1)]
            plain += "".join(number["text"] for number in read(picture)["numbers"]) == text
            lists = {"listed": [*others, text], "not listed": others, "alike": [text, *map(pens.like, [text] * LISTED)]}
            for name, listed in lists.items():
                numbers = read(picture, candidates=list(dict.fromkeys(listed)))["numbers"]
                found[name].append((text, numbers[0] if len(numbers) == 1 else {}))
        for _ in range(20):
            picture = pens.row(pens.text())
            seconds = [_seconds(read, picture, candidates=[pens.text() for _ in range(count)]) for count in (1, MANY)]
            more_ms.append(1000 * (seconds[1] - seconds[0]))
        form, fields, texts = pens.form()
        form_s = [_seconds(read, form, fields=fields) for _ in range(9)]
        answered = read(form, fields=fields)["fields"].values()
    right = [(number or {"text": ""})["text"] == text for number, text in zip(answered, texts, strict=True)]
    typer.echo(f"read without candidates: {plain}")
    for name, asked in found.items():
        typer.echo(f"{name}: {_described(asked)}")
    typer.echo(f"{MANY:,} candidates instead of 1: {statistics.median(more_ms):.0f} ms more, the request included")
    typer.echo(f"a form of 100 fields: {sum(right)} right, {1000 * statistics.median(form_s):.0f} ms")


def _seconds(read: Any, picture: bytes, **asked: object) -> float:  # noqa: ANN401 - the function above
    started = time.perf_counter()
    read(picture, **asked)
    return time.perf_counter() - started


def _described(asked: list[Asked]) -> str:
    right = np.array([number.get("text") == text for text, number in asked], np.bool_)
    probable: NDArray[np.float64] = np.array([number.get("probability", 0.0) for _, number in asked])
    none = np.array([number.get("none_of_these", 1.0) for _, number in asked])
    accepted = np.array([number.get("accepted", False) for _, number in asked], np.bool_)
    error = ece(reliability(probable, right)) if len(asked) else math.nan
    return (
        f"{right.sum()} right, {(right & (probable > none)).sum()} of them more probable than none of these; none of "
        f"these wins {(none > probable).sum()}; {accepted.sum()} accepted, {(accepted & ~right).sum()} of them wrong; "
        f"mean probability {probable.mean():.3f}, ECE {error:.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
