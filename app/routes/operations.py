"""What operators and their machines ask: alive, ready, which model, how it is going."""

from fastapi import APIRouter, Request, Response

from app.errors import NotReady
from app.manifest import Manifest
from app.metrics import CONTENT_TYPE, Metrics
from app.problems import documented, headers_documented
from app.schemas import Health
from app.service import Service

router = APIRouter(tags=["operations"], generate_unique_id_function=lambda route: route.name)

_PROBLEMS = documented(NotReady("The model is being loaded: send it again in a second."))


@router.get("/healthz", summary="The process lives", responses={200: {"headers": headers_documented()}})
async def healthz() -> Health:
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="The model is loaded and warm",
    responses=_PROBLEMS | {200: {"headers": headers_documented()}},
)
async def readyz(request: Request) -> Health:
    _service(request).check_ready()
    return Health(status="ready")


@router.get(
    "/model",
    summary="The model card, for programs",
    responses=_PROBLEMS | {200: {"headers": headers_documented()}},
)
async def model(request: Request) -> Manifest:
    return _service(request).manifest


@router.get(
    "/metrics",
    summary="How it is going, for Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus's text format.", "content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    counted: Metrics = request.app.state.metrics
    return Response(counted.text(), headers={"content-type": CONTENT_TYPE})


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
