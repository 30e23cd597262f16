"""`POST /read`: one image in, the numbers on it out."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from app.api import openapi
from app.api.bodies import WholeBody, image_in, parse_off_loop
from app.api.hints import hinted
from app.api.multipart import parse_multipart
from app.api.predictions import server_timing
from app.api.query import check_known, refuse_misplaced
from app.api.read_schemas import Numbers, ReadParameters
from app.api.routes.predict import RequestRoute
from app.api.state import service_of
from app.errors import DigitsError, InvalidParameter
from app.imaging.pieces import Box
from app.inference.reading import FormField
from app.model.numbers import Number

_IN_JSON = {"candidates", "fields"}  # parameters that hold lists

router = APIRouter(tags=["read"], route_class=RequestRoute, generate_unique_id_function=lambda route: route.name)


@router.post(
    "/read",
    summary="Read handwritten numbers",
    response_model=Numbers,
    responses=openapi.READ,
    openapi_extra=openapi.READ_INPUT,
)
async def read(request: Request) -> Response:
    service = service_of(request)
    service.require_loaded()
    content_type = request.headers.get("content-type", "")
    query = request.query_params.multi_items()
    async with WholeBody(request) as body:
        data, asked = await parse_off_loop(body, partial(_parse, content_type, query))
        fields = [FormField(field.box, field.cells, field.wanted) for field in asked.fields]
        try:
            result = await service.read_numbers(data, asked.wanted, fields)
        except DigitsError as error:
            raise hinted(error, content_type, data) from None
    numbers = [_as_json(number, asked) for number in result.numbers]
    filled = [number and _as_json(number, asked) for number in result.fields]
    answer = {
        "numbers": numbers,
        "fields": dict(zip([field.name for field in asked.fields], filled, strict=True)) if fields else None,
        "model": {"name": result.manifest.name, "version": result.manifest.version},
    }
    request.state.log |= {"numbers": len(numbers) + sum(number is not None for number in filled)}
    headers = {"Server-Timing": server_timing(result.stages)}
    return Response(to_json(answer), headers=headers, media_type="application/json")


def _parse(content_type: str, query: Sequence[tuple[str, str]], body: bytes) -> tuple[bytes, ReadParameters]:
    """The image, and the parameters of the query and the form. Raises BadRequest, InvalidParameter."""
    image = image_in(content_type, body)
    form = []
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        parts = [(part.field.decode("latin-1"), part.data) for part in parse_multipart(content_type, body)]
        form = [(name, data.decode("utf-8", "replace")) for name, data in parts if name != "file"]
    elif media_type == "application/json":
        refuse_misplaced(_names_in_json(body), "/read", ReadParameters)
    check_known([name for name, _ in [*query, *form]], ReadParameters)
    for name in dict(query).keys() & dict(form).keys():
        raise InvalidParameter(f"{name} is both in the query and in the form: send it once.")
    given: dict[str, Any] = {}
    for name, text in [*query, *form]:
        if name == "candidates" and not text.lstrip().startswith("["):
            given.setdefault(name, []).append(text)
        elif name in given:
            raise InvalidParameter(f"{name} is given more than once.")
        else:
            given[name] = _list_in(name, text) if name in _IN_JSON else text
    try:
        return image, ReadParameters.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(
            [wrong | {"loc": (".".join(map(str, wrong["loc"])) or "parameters",)} for wrong in error.errors()[:3]]
        ) from error


def _names_in_json(body: bytes) -> set[str]:
    """Of the parameters, those that a JSON object may have as keys: with their quotes they stand in the body."""
    return {name for name in ReadParameters.model_fields if f'"{name}"'.encode() in body}


def _list_in(name: str, text: str) -> list[object]:
    try:
        found = from_json(text)
    except ValueError as error:
        raise InvalidParameter(f"{name} is no JSON.") from error
    if not isinstance(found, list):
        raise InvalidParameter(f"{name} is no JSON list.")
    return found


def _as_json(number: Number, asked: ReadParameters) -> dict[str, Any]:
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
