"""`GET /docs`: Swagger UI with the files of the installed package fastapi-offline, so no other server is contacted.

All links are relative, for a service behind a path prefix.
"""

import base64
import hashlib
import re

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from app.api.routes.playground import SECURITY


def docs_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(packages=[("fastapi_offline", "static")])

    @router.api_route("/openapi.json", methods=["GET", "HEAD"])
    async def document(request: Request) -> Response:
        return JSONResponse(request.app.openapi())

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def docs() -> Response:
        return _swagger_ui()

    @router.api_route("/docs/{name}", methods=["GET", "HEAD"])
    async def file(request: Request, name: str) -> Response:
        response = await files.get_response(name, request.scope)
        response.headers.update(SECURITY)
        return response

    return router


def _swagger_ui() -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Digits API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # a third-party server
    )
    [script] = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)
    sha256 = base64.b64encode(hashlib.sha256(script).digest()).decode()
    page.headers.update(SECURITY)
    page.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' 'sha256-{sha256}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    )
    return page
