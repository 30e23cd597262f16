"""`GET /docs`: Swagger UI with the files of the installed package fastapi-offline, so that no other server is asked.

All links are relative, for a service behind a path prefix.
"""

import base64
import hashlib
import re

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles


def docs_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(packages=[("fastapi_offline", "static")])

    @router.get("/openapi.json")
    async def document(request: Request) -> Response:
        return JSONResponse(request.app.openapi())

    @router.get("/docs")
    async def docs() -> Response:
        return _swagger_ui()

    @router.get("/docs/{name}")
    async def file(request: Request, name: str) -> Response:
        return await files.get_response(name, request.scope)

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
    page.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' 'sha256-{sha256}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    )
    return page
