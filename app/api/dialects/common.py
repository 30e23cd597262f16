"""What the dialects share: JSON to inks and encoded images, and the answers to many images."""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.api.authentication import charge
from app.api.bodies import WholeBody, decode_base64, has_more_json_values
from app.api.dialects.schemas import INPUT
from app.api.state import service_of
from app.errors import BadRequest, DigitsError, InvalidParameter, TooLarge
from app.imaging.preprocess import SIDE_PX, Ink
from app.inference.service import Batch

M = TypeVar("M", bound=BaseModel)

_JSON_VALUES_PER_IMAGE = 2 * SIDE_PX * (SIDE_PX + 1) + 4  # of 28x28x1 numbers and an object around them


def batch_body(request: Request) -> WholeBody:
    """`WholeBody`, if the model is loaded and a batch has room. Raises NotReady, Overloaded."""
    service = service_of(request)
    service.require_loaded()
    service.check_batch_capacity()
    return WholeBody(request)


def parse(body: bytes, model: type[M], max_images: int) -> M:
    """The JSON of a body. Raises TooLarge, BadRequest for invalid JSON, InvalidParameter if it does not fit ``model``.

    The parser holds the interpreter lock, even in a thread, so the number of values is limited before.
    """
    if has_more_json_values(body, (max_images + 1) * _JSON_VALUES_PER_IMAGE):
        raise TooLarge(f"The JSON has more lists or values than {max_images} images need.")
    try:
        return model.model_validate(from_json(body.removeprefix(BOM_UTF8)))
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in wrong["loc"])
        raise InvalidParameter(f"{place}: {wrong['msg']}" if place else "The JSON must be an object.") from error
    except ValueError as error:
        raise BadRequest(f"JSON Parse error: {error}") from error


def numbers(value: object) -> NDArray[np.float64] | None:
    """Nested lists of numbers as an array of their shape; None for anything else, ragged lists included."""
    # dtype object: otherwise numpy reads "7", true and null as numbers, and makes every item as wide as the longest
    array = np.asarray(value, dtype=object)
    if not set(map(type, array.ravel().tolist())) <= {int, float}:
        return None
    try:
        return array.astype(np.float64)
    except OverflowError:  # an integer with more than 308 digits
        return None


def ink(values: NDArray[np.floating], index: int) -> Ink:
    """The ``index``-th image, from 28 * 28 numbers, as the model reads it. Raises InvalidParameter."""
    with np.errstate(over="ignore"):
        image = values.astype(np.float32).reshape(SIDE_PX, SIDE_PX, 1)
    if not ((image >= 0) & (image <= 1)).all():  # false for NaN, too
        raise InvalidParameter(
            f"{INPUT}[{index}]: some values are not finite numbers from 0 to 1: send light ink on dark, divided by 255."
        )
    return image


def encoded_image(text: str, index: int) -> bytes:
    """The ``index``-th image, from base64. Raises BadRequest."""
    try:
        return decode_base64(text)
    except ValueError as error:
        raise BadRequest(f"{INPUT}[{index}]: this is not valid base64.") from error


def check_count(images: int, max_images: int) -> None:
    """Raises InvalidParameter for no image, TooLarge for too many."""
    if images < 1:
        raise InvalidParameter("There is no image in the request.")
    if images > max_images:
        raise TooLarge(f"The request has more than {max_images} images: send them in several requests.")


async def predict_all(request: Request, images: Sequence[bytes | Ink]) -> list[tuple[float, ...]]:
    """The ten probabilities of each image. Encoded images go through `auto`; the model reads inks as they are.

    The first error fails the whole request, names its image and cancels the others.
    """
    await charge(request, len(images))

    async def predict(batch: Batch, index: int, image: bytes | Ink) -> tuple[float, ...]:
        try:
            if isinstance(image, bytes):
                return (await batch.predict(image)).probabilities
            return await batch.predict_ink(image)
        except DigitsError as error:
            if error.status >= 500:  # not about this image
                raise
            raise type(error)(f"{INPUT}[{index}]: {error}") from error

    request.state.log |= {"images": len(images)}
    try:
        async with service_of(request).batch(len(images)) as batch, asyncio.TaskGroup() as group:
            tasks = [group.create_task(predict(batch, index, image)) for index, image in enumerate(images)]
    except ExceptionGroup as errors:
        first = errors.with_traceback(None).exceptions[0]
    else:
        return [task.result() for task in tasks]
    try:
        raise first  # outside of `except`, which would chain the group to it
    finally:
        del first, tasks  # the traceback refers to this frame, and the frame to all images
