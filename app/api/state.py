"""What an app holds for its requests, typed, in one place: ``app.state.digits``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request

from app.inference.service import Service
from app.settings import Settings
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from app.api.quotas import Quota


@dataclass
class AppState:
    settings: Settings
    metrics: Metrics
    service: Service
    quota: "Quota | None"
    tracer_provider: "TracerProvider | None"
    max_held_body_bytes: int  # of all large bodies at any time
    held_body_bytes: int = 0


def state_of(app: FastAPI) -> AppState:
    state: AppState = app.state.digits
    return state


def service_of(request: Request) -> Service:
    return state_of(request.app).service


def settings_of(request: Request) -> Settings:
    return state_of(request.app).settings
