"""`GET /`: the playground, a page that asks the service as any caller does. Its files are answered from memory."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.errors import NotFound

_FOLDER = Path(__file__).parents[2] / "static"
_PAGE = "index.html"
_CARD_LINK = b'    <a href="model">Model card</a>\n'
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_SECURITY = {
    # Nothing but our own files; data: and blob: are the pictures that the page itself makes.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def routes(*, open_to_all: bool = True) -> list[Route]:
    """The page at `/` and what it loads at `/playground/…`, for GET and HEAD. The files are read now, and once.

    ``open_to_all``: no key is needed; where one is, the page has no link to the model card, for a link sends none.
    """
    contents = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES}
    if not open_to_all:
        contents[_PAGE] = contents[_PAGE].replace(_CARD_LINK, b"")
    files = {name: _file(name, content) for name, content in contents.items()}
    page = files.pop(_PAGE)

    async def index(request: Request) -> Response:
        return _answer(request, page)

    async def file(request: Request) -> Response:
        try:
            return _answer(request, files[request.path_params["name"]])
        except KeyError as error:
            raise NotFound("There is nothing at this address: a picture goes to /predict.") from error

    return [Route("/", index), Route("/playground/{name}", file)]


def _file(name: str, content: bytes) -> _File:
    return _File(content, _MEDIA_TYPES[Path(name).suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _answer(request: Request, file: _File) -> Response:
    """The file, or 304 to whoever has it: the names never change, so callers ask each time."""
    headers = _SECURITY | {"ETag": file.etag, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if known == "*" or file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
