"""What the dialects of other model servers share: JSON to inks and encoded images, many answers, `{"error": ...}`.

Knows no dialect: which addresses there are, and where in the JSON the images stand, is the routes'.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi.routing import APIRoute
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.authentication import charge
from app.api.bodies import Body
from app.api.problems import documented as problems_documented
from app.api.problems import error_headers, headers_documented
from app.errors import BadRequest, DeadlineExceeded, DigitsError, InvalidParameter, MethodNotAllowed, NotReady, TooLarge
from app.imaging.preprocess import SIDE_PX, Ink
from app.inference.service import Batch, Service

M = TypeVar("M", bound=BaseModel)

MODEL, VERSION = "digits", "1"  # as these protocols name it; what it really is, `/model` says
INPUT, OUTPUT = "images", "probabilities"

EXAMPLE_PROBABILITIES = [0.0, 0.0001, 0.0004, 0.0002, 0.0, 0.0, 0.0, 0.9981, 0.0001, 0.0011]

_ERRORS: dict[int, DigitsError] = {
    400: BadRequest("images[0]: The content is no image of a known format: send PNG, JPEG, WebP, BMP, TIFF or GIF."),
    413: TooLarge("The request has more than 256 images: send them in several requests."),
    503: NotReady("The model is being loaded: send it again in a second."),
    504: DeadlineExceeded("No answer within 10000 ms: send it again later, fewer images or a smaller one."),
}
_MARKS_OF_AN_IMAGE = 2 * SIDE_PX * (SIDE_PX + 1) + 4  # `[`, `{` and `,` of 28x28x1, and of an object around it
_AS_BAD_INPUT = {415: 400, 422: 400}  # these protocols know one status for whatever is wrong with what was sent


Documented = dict[int | str, dict[str, Any]]


def documented(example: dict[str, Any], schema: dict[str, Any]) -> Documented:
    """How the OpenAPI document shows an answer."""
    content = {"application/json": {"schema": {"type": "object"} | schema, "example": example}}
    return {200: {"headers": headers_documented(), "content": content}}


def errors_documented(*statuses: int) -> Documented:
    """How the OpenAPI document shows the errors of ``statuses``, and 500: what nobody foresaw is a problem document."""
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    return {
        status: {
            "description": f"{_ERRORS[status].title}.",
            "headers": headers_documented(_ERRORS[status]),
            "content": {"application/json": {"schema": schema, "example": {"error": str(_ERRORS[status])}}},
        }
        for status in statuses
    } | problems_documented(DigitsError("The service failed to answer: report it with the request id."))


class DialectRoute(APIRoute):
    """Its endpoint takes the request and nothing else; an error comes out as these protocols have it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = self.methods or set()
        try:
            if scope["method"] not in methods:
                raise MethodNotAllowed("This address takes another method: the header Allow names it.")
            response: Response = await self.endpoint(Request(scope, receive))
        except DigitsError as error:
            response = Response(
                to_json({"error": str(error)}),
                _AS_BAD_INPUT.get(error.status, error.status),
                error_headers(error),
                media_type="application/json",
            )
            if isinstance(error, MethodNotAllowed):
                response.headers["Allow"] = ", ".join(sorted(methods))
        await response(scope, receive, send)


def read(request: Request) -> Body:
    """The body, once the model is loaded. Raises NotReady; with it, what `Body` raises."""
    service: Service = request.app.state.service
    service.require_loaded()
    service.check_batch_capacity()
    return Body(request)


def parse(body: bytes, model: type[M], max_images: int) -> M:
    """The JSON of a body. Raises BadRequest for what is none, InvalidParameter for what is not ``model``.

    The parser holds the interpreter, in a thread too: hence the bound on what it is given.
    """
    if sum(body.count(mark) for mark in b"[{,") > (max_images + 1) * _MARKS_OF_AN_IMAGE:
        raise TooLarge(f"The JSON has more lists or values than {max_images} images need.")
    try:
        return model.model_validate(from_json(body))
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in wrong["loc"])
        raise InvalidParameter(f"{place}: {wrong['msg']}" if place else "The JSON is no object.") from error
    except ValueError as error:
        raise BadRequest(f"JSON Parse error: {error}") from error


def numbers(value: object) -> NDArray[np.float64] | None:
    """Nested lists of nothing but numbers as an array of their shape; None for anything else, ragged lists included."""
    # as objects, for numpy would read "7", true and null as numbers, and give every item the room of the longest string
    array = np.asarray(value, dtype=object)
    if not set(map(type, array.ravel().tolist())) <= {int, float}:
        return None
    try:
        return array.astype(np.float64)
    except OverflowError:  # of an integer with more than 308 digits
        return None


def ink(values: NDArray[np.floating], index: int) -> Ink:
    """The ``index``-th image, 28 * 28 numbers, as the model sees it. Raises InvalidParameter."""
    with np.errstate(over="ignore"):
        image = values.astype(np.float32).reshape(SIDE_PX, SIDE_PX, 1)
    if not ((image >= 0) & (image <= 1)).all():  # nor is NaN
        raise InvalidParameter(
            f"{INPUT}[{index}]: not all are finite numbers from 0 to 1: send light ink on dark, divided by 255."
        )
    return image


def encoded_image(text: str, index: int) -> bytes:
    """The ``index``-th image, of base64. Raises BadRequest."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise BadRequest(f"{INPUT}[{index}]: this is no valid base64.") from error


def check_count(images: int, max_images: int) -> None:
    """Raises InvalidParameter for none, TooLarge for too many."""
    if images < 1:
        raise InvalidParameter("There is no image in the request.")
    if images > max_images:
        raise TooLarge(f"The request has more than {max_images} images: send them in several requests.")


async def answer(request: Request, images: Sequence[bytes | Ink]) -> list[tuple[float, ...]]:
    """The ten probabilities of each. Encoded images go through `auto`, inks are fed as they are.

    The first error is that of the whole request, and tells which image it is about; the others are left at once.
    """
    service: Service = request.app.state.service
    await charge(request.scope, len(images))

    async def answer_one(batch: Batch, index: int, image: bytes | Ink) -> tuple[float, ...]:
        try:
            if isinstance(image, bytes):
                return (await batch.predict(image)).probabilities
            return await batch.predict_ink(image)
        except DigitsError as error:
            if error.status >= 500:  # not about this image
                raise
            raise type(error)(f"{INPUT}[{index}]: {error}") from error

    request.scope["state"]["log"] |= {"images": len(images)}
    try:
        async with service.batch(len(images)) as batch, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer_one(batch, index, image)) for index, image in enumerate(images)]
    except ExceptionGroup as errors:
        first = errors.with_traceback(None).exceptions[0]
    else:
        return [task.result() for task in tasks]
    try:
        raise first  # not above, where the group would be its context
    finally:
        del first, tasks  # its traceback holds this frame, which would hold it, and with it the images
