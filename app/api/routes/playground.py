"""`GET /`: the playground, a page that sends the same requests as any client. Its files are in `app/static`."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

SECURITY = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_HEADERS = SECURITY | {
    # Only our own files; data: and blob: are pictures that the page makes itself.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    "Cache-Control": "no-cache",  # the names never change, so browsers ask each time; unchanged files are 304
}


def playground_router() -> APIRouter:
    """The page at `/`, and the files that it loads at `/playground/…`."""
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=Path(__file__).parents[2] / "static")

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return await file(request, "index.html")

    @router.api_route("/playground/{name}", methods=["GET", "HEAD"])
    async def file(request: Request, name: str) -> Response:
        response = await files.get_response(name, request.scope)
        response.headers.update(_HEADERS)
        return response

    return router
