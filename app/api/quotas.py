"""How many images a client may send: fixed windows, in memory or in Redis. Knows nothing about HTTP."""

import logging
import math
import time

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.storage import storage_from_string

from app.errors import RateLimited

log = logging.getLogger("digits")

_STORAGE_TIMEOUT_S = 0.25
_STORAGE_RETRY_S = 5  # after a failure of Redis, counting in memory


class Quota:
    """``limit``: such as `100/minute`; a window starts with a client's first image.

    ``storage``: the URL of a Redis that several processes share, or empty. While Redis does not answer, each process
    counts for itself.
    """

    def __init__(self, limit: str, storage: str = "") -> None:
        self._text, self._limit = limit, parse(limit)
        self._memory = FixedWindowRateLimiter(MemoryStorage())
        self._shared = _redis_limiter(storage) if storage else None
        self._retry_at = 0.0

    async def take(self, client: str, images: int = 1) -> None:
        """Count ``images`` more. Raises RateLimited, and counts nothing, if fewer are left."""
        if self._shared is not None and time.monotonic() >= self._retry_at:
            try:
                await self._take(self._shared, client, images)
            except self._shared.storage.base_exceptions as error:
                self._retry_at = time.monotonic() + _STORAGE_RETRY_S
                fields = {"error": type(error).__name__, "seconds": _STORAGE_RETRY_S}
                log.warning("quota storage failed: counting in memory", extra={"fields": fields})
            else:
                return
        await self._take(self._memory, client, images)

    async def _take(self, limiter: FixedWindowRateLimiter, client: str, images: int) -> None:
        # `hit` also counts what it rejects, which matters only for several images: a full window stays full
        if images == 1 or await limiter.test(self._limit, client, cost=images):
            if await limiter.hit(self._limit, client, cost=images):
                return
        elif images > self._limit.amount:
            raise RateLimited(f"The quota is {self._text}: send fewer images in a request.", 1)
        reset_time = (await limiter.get_window_stats(self._limit, client)).reset_time
        retry_after_s = max(1, math.ceil(reset_time - time.time()))
        raise RateLimited(f"The quota is {self._text}: retry in {retry_after_s} s.", retry_after_s)


def _redis_limiter(url: str) -> FixedWindowRateLimiter:
    storage = storage_from_string(
        f"async+{url}",
        implementation="redispy",
        socket_timeout=_STORAGE_TIMEOUT_S,
        socket_connect_timeout=_STORAGE_TIMEOUT_S,
    )
    return FixedWindowRateLimiter(storage)
