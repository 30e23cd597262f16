"""The request's body -> the encoded image in it: multipart, raw or JSON. Held in memory, never on disk.

The body is bounded before it is read (Content-Length) and while it is (chunked). Starlette's own form parser would
spool uploads of more than 1 MiB to disk, and costs three times as much.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request
from starlette.types import Message

from app.api.schemas import ImageBody
from app.errors import BadRequest, BodyTooSlow, Overloaded, TooLarge, UnsupportedMediaType
from app.inference.memory import memory_limit
from app.settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

T = TypeVar("T")

_BODIES_AT_ONCE = 32  # of the largest size; of JSON and multipart there are copies, several times as large
_SMALL_BYTES = 64 * 1024  # not counted among them
_MAX_PARTS = 1000  # of one multipart body
_MOST_MARKS = 10_000  # of JSON: lists beside the image would take 33 times their own bytes
_SLOWEST_BYTES_PER_S = 16 * 1024  # what a phone on the poorest network sends

_parsing = Lock()


class Body:
    """`async with Body(request) as body`: the whole body, of all that are held at once no more than fit.

    Raises what `read_body` raises, and Overloaded.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._state = request.app.state
        self._held = 0

    async def __aenter__(self) -> bytes:
        settings: Settings = self._state.settings
        try:
            return await read_body(self._request, settings.max_body_bytes, settings.request_timeout_ms, self._hold)
        except BaseException:
            self._let_go()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._let_go()

    def _hold(self, received: int) -> None:
        """``received``: bytes so far. A small body is always taken: many large ones that dawdle keep none out."""
        if received <= _SMALL_BYTES:
            return
        self._state.body_bytes += received - self._held
        self._held = received
        if self._state.body_bytes > self._state.most_body_bytes:
            raise Overloaded()  # large bodies that are held

    def _let_go(self) -> None:
        self._state.body_bytes -= self._held
        self._held = 0


def most_body_bytes(settings: Settings) -> int:
    """How many bytes of large bodies a process holds at once: at most a sixteenth of the container's memory."""
    most = _BODIES_AT_ONCE * settings.max_body_bytes
    limit = memory_limit()
    return most if limit is None else min(most, max(settings.max_body_bytes, limit // settings.workers // 16))


async def read_body(
    request: Request, max_bytes: int, timeout_ms: int, hold: Callable[[int], None] = lambda _: None
) -> bytes:
    """The whole body. ``timeout_ms``: within which it has come, but for what a slow network is given for its size.

    ``hold`` is told how many bytes have come, and may raise. Raises TooLarge, before reading where Content-Length
    tells, UnsupportedMediaType for a compressed one, and BadRequest when the client goes away or dawdles.
    """
    length = 0
    for name, value in request.scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaType("The body is compressed: send it as it is.")
    if length > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    received = 0
    until = asyncio.get_running_loop().time() + timeout_ms / 1000
    try:
        async with asyncio.timeout_at(until) as deadline:
            while True:
                message = await request.receive()
                chunk = _chunk(message)
                received += len(chunk)
                if received > max_bytes:
                    raise _too_large(max_bytes)
                hold(received)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
                deadline.reschedule(until + received / _SLOWEST_BYTES_PER_S)
    except TimeoutError as error:
        raise BodyTooSlow("The body came too slowly: send it again, or a smaller image.") from error


def _chunk(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise BadRequest("The body ended early: send it whole.")
    chunk: bytes = message.get("body", b"")
    return chunk


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The request has more than {max_bytes} bytes: send a smaller image.")


async def parsed(body: bytes, parse: Callable[[bytes], T]) -> T:
    """``parse(body)``, of a large body in a thread: base64 and numbers of 10 MiB would hold the event loop up.

    One at a time: several would wait for the interpreter, each with numbers that take many times their body.
    """

    def alone() -> T:
        with _parsing:
            return parse(body)

    return parse(body) if len(body) <= _SMALL_BYTES else await asyncio.to_thread(alone)


def image_in(content_type: str, body: bytes) -> bytes:
    """The encoded image of a body.

    ``content_type`` decides between multipart, JSON and raw; anything else is taken as raw, since the image is known
    by its content. Raises BadRequest, UnsupportedMediaType.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        data = _first_file(content_type, body)
    elif media_type == "application/json":
        data = _from_json(body)
    else:
        data = body
        if body.lstrip()[:1] == b"{":  # no picture begins so
            raise UnsupportedMediaType("This looks like JSON: send it with Content-Type: application/json.")
    if not data:
        raise BadRequest("The image is empty: send a file that holds one, such as curl -F file=@seven.png does.")
    return data


def _first_file(content_type: str, body: bytes) -> bytes:
    for part in multipart(content_type, body):
        if part.field == b"file":
            return part.data
    raise BadRequest("The form has no field `file`: curl -F file=@seven.png sends one.")


def _from_json(body: bytes) -> bytes:
    if sum(body.count(mark) for mark in b"[{,") > _MOST_MARKS:
        raise BadRequest('The JSON has more lists or values than "image" needs: send that alone.')
    try:
        text = ImageBody.model_validate_json(body).image
    except ValidationError as error:
        raise BadRequest('The body is no JSON object with a string "image".') from error
    if text.startswith("data:"):
        declared, _, text = text.partition(",")
        if not declared.endswith(";base64"):
            raise BadRequest("The data: URL is not base64-encoded.")
    if text.startswith(("http:", "https:")):
        raise BadRequest('"image" is an address, and the service fetches nothing: send the picture itself, as base64.')
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # `base64 FILE` wraps its lines
    except ValueError as error:
        raise BadRequest('"image" is no valid base64.') from error


@dataclass
class Part:
    """One part of a multipart body."""

    field: bytes = b""
    filename: bytes = b""
    data: bytes = b""


def multipart(content_type: str, body: bytes) -> list[Part]:
    """The parts in order. Raises BadRequest for what is no whole multipart body."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest("The Content-Type names no multipart boundary.")
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest("The multipart body is malformed.") from error
    if not collector.complete:
        raise BadRequest("The multipart body ends before its closing boundary.")
    return collector.parts


class _Collector:
    """Takes down what the parser calls out."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._name = self._value = b""
        self._chunks: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) >= _MAX_PARTS:
            raise BadRequest(f"The multipart body has more than {_MAX_PARTS} parts.")
        self.parts.append(Part())
        self._chunks = []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self.parts[-1].field = options.get(b"name", b"")
            self.parts[-1].filename = options.get(b"filename", b"")
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        self.parts[-1].data = b"".join(self._chunks)

    def _finish(self) -> None:
        self.complete = True
