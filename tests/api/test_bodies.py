"""A request's body -> the encoded image in it."""

import asyncio
import base64
import json
import time
from codecs import BOM_UTF8
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from app.api import bodies
from app.api.bodies import image_in, parse_off_loop, read_body
from app.api.multipart import Part, parse_multipart
from app.errors import BadRequest, InvalidParameter, TooLarge
from app.settings import Settings

IMAGE = bytes(range(256)) * 5
FORM = "multipart/form-data; boundary=frontier"
TIMEOUT_MS = 10_000


BASE64 = base64.b64encode(IMAGE).decode()  # with + and /
ESCAPES = "%41" * 500_004


def part(field: str, data: bytes, *, file_name: str | None = None, more: str = "") -> bytes:
    named = f'; filename="{file_name}"' if file_name else ""
    head = f'--frontier\r\nContent-Disposition: form-data; name="{field}"{named}{more}\r\n\r\n'
    return head.encode() + data + b"\r\n"


def sent_as_json(text: str, start: bytes = b"") -> tuple[str, bytes]:
    return "application/json", start + json.dumps({"image": text}).encode()


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--frontier--\r\n"


WAYS = {
    "multipart": (FORM, form(part("file", IMAGE, file_name="a.png"))),
    "multipart among other fields": (FORM, form(part("note", b"mine"), part("file", IMAGE), part("more", b""))),
    "the first of two files": (FORM, form(part("file", IMAGE), part("file", b"other"))),
    "quoted boundary": ('Multipart/Form-Data; boundary="frontier"', form(part("file", IMAGE))),
    "raw": ("image/png", IMAGE),
    "no type": ("", IMAGE),
    "base64 in a form": (
        FORM,
        form(part("file", base64.encodebytes(IMAGE), more="\r\nContent-Transfer-Encoding: Base64")),
    ),
    "JSON": sent_as_json(BASE64),
    "JSON after a byte order mark": sent_as_json(BASE64, BOM_UTF8),
    "JSON in wrapped lines": ("application/json; charset=utf-8", sent_as_json(base64.encodebytes(IMAGE).decode())[1]),
    "URL-safe base64": sent_as_json(base64.urlsafe_b64encode(IMAGE).decode()),
    "base64 without padding": sent_as_json(BASE64.rstrip("=")),
    "percent-encoded base64": sent_as_json(quote(BASE64, safe="")),
    "base64 as Python prints it": sent_as_json(repr(BASE64.encode())),
    "wrapped base64 as Python prints it": sent_as_json(repr(base64.encodebytes(IMAGE))),
    "JSON with a data: URL": sent_as_json(f"data:image/png;base64,{BASE64}"),
    "a data: URL in upper case": sent_as_json(f" DATA:IMAGE/PNG;BASE64,{BASE64}"),
    "a data: URL with parameters": sent_as_json(f"data:image/png;name=a.png;charset=utf-8;base64, {BASE64}"),
    "a data: URL without a type": sent_as_json(f"data:;base64,{BASE64}"),
    "a data: URL, percent-encoded": sent_as_json(quote(f"data:image/png;base64,{BASE64}", safe="")),
    "a data: URL without base64": sent_as_json(f"data:image/png,{quote(IMAGE)}"),
}
MALFORMED = {
    "nothing": ("image/png", b""),
    "form without a boundary": ("multipart/form-data", form(part("file", IMAGE))),
    "form with a boundary of 300 letters": (f"multipart/form-data; boundary={'b' * 300}", form(part("file", IMAGE))),
    "form without the field": (FORM, form(part("image", IMAGE))),
    "form with an empty file": (FORM, form(part("file", b"", file_name="a.png"))),
    "form cut in the file": (FORM, form(part("file", IMAGE))[:-300]),
    "form without its closing boundary": (FORM, part("file", IMAGE)),
    "JSON without the member": ("application/json", b'{"picture": "iVBORw0="}'),
    "JSON with too much beside it": (
        "application/json",
        json.dumps({"image": base64.b64encode(IMAGE).decode(), "more": [[7]] * 10_000}).encode(),
    ),
    "JSON nested deeply": ("application/json", b"[" * 100_000),
    "base64 with a foreign letter": ("application/json", b'{"image": "iVBO*w0="}'),
    "base64 cut in a letter": ("application/json", b'{"image": "iVBOR"}'),
    "base64 padded inside": ("application/json", b'{"image": "iVBO==Rw0K"}'),
    "base64 in a form with a foreign length": (
        FORM,
        form(part("file", b"iVBOR", more="\r\nContent-Transfer-Encoding: base64")),
    ),
    "data: URL that does not say base64": ("application/json", b'{"image": "data:image/png,abcd"}'),
    "base64 of 500,004 escapes": sent_as_json(ESCAPES),
    "data: URL of 500,004 escapes": sent_as_json(f"data:image/png,{ESCAPES}"),
    "encoded data: URL of 500,004 escapes": sent_as_json(f"data%3A;base64,{ESCAPES}"),
    "data: URL with 500,004 escapes before its data": sent_as_json(f"data:{ESCAPES};base64,{BASE64}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_image_may_be_sent_in_many_ways(way: str) -> None:
    assert image_in(*WAYS[way]) == IMAGE


@pytest.mark.parametrize("how", MALFORMED)
def test_a_body_without_a_whole_image_is_a_bad_request(how: str) -> None:
    with pytest.raises(BadRequest):
        image_in(*MALFORMED[how])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, form(part("file", IMAGE), part("top_k", b"3"))),
        ("application/json", json.dumps({"image": BASE64, "top_k": 3}).encode()),
    ],
    ids=["form", "JSON"],
)
def test_a_parameter_in_the_body_is_an_error_as_it_would_have_no_effect(content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"/predict\?top_k="):
        image_in(content_type, body)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('; filename="süß.png"', "süß.png"),
        ('; filename="=?utf-8?B?c8O8w58ucG5n?="', "süß.png"),
        ('; filename="=?utf-8?Q?s=C3=BC.png?="', "sü.png"),
        ("; filename=\"=?utf-8?B?c8O8w58ucG5n?=\"; filename*=utf-8''s%C3%BC%C3%9F.png", "süß.png"),
        ("; filename*=UTF-8''s%C3%BC%C3%9F.png", "süß.png"),
        ("; filename*=iso-8859-1'de's%FC.png", "sü.png"),
        ("; filename=\"a.png\"; filename*=nonsense''s%FC.png", "a.png"),
        ("; filename=\"a.png\"; filename*=utf-8''s%FC.png", "a.png"),
        ('; filename="a%22b.png"', 'a"b.png'),
        ('; filename="50%25.png"', "50%25.png"),
        ('; filename="=?nonsense?B?c8O8w58ucG5n?="', "=?nonsense?B?c8O8w58ucG5n?="),
        ("", ""),
    ],
    ids=str,
)
def test_the_name_of_a_file_is_read_as_clients_encode_it(disposition: str, name: str) -> None:
    [found] = parse_multipart(FORM, form(part("files", IMAGE, more=disposition)))

    assert found.filename.decode() == name


def test_parts_come_in_order_with_their_fields() -> None:
    body = form(part("b", b"1", file_name="one.png"), part("a", b"2"), part("b", b""))

    assert parse_multipart(FORM, body) == [Part(b"b", b"one.png", b"1"), Part(b"a", b"", b"2"), Part(b"b", b"", b"")]


def test_the_number_of_parts_is_bounded() -> None:
    with pytest.raises(BadRequest, match="more than 1000 parts"):
        parse_multipart(FORM, form(*[part("a", b"")] * 1001))


@settings(deadline=None)
@given(data=st.binary(min_size=1).filter(lambda data: b"\r\n--frontier" not in data))
def test_any_bytes_come_out_of_a_form_as_they_went_in(data: bytes) -> None:
    assert image_in(FORM, form(part("file", data))) == data


async def read(*messages: Message, max_bytes: int = 2**20, timeout_ms: int = TIMEOUT_MS, length: str = "") -> bytes:
    """What `read_body` makes of ``messages``; after them the client sends nothing more."""
    left = iter(messages)

    async def receive() -> Message:
        for message in left:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    headers = [(b"content-length", length.encode())] if length else []
    return await read_body(Request({"type": "http", "headers": headers}, receive), max_bytes, timeout_ms)


def chunk(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


async def test_a_body_of_exactly_the_limit_is_read_and_a_larger_one_is_refused_at_once() -> None:
    assert await read(chunk(b"12"), chunk(b"34", more=False), max_bytes=4) == b"1234"
    with pytest.raises(TooLarge):
        await read(chunk(b"12"), chunk(b"345"), max_bytes=4)
    with pytest.raises(TooLarge):
        await read(length="5", max_bytes=4)


async def test_a_client_that_leaves_or_stops_sending_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="incomplete"):
        await read(chunk(b"half"), {"type": "http.disconnect"})
    with pytest.raises(BadRequest, match="too slowly") as raised:
        await read(chunk(b"half"), timeout_ms=20)
    assert raised.value.headers == {"Connection": "close"}


async def test_a_large_body_gets_the_time_that_a_slow_network_needs() -> None:
    """64 KiB add four seconds, so after the timeout of an empty body the rest is still awaited."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(chunk(bytes(2**16)), timeout_ms=10), 0.1)


@pytest.mark.parametrize(
    ("limit_mib", "workers", "held_mib"),
    [(None, 1, 320), (512, 1, 32), (512, 2, 16), (64, 1, 10), (65_536, 1, 320)],
    ids=["no limit", "a small container", "shared by two", "one body at least", "a large container"],
)
def test_bodies_take_a_sixteenth_of_the_container(
    limit_mib: int | None, workers: int, held_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "memory_limit", lambda: limit_mib and limit_mib * 2**20)

    assert bodies.max_held_body_bytes(Settings(workers=workers)) == held_mib * 2**20


async def test_large_bodies_are_parsed_one_after_the_other() -> None:
    inside: list[int] = []
    most: list[int] = []

    def parse(body: bytes) -> int:
        inside.append(1)
        time.sleep(0.02)
        most.append(len(inside))
        inside.pop()
        return len(body)

    assert await asyncio.gather(*(parse_off_loop(bytes(100_000 + n), parse) for n in range(4))) == [
        *range(100_000, 100_004)
    ]
    assert max(most) == 1
