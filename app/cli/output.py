"""Answers, measurements and the model as lines on the terminal."""

import base64
import math
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from app.cli.client import Json, LoadResult
from app.imaging.decode import decode
from app.imaging.formats import inspect
from app.imaging.preprocess import SIDE_PX

console = Console(soft_wrap=True, highlight=False)

_SHADES = " ░▒▓█"
_ADVICE = {
    "low_confidence": "too uncertain",
    "not_a_digit": "if it is a digit: turn it upright, crop to it",
    "several_digits": "crop to one of them, or use digits read",
}


def show_entry(entry: Json, width: int) -> None:
    name = _printable(entry["filename"]).ljust(width)
    if problem := entry["error"]:
        console.print(f"{name}  not read: {problem['detail']} ({problem['code']})", style="red", markup=False)
    elif "reading" in entry:
        _show_reading(entry["reading"], name)
    else:
        _show_prediction(entry["prediction"], name)


def _show_reading(reading: Json, name: str) -> None:
    """A line for each number, or each field of a form."""
    rows = [("", number) for number in reading["numbers"]]
    rows += [(f"{_printable(field)}  ", number) for field, number in (reading["fields"] or {}).items()]
    for label, number in rows or [("", None)]:
        if number is None:
            console.print(f"{name}  {label}{'empty' if label else 'no number'}", markup=False)
            continue
        line = f"{name}  {label}{number['text']}  {_percent(number['probability'])}"
        if number["rejection"]:
            line += f"  not accepted: {number['rejection']['reason']}"
        console.print(line, style="yellow" if number["rejection"] else None, markup=False)


def _show_prediction(prediction: Json, name: str) -> None:
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


def show_load(result: LoadResult, pictures: Sequence[bytes], connections: int, url: str) -> None:
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


def show_card(manifest: Json) -> None:
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
