"""Before a connection is closed: the rest of the request's body is read and dropped, within bounds.

Closing a connection with unread data resets it, and the reset can overtake the answer: a client that is still sending
sees "connection reset" or "broken pipe" instead of the error.
"""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_S, _MAX_SILENCE_S = 30, 5  # as nginx's lingering_time and lingering_timeout


class DrainBody:
    """ASGI middleware: sends the answer at once, but its end, at which the server closes, after that of the body.

    Gives up after ``max_bytes``, 30 seconds, or 5 without data. It is the outermost, so that neither the log nor a
    limit counts this time. On a connection that stays open the server itself reads what is left.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        unread, closing = True, False

        async def receive_noting() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def send_without_end(message: Message) -> None:
            nonlocal closing
            if unread and message["type"] == "http.response.start":
                headers = [*scope["headers"], *message["headers"]]
                closing = scope["http_version"] == "1.0" or any(
                    name == b"connection" and b"close" in value.lower() for name, value in headers
                )
            elif closing and not message.get("more_body", False):
                message["more_body"] = True
            await send(message)

        await self._app(scope, receive_noting, send_without_end)
        if closing:
            if unread:
                await self._drain(receive)
            await send({"type": "http.response.body"})

    async def _drain(self, receive: Receive) -> None:
        loop, left = asyncio.get_running_loop(), self._max_bytes
        until = loop.time() + _MAX_S
        with suppress(TimeoutError):
            async with asyncio.timeout(_MAX_SILENCE_S) as silence:
                while (message := await receive()).get("more_body", False) and left > 0:
                    left -= len(message["body"])
                    silence.reschedule(min(loop.time() + _MAX_SILENCE_S, until))
