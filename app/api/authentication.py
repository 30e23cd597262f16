"""Who may send requests, and how many: API keys, quotas, CORS. Pure ASGI, before the body is read. Off by default."""

import hashlib
import hmac
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import problem_response
from app.api.state import state_of
from app.errors import DigitsError, Unauthorized
from app.settings import ApiKey, Settings

if TYPE_CHECKING:
    from app.api.quotas import Quota

# For probes and browsers, which send no key: health, the playground, the API docs.
_OPEN = {"/", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"}
_OPEN_FOLDERS = ("/playground/", "/docs/")
_BEARER = b"bearer "  # in upper or lower case (RFC 9110)
_HEADERS_SENT = ("Authorization", "Content-Type", "Inference-Header-Content-Length", "X-API-Key", "X-Request-ID")
_HEADERS_READ = ("Inference-Header-Content-Length", "Retry-After", "Server-Timing", "WWW-Authenticate", "X-Request-ID")
_NETWORK_BITS = 64  # of IPv6: one customer has 2^64 addresses


def make_quota(settings: Settings) -> "Quota | None":
    if not settings.rate_limit:
        return None
    from app.api.quotas import Quota  # its library takes 67 to 82 ms to import

    return Quota(settings.rate_limit, settings.rate_limit_storage)


def add_cors(app: FastAPI, settings: Settings) -> None:
    """Let pages of the origins in the settings read the answers."""
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=_HEADERS_SENT,
            expose_headers=_HEADERS_READ,
        )


async def charge(request: Request, images: int) -> None:
    """Count the images of a request; the first was counted before its body was read. Raises RateLimited."""
    quota = state_of(request.app).quota
    if quota is not None and images > 1:
        await quota.take(request.state.client, images - 1)


def is_open(path: str) -> bool:
    """Whether an address needs no key."""
    return path in _OPEN or (path.startswith(_OPEN_FOLDERS) and path not in _OPEN_FOLDERS)


class Authentication:
    """ASGI middleware: 401 without a valid key, if keys are configured; 429 when the quota is used up.

    Every POST costs one image of the quota, so that invalid requests are not free.
    """

    def __init__(self, app: ASGIApp, keys: tuple[ApiKey, ...], quota: "Quota | None") -> None:
        self._app = app
        self._keys = keys
        self._quota = quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                client = self._key_name(scope) if self._keys else _address(scope)
                if self._quota is not None and scope["method"] == "POST":
                    scope["state"]["client"] = client
                    await self._quota.take(client)
            except DigitsError as error:
                await problem_response(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _key_name(self, scope: Scope) -> str:
        """The name of the key that was sent. Raises Unauthorized."""
        given = [
            value[len(_BEARER) :] if name == b"authorization" else value
            for name, value in scope["headers"]
            if name == b"x-api-key" or (name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER)
        ]
        found = ""
        for digest in [hashlib.sha256(key.strip()).digest() for key in given]:
            for key in self._keys:  # all of them, so that the time does not reveal which matched
                if hmac.compare_digest(key.sha256, digest):
                    found = key.name
        if not found:
            wrong = "The API key is unknown" if given else "An API key is needed"
            raise Unauthorized(f"{wrong}: send yours as X-API-Key or as Authorization: Bearer.")
        scope["state"]["log"]["key"] = found
        return found


def _address(scope: Scope) -> str:
    """The client's IPv4 address, or its IPv6 network."""
    try:
        address = ip_address((scope.get("client") or ("", 0))[0])
    except ValueError:  # a Unix socket, or an invalid address from a trusted proxy
        return "unknown"
    if address.version == 6 and address.ipv4_mapped:  # otherwise all of IPv4 would share one network
        address = address.ipv4_mapped
    return str(address) if address.version == 4 else str(ip_network((address, _NETWORK_BITS), strict=False))
