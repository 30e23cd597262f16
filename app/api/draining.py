"""After an answer that did not wait for the request's body: the rest of it is read and dropped, within bounds.

Closing a connection with unread data resets it, and the reset can overtake the answer: a client that is still sending
sees "connection reset" or "broken pipe" instead of the error.
"""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MAX_S, _MAX_SILENCE_S = 30, 5  # as nginx's lingering_time and lingering_timeout
_WITHOUT_BODY = {"GET", "HEAD"}


class DrainBody:
    """ASGI middleware: sends the answer at once, but its end, at which the server may close, after the body's.

    Gives up after ``max_bytes``, 30 seconds, or 5 without data. It is the outermost, so that neither the log nor a
    limit counts this time.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        more_body, answered = True, False

        async def receive_noting() -> Message:
            nonlocal more_body
            message = await receive()
            more_body = message.get("more_body", False)
            return message

        async def send_without_end(message: Message) -> None:
            nonlocal answered
            if more_body and message["type"] == "http.response.body" and not message.get("more_body", False):
                answered = True
                message["more_body"] = True
            await send(message)

        await self._app(scope, receive_noting, send_without_end)
        if answered:
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
