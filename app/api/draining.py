"""An answer that is given before the request's body has arrived: the rest is read and dropped, within bounds.

Closing a connection with unread data resets it, and the reset can overtake the answer: a client that is still sending
sees "connection reset" or "broken pipe" instead of the error.
"""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_S, _MAX_SILENCE_S = 30, 5  # as nginx's lingering_time and lingering_timeout
_SMALL_BYTES = 2**16  # a body that the server reads on a connection that stays open: under overload, most refused ones
_MAX_EXPECTING_S = 0.5  # for a client that waits for 100 Continue before it sends the body: most never send it


class DrainBody:
    """ASGI middleware: closes the connection after an answer that does not wait for the body.

    On a connection that stays open, the server would read a large body without bounds of time; it does read a small
    one. The answer is sent at once, but its end, at which the server closes, after that of the body, ``max_bytes``, 30
    seconds, or 5 without data. It is the outermost, so that neither the log nor a limit counts this time.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        expecting, closing = b"expect" in headers, False
        length = headers.get(b"content-length", b"")
        stays_open = scope["http_version"] != "1.0" and b"close" not in headers.get(b"connection", b"").lower()
        stays_open &= (
            b"transfer-encoding" not in headers and length.isdigit() and int(length) <= _SMALL_BYTES and not expecting
        )

        async def receive_noting() -> Message:
            nonlocal unread, expecting
            expecting = False  # the server sends 100 Continue
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def send_without_end(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start" and not stays_open:
                with suppress(TimeoutError):
                    while unread and not expecting:
                        async with asyncio.timeout(0):  # a small body may have arrived
                            await receive_noting()
                closing = unread
                if closing:
                    others = [header for header in message["headers"] if header[0] != b"connection"]
                    message["headers"] = [*others, (b"connection", b"close")]
            elif closing and not message.get("more_body", False):
                message["more_body"] = True
            await send(message)

        await self._app(scope, receive_noting, send_without_end)
        if closing:
            await self._drain(receive, _MAX_EXPECTING_S if expecting else _MAX_SILENCE_S)
            await send({"type": "http.response.body"})

    async def _drain(self, receive: Receive, silence_s: float) -> None:
        loop, left = asyncio.get_running_loop(), self._max_bytes
        until = loop.time() + _MAX_S
        with suppress(TimeoutError, asyncio.CancelledError):  # cancelled: the server stops, and the answer is sent
            async with asyncio.timeout(silence_s) as silence:
                while (message := await receive()).get("more_body", False) and left > 0:
                    left -= len(message["body"])
                    silence.reschedule(min(loop.time() + _MAX_SILENCE_S, until))
