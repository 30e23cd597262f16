"""One connection: uvicorn's protocol over httptools, with an end to every wait and a bound on every header.

uvicorn alone waits for ever for a header that does not end, for the rest of a body whose request is answered already,
and for a caller who does not read; and it gathers header lines and trailers of any size.
"""

import asyncio
import logging
import secrets
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.problems import problem
from app.errors import BadRequest

_MOST_HEADER_BYTES = 64 * 1024

log = logging.getLogger("digits")


class Bounded(HttpToolsProtocol):
    """``timeout_s``: what stands still that long is ended before twice that."""

    _overhead = 0  # bytes of the request so far beyond twice those of its body: header, sizes of chunks, trailers
    _broken = False  # what followed the last request, which is not answered yet, is none
    _header_known = False  # while a second parser is told how the body is framed
    _look_again: asyncio.TimerHandle
    _seen_waiting: RequestResponseCycle | bool | None = False  # after which request, when last looked at
    _seen_unread = 0  # bytes of answers that the caller had not taken

    def __init__(self, timeout_s: float, **uvicorns: Any) -> None:  # noqa: ANN401
        super().__init__(**uvicorns)
        self._timeout_s = timeout_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_again = self.loop.call_later(self._timeout_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look_again.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        self._unset_keepalive_if_required()
        self._overhead += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._overhead > _MOST_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def _feed(self, data: bytes) -> None:
        """Who would rather speak another protocol, as Java's HttpClient in its first request, is answered in HTTP/1.1.

        httptools ends such a request with its header, and would take its body for another: hence another parser.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
            else:
                return
            framing = [line for line in self.headers if line[0] in (b"content-length", b"transfer-encoding")]
            self.parser = httptools.HttpRequestParser(self)
            self._header_known = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % line for line in framing) + b"\r\n")
            self._header_known = False

    def on_message_begin(self) -> None:
        if not self._header_known:
            super().on_message_begin()
            self._overhead = 0  # the rest of the same piece, 256 KiB at most, is not counted

    def on_url(self, url: bytes) -> None:
        if not self._header_known:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._header_known:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._header_known:
            return
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > _MOST_HEADER_BYTES:
            raise ValueError  # the parser stops
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.is_whole():
            super().on_message_complete()

    def is_whole(self) -> bool:
        """Whether a request ends where the parser says: one that would be another protocol ends there by its header."""
        return self._header_known or not self.parser.should_upgrade()

    def send_400_response(self, msg: str) -> None:
        """A problem document and a line in the log, as every error has, in place of uvicorn's ``msg``.

        The requests before it are answered first: who reads one answer for each would take this one for theirs.
        """
        self._broken = True
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self._refuse("The request is no valid HTTP/1.1, or its header has more than 64 KiB.")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._broken and self.cycle.response_complete and not self.transport.is_closing():
            self.send_400_response("")

    def _refuse(self, detail: str) -> None:
        request_id = secrets.token_hex(8)
        document = problem(BadRequest(detail), {"state": {"request_id": request_id}}).model_dump_json()
        self.transport.write(
            f"HTTP/1.1 {BadRequest.status} {BadRequest.title}\r\n"
            f"content-type: application/problem+json\r\ncontent-length: {len(document)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n{document}".encode()
        )
        self.transport.close()
        fields = {"request_id": request_id, "method": None, "route": None, "status": BadRequest.status}
        log.info("request", extra={"fields": fields})

    def _look(self) -> None:
        """End what stands where it stood when last looked at; what is idle between requests, uvicorn ends."""
        unread = self.transport.get_write_buffer_size()
        if unread >= self._seen_unread > 0:
            self.transport.abort()
            return
        self._seen_unread = unread
        answered = self.cycle is None or self.cycle.response_complete
        waiting = self.cycle if answered and self.timeout_keep_alive_task is None else False
        if waiting is not False and waiting is self._seen_waiting and not self.transport.is_closing():
            if self.headers is None or (self.cycle is not None and self.cycle.more_body):
                self.transport.close()  # nothing was asked, or it is answered
            else:
                self._refuse("The header came too slowly: send it again.")
        self._seen_waiting = waiting
        self._look_again = self.loop.call_later(self._timeout_s, self._look)
