"""`POST /read`: one image in, the numbers on it out. `POST /read/batch`: many images."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from app.api import openapi
from app.api.batches import Ask, answer_batch
from app.api.bodies import WholeBody, image_in, parse_off_loop
from app.api.hints import hinted
from app.api.multipart import Part, parse_multipart
from app.api.predictions import numbers_as_json, server_timing
from app.api.query import check_known, refuse_misplaced
from app.api.read_schemas import BatchRead, Numbers, ReadParameters
from app.api.routes.predict import RequestRoute
from app.api.state import service_of
from app.errors import DigitsError, InvalidParameter
from app.inference.service import Batch

_INKS_EACH = 16  # that a picture of a batch counts for; of 101 real pictures, half had at most 24
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
        try:
            result = await service.read_numbers(data, asked.wanted, asked.form)
        except DigitsError as error:
            raise hinted(error, content_type, data) from None
    request.state.log |= {"numbers": len(result.numbers) + sum(number is not None for number in result.fields)}
    headers = {"Server-Timing": server_timing(result.stages)}
    return Response(to_json(numbers_as_json(result, asked)), headers=headers, media_type="application/json")


@router.post(
    "/read/batch",
    summary="Read the handwritten numbers of many images",
    response_model=BatchRead,
    responses=openapi.READ_BATCH,
    openapi_extra=openapi.READ_BATCH_INPUT,
)
async def read_batch(request: Request) -> Response:
    service_of(request).require_loaded()
    query = request.query_params.multi_items()

    def asked_in(parts: Sequence[Part]) -> Ask:
        asked = _asked(query, parts)

        async def ask(batch: Batch, data: bytes) -> dict[str, Any]:
            return numbers_as_json(await batch.read_numbers(data, asked.wanted, asked.form), asked)

        return ask

    return await answer_batch(request, "reading", asked_in, _INKS_EACH)


def _parse(content_type: str, query: Sequence[tuple[str, str]], body: bytes) -> tuple[bytes, ReadParameters]:
    """The image, and the parameters of the query and the form. Raises BadRequest, InvalidParameter."""
    parts: list[Part] = []
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        parts = [part for part in parse_multipart(content_type, body) if part.field != b"file"]
    elif media_type == "application/json":
        refuse_misplaced(_names_in_json(body), "/read", ReadParameters)
    return image_in(content_type, body, alone=False), _asked(query, parts)


def _asked(query: Sequence[tuple[str, str]], parts: Sequence[Part]) -> ReadParameters:
    """The parameters of the query and of the parts of a form. Raises InvalidParameter, RequestValidationError."""
    form = [(part.field.decode("latin-1"), part.data.decode("utf-8", "replace")) for part in parts]
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
        return ReadParameters.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(
            [wrong | {"loc": (".".join(map(str, wrong["loc"])),)} for wrong in error.errors()[:3]]
        ) from error


def _names_in_json(body: bytes) -> set[str]:
    """Of the parameters, those that a JSON object may have as keys: with their quotes they stand in the body."""
    return {name for name in ReadParameters.model_fields if f'"{name}"'.encode() in body}


def _list_in(name: str, text: str) -> list[object]:
    try:
        found = from_json(text)
    except ValueError as error:
        raise InvalidParameter(f"{name} is no JSON.") from error
    if not isinstance(found, list) or not found:
        raise InvalidParameter(f"{name} is no JSON list, or an empty one.")
    return found
