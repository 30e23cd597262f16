"""The body of a request -> the encoded image in it: multipart, raw or JSON. Held in memory, never on disk.

The size is checked before reading (Content-Length) and while reading (chunked bodies).
"""

import asyncio
import base64
import string
from codecs import BOM_UTF8
from collections.abc import Callable
from threading import Lock
from typing import TypeVar
from urllib.parse import unquote, unquote_to_bytes

from pydantic_core import from_json
from starlette.requests import Request

from app.api.multipart import parse_multipart
from app.api.query import refuse_misplaced
from app.api.schemas import ImageBody
from app.api.state import state_of
from app.errors import BadRequest, BodyTooSlow, Overloaded, TooLarge, UnsupportedMediaType
from app.inference.memory import memory_limit
from app.settings import Settings

T = TypeVar("T")

_BODIES_AT_ONCE = 32  # of the largest size; parsing JSON and multipart copies each several times
_SMALL_BYTES = 64 * 1024  # smaller bodies are not counted, and parsed on the event loop
_MAX_JSON_VALUES = 10_000  # in the JSON of one image; parsed lists take 33 times their own bytes
_MIN_BYTES_PER_S = 16 * 1024  # of a phone on a slow network
_MAX_ESCAPES = 500_000  # percent-encoded characters in an image: one of 2 MiB has about 100,000
_URL_SAFE = bytes.maketrans(b"-_", b"+/")

_parsing = Lock()


class WholeBody:
    """`async with WholeBody(request) as body`: counted among the large bodies that the process holds at once.

    Raises what `read_body` raises, and Overloaded when large bodies would take too much memory. Small bodies are always
    accepted, so that slow large uploads do not keep them out.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._state = state_of(request.app)
        self._held = 0

    async def __aenter__(self) -> bytes:
        settings = self._state.settings
        try:
            return await read_body(self._request, settings.max_body_bytes, settings.request_timeout_ms, self._hold)
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._state.held_body_bytes -= self._held

    def _hold(self, received: int) -> None:
        if received <= _SMALL_BYTES:
            return
        self._state.held_body_bytes += received - self._held
        self._held = received
        if self._state.held_body_bytes > self._state.max_held_body_bytes:
            raise Overloaded()


def max_held_body_bytes(settings: Settings) -> int:
    """How many bytes of large bodies a process holds at once: at most a sixteenth of the container's memory."""
    most = _BODIES_AT_ONCE * settings.max_body_bytes
    limit = memory_limit()
    return most if limit is None else min(most, max(settings.max_body_bytes, limit // settings.workers // 16))


async def read_body(
    request: Request, max_bytes: int, timeout_ms: int, hold: Callable[[int], None] = lambda _: None
) -> bytes:
    """The whole body. ``timeout_ms`` is extended by what a slow network needs for the bytes received so far.

    ``hold`` gets the number of bytes received, and may raise. Raises TooLarge (before reading, if Content-Length is
    given), UnsupportedMediaType for a compressed body, BadRequest when the client disconnects or is too slow.
    """
    length = 0
    for name, value in request.scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaType("The body is compressed: send it uncompressed.")
    too_large = TooLarge(f"The request has more than {max_bytes} bytes: send a smaller image.")
    if length > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    received = 0
    until = asyncio.get_running_loop().time() + timeout_ms / 1000
    try:
        async with asyncio.timeout_at(until) as deadline:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise BadRequest("The body is incomplete: send all of it.")
                chunk: bytes = message.get("body", b"")
                received += len(chunk)
                if received > max_bytes:
                    raise too_large
                hold(received)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
                deadline.reschedule(until + received / _MIN_BYTES_PER_S)
    except TimeoutError as error:
        raise BodyTooSlow("The body arrived too slowly: retry, or send a smaller image.") from error


async def parse_off_loop(body: bytes, parse: Callable[[bytes], T]) -> T:
    """``parse(body)``, for a large body in a thread: base64 and numbers of 10 MiB would block the event loop.

    One large body at a time: parsed numbers take many times the memory of their body, and threads would only compete
    for the interpreter lock.
    """

    def alone() -> T:
        with _parsing:
            return parse(body)

    return parse(body) if len(body) <= _SMALL_BYTES else await asyncio.to_thread(alone)


def image_in(content_type: str, body: bytes, *, alone: bool = True) -> bytes:
    """The encoded image in a body. Raises BadRequest, InvalidParameter: for parameters in a form, if ``alone``.

    ``content_type`` decides between multipart, JSON and raw. Any other type is read as raw, since the content shows the
    image's format.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        data = _image_in_form(content_type, body, alone=alone)
    elif media_type == "application/json":
        data = _image_in_json(body)
    else:
        data = body
    if not data:
        raise BadRequest("The image is empty: send a file, such as curl -F file=@seven.png.")
    return data


def _image_in_form(content_type: str, body: bytes, *, alone: bool) -> bytes:
    parts = parse_multipart(content_type, body)
    if alone:
        refuse_misplaced((part.field.decode("latin-1") for part in parts), "/predict")
    for part in parts:
        if part.field == b"file":
            return part.data
    raise BadRequest("The form has no field `file`: curl -F file=@seven.png sends one.")


def _image_in_json(body: bytes) -> bytes:
    if has_more_json_values(body, _MAX_JSON_VALUES):
        raise BadRequest('The JSON has too many values: send only "image".')
    try:
        sent = from_json(body.removeprefix(BOM_UTF8))
        text = ImageBody.model_validate(sent).image.strip()
    except ValueError as error:
        raise BadRequest('The body is not a JSON object with a string "image".') from error
    refuse_misplaced(sent, "/predict")
    if text[:7].lower() == "data%3a" and text.count("%") <= _MAX_ESCAPES:
        text = unquote(text)
    if text[:5].lower() == "data:":
        declared, _, text = text.partition(",")
        if "base64" not in (parameter.strip() for parameter in unquote(declared[:1000]).lower().split(";")):
            if not 0 < text.count("%") <= _MAX_ESCAPES:
                raise BadRequest("The data: URL is not base64-encoded: it has no ;base64 before the comma.")
            return unquote_to_bytes(text)
    if text.startswith(("http:", "https:")):
        raise BadRequest('"image" is a URL, and the service does not fetch URLs: send the image as base64.')
    try:
        return decode_base64(text)
    except ValueError as error:
        raise BadRequest('"image" is not valid base64 of the bytes of a file.') from error


def has_more_json_values(body: bytes, limit: int) -> bool:
    """Whether JSON holds more than ``limit`` lists, objects and separators. Counted before parsing, in microseconds."""
    return sum(body.count(mark) for mark in b"[{,") > limit


def decode_base64(text: str) -> bytes:
    """The bytes of base64 as people send it. Raises ValueError.

    With or without padding, URL-safe, percent-encoded, in wrapped lines, or as Python prints bytes: b'...\\n'.
    """
    text = text.strip().removeprefix("b'").removesuffix("'").replace("\\n", "")
    if text.count("%") > _MAX_ESCAPES:  # `unquote` takes 80 bytes of memory for each
        raise ValueError("too many escapes")
    data = unquote(text).encode("ascii")
    data = data.translate(_URL_SAFE, string.whitespace.encode()).rstrip(b"=")
    return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
