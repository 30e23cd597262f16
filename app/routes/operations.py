"""What operators and their machines ask: alive, ready, which model."""

from fastapi import APIRouter, Request

from app.errors import NotReady
from app.manifest import Manifest
from app.problems import documented, headers_documented
from app.schemas import Health
from app.service import Service

router = APIRouter(tags=["operations"])

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
    _service(request).manifest  # noqa: B018 - raises NotReady
    return Health(status="ready")


@router.get(
    "/model",
    summary="The model card, for programs",
    responses=_PROBLEMS | {200: {"headers": headers_documented()}},
)
async def model(request: Request) -> Manifest:
    return _service(request).manifest


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
