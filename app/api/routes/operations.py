"""For operators and monitoring: liveness, readiness, the model card, metrics."""

from fastapi import APIRouter, Request, Response

from app.api import openapi
from app.api.schemas import Alive, Ready
from app.api.state import service_of, state_of
from app.model.manifest import Manifest
from app.telemetry.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"], generate_unique_id_function=lambda route: route.name)


@router.head("/healthz", include_in_schema=False)  # some load balancers use HEAD
@router.get("/healthz", summary="Liveness")
async def healthz() -> Alive:
    return Alive()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Readiness: the model is loaded and warm")
async def readyz(request: Request) -> Ready:
    service_of(request).check_ready()
    return Ready()


@router.get("/model", summary="The model card, for programs", responses=openapi.CARD)
async def model(request: Request) -> Manifest:
    return service_of(request).require_loaded()


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=openapi.METRICS)
async def metrics(request: Request) -> Response:
    return Response(state_of(request.app).metrics.text(), headers={"content-type": CONTENT_TYPE})
