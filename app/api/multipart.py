"""A multipart body -> its parts, in memory.

Starlette's form parser spools files of more than 1 MiB to disk and takes three times as long.
"""

import binascii
import re
from contextlib import suppress
from dataclasses import dataclass
from email.errors import MessageError
from email.header import decode_header, make_header
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BadRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_PARTS = 1000  # of one body
_EXTENDED_NAME = re.compile(rb";\s*filename\*=([\w.:-]*)'[^';]*'([^;\s\"]*)", re.IGNORECASE)  # RFC 8187


@dataclass
class Part:
    field: bytes = b""
    filename: bytes = b""
    data: bytes = b""
    in_base64: bool = False  # as it was sent


def parse_multipart(content_type: str, body: bytes) -> list[Part]:
    """The parts in order. Raises BadRequest for anything but a complete multipart body."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest("The Content-Type is not multipart/form-data with a boundary: send a form.")
    parts: list[Part] = []
    name, value = bytearray(), bytearray()
    chunks: list[bytes] = []
    ends: list[None] = []

    def begin_part() -> None:
        if len(parts) >= _MAX_PARTS:
            raise BadRequest(f"The multipart body has more than {_MAX_PARTS} parts.")
        parts.append(Part())

    def end_header() -> None:
        header = name.lower()
        if header == b"content-disposition":
            _, options = parse_options_header(bytes(value))
            parts[-1].field = options.get(b"name", b"")
            parts[-1].filename = _file_name(options.get(b"filename", b""), bytes(value))
        elif header == b"content-transfer-encoding":
            parts[-1].in_base64 = value.strip().lower() == b"base64"
        name.clear()
        value.clear()

    def end_part() -> None:
        data = b"".join(chunks)
        parts[-1].data = binascii.a2b_base64(data) if parts[-1].in_base64 else data
        chunks.clear()

    callbacks: MultipartCallbacks = {
        "on_part_begin": begin_part,
        "on_header_field": lambda data, start, end: name.extend(data[start:end]),
        "on_header_value": lambda data, start, end: value.extend(data[start:end]),
        "on_header_end": end_header,
        "on_part_data": lambda data, start, end: chunks.append(data[start:end]),
        "on_part_end": end_part,
        "on_end": lambda: ends.append(None),
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except (FormParserError, binascii.Error) as error:
        raise BadRequest("The multipart body is malformed.") from error
    if not ends:
        raise BadRequest("The multipart body ends before its closing boundary.")
    return parts


def _file_name(plain: bytes, disposition: bytes) -> bytes:
    """The name in UTF-8, whether it came as .NET (RFC 8187, RFC 2047) or browsers encode it, or as it is."""
    if extended := _EXTENDED_NAME.search(disposition):
        with suppress(LookupError, ValueError):  # an unknown charset, or bytes that are not in it
            return unquote_to_bytes(extended[2]).decode(extended[1].decode() or "utf-8").encode()
    if plain.startswith(b"=?"):
        with suppress(LookupError, ValueError, MessageError):
            return str(make_header(decode_header(plain.decode("ascii")))).encode()
    return plain.replace(b"%22", b'"')  # browsers percent-encode nothing else that is in names
