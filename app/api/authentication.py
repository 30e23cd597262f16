"""Who may ask, and how often: API keys, quotas, pages of other sites. Pure ASGI, before a body is read.

All of it is off by default, and then in no request's way. Counting and storing is `quotas`'.
"""

import hashlib
import hmac
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import documented, error_headers, problem_response
from app.errors import DigitsError, RateLimited, Unauthorized
from app.settings import ApiKey, Settings

if TYPE_CHECKING:
    from app.api.quotas import Quota

# What probes and browsers ask, which send no key: the service's state, its page and its own description.
_OPEN = {"/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"}
_OPEN_FOLDER = "/playground/"
_DIALECTS = ("/v1", "/v2")
_BEARER = b"bearer "  # in any case, by RFC 9110
_HEADERS_SENT = ("Authorization", "Content-Type", "Inference-Header-Content-Length", "X-API-Key", "X-Request-ID")
_HEADERS_READ = ("Inference-Header-Content-Length", "Retry-After", "Server-Timing", "WWW-Authenticate", "X-Request-ID")
_NETWORK_BITS = 64  # of IPv6: what one customer has, with as many addresses as anyone could ask from


def guard(app: FastAPI, settings: Settings) -> None:
    """Put before ``app`` what the settings ask for, and into its OpenAPI document how it answers then."""
    quota = None
    if settings.rate_limit:
        from app.api.quotas import Quota  # whose library takes 67 to 82 ms to import

        quota = Quota(settings.rate_limit, settings.rate_limit_storage)
    if settings.keys or quota is not None:
        app.add_middleware(Access, keys=settings.keys, quota=quota)
    if settings.cors_origins:  # around the keys: a browser asks whether it may without one, and reads refusals
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=_HEADERS_SENT,
            expose_headers=_HEADERS_READ,
        )
    _document(app, bool(settings.keys))


async def charge(scope: Scope, images: int) -> None:
    """Count the images of a request; its first was counted before the body was read. Raises RateLimited."""
    take: Callable[[int], Any] | None = scope["state"].get("take")
    if take is not None and images > 1:
        await take(images - 1)


class Access:
    """ASGI middleware: 401 without a key where there are keys, 429 where a quota is used up.

    Every POST costs one image of the quota, so that what is wrong is not free.
    """

    def __init__(self, app: ASGIApp, keys: tuple[ApiKey, ...], quota: "Quota | None") -> None:
        self._app = app
        self._keys = keys
        self._quota = quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                client = self._named(scope) if self._keys else _address(scope)
                if self._quota is not None and scope["method"] == "POST":
                    await self._quota.take(client)
                    scope["state"]["take"] = partial(self._quota.take, client)
            except DigitsError as error:
                await _refusal(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _named(self, scope: Scope) -> str:
        """The name of the key that was sent. Raises Unauthorized."""
        given = [
            value[len(_BEARER) :] if name == b"authorization" else value
            for name, value in scope["headers"]
            if name == b"x-api-key" or (name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER)
        ]
        found = ""
        for digest in [hashlib.sha256(key.strip()).digest() for key in given]:
            for key in self._keys:  # all of them, however early one fits
                if hmac.compare_digest(key.sha256, digest):
                    found = key.name
        if not found:
            wrong = "The API key is unknown" if given else "An API key is needed"
            raise Unauthorized(f"{wrong}: send yours as X-API-Key or as Authorization: Bearer.")
        scope["state"]["log"]["key"] = found
        return found


def is_open(path: str) -> bool:
    """Whether an address is answered without a key."""
    return path in _OPEN or path.startswith(_OPEN_FOLDER)


def _address(scope: Scope) -> str:
    """Whoever asks, by address; of IPv6, by network."""
    try:
        address = ip_address((scope.get("client") or ("", 0))[0])
    except ValueError:  # what a trusted proxy passed on, or a socket without addresses
        return "unknown"
    if address.version == 6 and address.ipv4_mapped:  # all of IPv4 would be one network
        address = address.ipv4_mapped
    return str(address) if address.version == 4 else str(ip_network((address, _NETWORK_BITS), strict=False))


def _refusal(error: DigitsError, scope: Scope) -> Response:
    """In the form that the address' own errors have."""
    if not scope["path"].startswith(_DIALECTS):
        return problem_response(error, scope)
    content = to_json({"error": str(error)})
    return Response(content, error.status, error_headers(error), media_type="application/json")


def _document(app: FastAPI, keys: bool) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            if keys:
                document["components"]["securitySchemes"] = {
                    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                    "bearer": {"type": "http", "scheme": "bearer"},
                }
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    if is_open(path):
                        continue
                    responses = operation["responses"]
                    responses["401"] = _response(path, Unauthorized("An API key is needed: send yours as X-API-Key."))
                    if method == "post":
                        responses["429"] = _response(
                            path, RateLimited("The quota is 100/minute: send it again in 7 s.", 7)
                        )
                    operation["responses"] = dict(sorted(responses.items()))
                    if keys:
                        operation["security"] = [{"key": []}, {"bearer": []}]
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _response(path: str, error: DigitsError) -> dict[str, Any]:
    """How the OpenAPI document shows a refusal."""
    response = documented(error)[error.status]
    if path.startswith(_DIALECTS):
        schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        response["content"] = {"application/json": {"schema": schema, "example": {"error": str(error)}}}
    return response
