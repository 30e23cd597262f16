"""What an app holds for its requests, typed, in one place: ``app.state.digits``."""

import asyncio
import time
from dataclasses import dataclass, field
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
    """``failure``: why the model cannot be served; it stops the service. ``reload``: set it to reload the model."""

    settings: Settings
    metrics: Metrics
    service: Service
    quota: "Quota | None"
    max_held_body_bytes: int  # of large bodies, at any time
    tracer_provider: "TracerProvider | None" = None
    held_body_bytes: int = 0
    failure: str | None = None
    reload: asyncio.Event = field(default_factory=asyncio.Event)
    started: float = field(default_factory=time.monotonic)  # in monotonic seconds


def state_of(app: FastAPI) -> AppState:
    state: AppState = app.state.digits
    return state


def service_of(request: Request) -> Service:
    return state_of(request.app).service


def settings_of(request: Request) -> Settings:
    return state_of(request.app).settings
