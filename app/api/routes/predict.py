"""`POST /predict`: one image in, ten probabilities out. `POST /predict/batch`: many images."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

from app.api import openapi
from app.api.authentication import charge
from app.api.bodies import WholeBody, files_in, image_in, parse_off_loop
from app.api.hints import hinted
from app.api.multipart import Part
from app.api.predictions import as_json, server_timing
from app.api.problems import problem
from app.api.query import parse_query
from app.api.schemas import BatchPrediction, Prediction, PredictQuery
from app.api.state import service_of, settings_of
from app.errors import BadRequest, DigitsError, TooLarge
from app.inference.service import Batch


class RequestRoute(APIRoute):
    """A route whose handlers take the request alone and return the response, so FastAPI has no dependency to solve.

    Solving none takes 30 µs, a sixteenth of a small picture's request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


router = APIRouter(tags=["predict"], route_class=RequestRoute, generate_unique_id_function=lambda route: route.name)


@router.post(
    "/predict",
    summary="Read a handwritten digit",
    response_model=Prediction,
    responses=openapi.PREDICT,
    openapi_extra=openapi.PREDICT_INPUT,
)
async def predict(request: Request) -> Response:
    query = parse_query(request, PredictQuery)
    service = service_of(request)
    service.require_loaded()
    content_type = request.headers.get("content-type", "")
    async with WholeBody(request) as body:
        data = await parse_off_loop(body, partial(image_in, content_type))
        try:
            result = await service.predict(data, query.preprocess, explain=query.explain)
        except DigitsError as error:
            raise hinted(error, content_type, data) from None
    prediction = as_json(result, query.top_k, query.accept_risk)
    request.state.log |= {"digit": prediction["digit"], "confidence": round(prediction["confidence"], 6)}
    headers = {"Server-Timing": server_timing(result.stages)}
    return Response(to_json(prediction), headers=headers, media_type="application/json")


@router.post(
    "/predict/batch",
    summary="Read many handwritten digits",
    response_model=BatchPrediction,
    responses=openapi.BATCH,
    openapi_extra=openapi.BATCH_INPUT,
)
async def predict_batch(request: Request) -> Response:
    query = parse_query(request, PredictQuery)
    service = service_of(request)
    manifest = service.require_loaded()
    if query.accept_risk is not None:
        manifest.require_risk()
    service.check_batch_capacity()
    max_images = settings_of(request).max_images

    async def answer(batch: Batch, file: Part) -> dict[str, Any]:
        name = file.filename.decode("utf-8", "replace")
        try:
            if not file.data:
                raise BadRequest("The file is empty.")
            result = await batch.predict(file.data, query.preprocess, explain=query.explain)
            prediction = as_json(result, query.top_k, query.accept_risk)
        except DigitsError as error:
            told = problem(hinted(error, "", file.data), request.scope)
            return {"filename": name, "prediction": None, "error": told}
        return {"filename": name, "prediction": prediction, "error": None}

    async with WholeBody(request) as body:
        files = files_in(request.headers.get("content-type", ""), body, b"files", "/predict/batch")
        if not files:
            raise BadRequest("The form has no field `files`: curl -F files=@one.png -F files=@two.png sends two.")
        if len(files) > max_images:
            raise TooLarge(f"The request has more than {max_images} images: send them in several requests.")
        await charge(request, len(files))
        async with service.batch(len(files), explain=query.explain) as batch, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(batch, file)) for file in files]
    entries = [task.result() for task in tasks]
    request.state.log |= {"images": len(entries)}
    model = {"name": batch.manifest.name, "version": batch.manifest.version}
    return Response(to_json({"predictions": entries, "model": model}), media_type="application/json")
