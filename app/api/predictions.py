"""A result as JSON, for `POST /predict`, `POST /read` and the command line."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.api.read_schemas import ReadParameters
from app.imaging.decode import encode_png
from app.imaging.pieces import Box
from app.inference.pipeline import Result, Stages
from app.inference.reading import Numbers
from app.model.numbers import Number

_SEVERAL = {"several_digits": {"detail": "To read all digits as numbers, send the image to POST /read."}}


def as_json(result: Result, top_k: int, accept_risk: float | None) -> dict[str, Any]:
    """A result as `app.api.schemas.Prediction`; our own numbers need no validation. Raises InvalidParameter."""
    rejection = result.reading.rejection
    if accept_risk is not None:
        rejection = result.reading.rejection_at(accept_risk, result.manifest.require_risk())
    order = sorted(range(10), key=result.probabilities.__getitem__, reverse=True)
    prediction: dict[str, Any] = {
        "digit": order[0],
        "confidence": result.probabilities[order[0]],
        "probabilities": result.probabilities,
        "top": [{"digit": digit, "probability": result.probabilities[digit]} for digit in order[:top_k]],
        "accepted": rejection is None,
        "rejection": rejection and rejection._asdict() | _SEVERAL.get(rejection.reason, {}),
        "model": {"name": result.manifest.name, "version": result.manifest.version},
    }
    if result.explanation is not None:
        x, y, width, height = result.explanation.ink_box
        prediction["explanation"] = {
            "input_png": _png(result.explanation.ink),
            "saliency_png": _png(result.explanation.saliency),
            "inverted": result.explanation.inverted,
            "ink_box": {"x": x, "y": y, "width": width, "height": height},
        }
    return prediction


def numbers_as_json(result: Numbers, asked: ReadParameters) -> dict[str, Any]:
    """The numbers of an image as `app.api.read_schemas.Numbers`."""
    filled = [number and _number_as_json(number, asked) for number in result.fields]
    return {
        "numbers": [_number_as_json(number, asked) for number in result.numbers],
        "fields": dict(zip([field.name for field in asked.fields], filled, strict=True)) if asked.fields else None,
        "model": {"name": result.manifest.name, "version": result.manifest.version},
    }


def server_timing(stages: Stages) -> str:
    """The header that says what each stage took."""
    return (
        f"decode;dur={stages.decode:.3f}, preprocess;dur={stages.preprocess:.3f}, "
        f"queue;dur={stages.queue:.3f}, inference;dur={stages.inference:.3f}"
    )


def _png(picture: NDArray[np.float32]) -> str:
    """Base64 PNG of a picture (height, width) in [0, 1]."""
    return base64.b64encode(encode_png(np.round(picture * 255).astype(np.uint8))).decode()


def _number_as_json(number: Number, asked: ReadParameters) -> dict[str, Any]:
    """A number as `app.api.read_schemas.NumberRead`."""
    why = number.rejection if asked.accept_risk is None else number.rejection_at(asked.accept_risk)
    return {
        "text": number.text,
        "probability": round(number.probability, 6),
        "accepted": why is None,
        "rejection": why and {"reason": why[0], "score": round(why[1], 6), "threshold": why[2]},
        "box": _box(number.box),
        "line": number.row,
        "digits": [
            {"digit": each.digit, "confidence": round(each.confidence, 6), "box": _box(each.box)}
            for each in number.digits
        ],
        "marks": [mark._asdict() for mark in number.marks],
        "alternatives": [
            {"text": text, "probability": round(probability, 6)}
            for text, probability in number.alternatives[: asked.alternatives]
        ],
        "none_of_these": None if number.none_of_these is None else round(number.none_of_these, 6),
    }


def _box(box: Box) -> dict[str, int]:
    left, top, right, bottom = box
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}
