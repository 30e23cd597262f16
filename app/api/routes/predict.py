"""`POST /predict`: one image in, ten probabilities out. `POST /predict/batch`: many images."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

from app.api import openapi
from app.api.batches import Ask, answer_batch
from app.api.bodies import WholeBody, image_in, parse_off_loop
from app.api.hints import hinted
from app.api.multipart import Part
from app.api.predictions import as_json, server_timing
from app.api.query import parse_query, refuse_misplaced
from app.api.schemas import BatchPrediction, Prediction, PredictQuery
from app.api.state import service_of
from app.errors import DigitsError
from app.inference.pipeline import OCCLUSIONS_AT_ONCE
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
    manifest = service_of(request).require_loaded()
    if query.accept_risk is not None:
        manifest.require_risk()

    async def ask(batch: Batch, data: bytes) -> dict[str, Any]:
        result = await batch.predict(data, query.preprocess, explain=query.explain)
        return as_json(result, query.top_k, query.accept_risk)

    def asked_in(parts: Sequence[Part]) -> Ask:
        refuse_misplaced((part.field.decode("latin-1") for part in parts), "/predict/batch")
        return ask

    return await answer_batch(request, "prediction", asked_in, OCCLUSIONS_AT_ONCE if query.explain else 1)
