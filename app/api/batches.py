"""Many images in one request: each gets an entry, and an error in one never costs the others their answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from app.api.authentication import charge
from app.api.bodies import WholeBody, parse_off_loop
from app.api.hints import hinted
from app.api.multipart import Part, parse_multipart
from app.api.problems import problem
from app.api.state import service_of, settings_of
from app.errors import BadRequest, DigitsError, TooLarge
from app.inference.service import Batch

Ask = Callable[[Batch, bytes], Awaitable[dict[str, Any]]]  # encoded image -> its answer


async def answer_batch(
    request: Request, kind: str, asked_in: Callable[[Sequence[Part]], Ask], inks_each: int
) -> Response:
    """The answers as ``kind`` + "s", one for each file of the form.

    ``asked_in``: what to do with each image, by the other fields. ``inks_each``: see `Service.batch`.
    """
    service = service_of(request)
    service.check_batch_capacity()
    max_images = settings_of(request).max_images
    content_type = request.headers.get("content-type", "")

    def parse(body: bytes) -> tuple[list[Part], Ask]:
        parts = parse_multipart(content_type, body)
        ask = asked_in([part for part in parts if part.field != b"files"])
        return [part for part in parts if part.field == b"files"], ask

    async def answer(batch: Batch, ask: Ask, file: Part) -> dict[str, Any]:
        answered = error = None
        try:
            if not file.data:
                raise BadRequest("The file is empty.")
            answered = await ask(batch, file.data)
        except DigitsError as wrong:
            error = problem(hinted(wrong, "", file.data), request.scope)
        return {"filename": file.filename.decode("utf-8", "replace"), kind: answered, "error": error}

    async with WholeBody(request) as body:
        files, ask = await parse_off_loop(body, parse)
        if not files:
            raise BadRequest("The form has no field `files`: curl -F files=@one.png -F files=@two.png sends two.")
        if len(files) > max_images:
            raise TooLarge(f"The request has more than {max_images} images: send them in several requests.")
        await charge(request, len(files))
        async with service.batch(len(files), inks_each=inks_each) as batch, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(batch, ask, file)) for file in files]
    entries = [task.result() for task in tasks]
    request.state.log |= {"images": len(entries)}
    model = {"name": batch.manifest.name, "version": batch.manifest.version}
    return Response(to_json({f"{kind}s": entries, "model": model}), media_type="application/json")
