"""What operators and their machines ask: alive, ready, which model, how it is going."""

from fastapi import APIRouter, Request, Response

from app.api.problems import answer_documented, documented
from app.api.schemas import Health
from app.errors import NotReady
from app.inference.service import Service
from app.model.manifest import Manifest
from app.telemetry.metrics import CONTENT_TYPE, Metrics

router = APIRouter(tags=["operations"], generate_unique_id_function=lambda route: route.name)

_PROBLEMS = documented(NotReady("The model is being loaded: send it again in a second."))

_CARD = {
    "name": "digits",
    "version": "1.1.0",
    "sha256": {"digits.keras": "4e8097aa7525e3feb9c0c3ae93367bf2531584639a9e8f1c8b8da3050eb0d18d"},
    "preprocessing": "2",
    "classes": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    "architecture": "compact",
    "parameters": 244523,
    "multiply_adds": 7925304,
    "recipe": {"name": "compact", "augmentation": "drawings"},
    "data": {"x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"},
    "temperature": 0.8688,
    "thresholds": {"not_a_digit": -1.188, "low_confidence": 0.8},
    "metrics": {"test_accuracy": 0.9956},
    "trained": {"date": "2026-11-21", "keras": "3.15.1"},
}


@router.head("/healthz", include_in_schema=False)  # as some balancers ask
@router.get("/healthz", summary="The process lives", responses=answer_documented({"status": "ok"}))
async def healthz() -> Health:
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="The model is loaded and warm",
    responses=answer_documented({"status": "ready"}) | _PROBLEMS,
)
async def readyz(request: Request) -> Health:
    _service(request).check_ready()
    return Health(status="ready")


@router.get(
    "/model",
    summary="The model card, for programs",
    responses=answer_documented(_CARD) | _PROBLEMS,
)
async def model(request: Request) -> Manifest:
    return _service(request).require_loaded()


@router.get(
    "/metrics",
    summary="How it is going, for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus's text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "digits_queue_depth 0.0"}},
        }
    },
)
async def metrics(request: Request) -> Response:
    counted: Metrics = request.app.state.metrics
    return Response(counted.text(), headers={"content-type": CONTENT_TYPE})


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
