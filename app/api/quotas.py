"""How much a client may ask for: fixed windows, in memory or in Redis. Knows nothing of HTTP or of who a client is."""

import logging
import math
import time
from collections import OrderedDict

from limits import parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.storage import storage_from_string

from app.errors import RateLimited

log = logging.getLogger("digits")

_MAX_CLIENTS = 100_000  # in memory: 24 MiB
_STORAGE_ANSWERS_S = 0.25
_ALONE_S = 5  # between a failure of the storage and the next question to it


class Quota:
    """``limit``: such as `100/minute`, a window that starts with a client's first image.

    ``storage``: the URL of a Redis that processes share, or nothing. While it does not answer, each process counts for
    itself.
    """

    def __init__(self, limit: str, storage: str = "") -> None:
        self._text, self._limit = limit, parse(limit)
        self._memory = FixedWindowRateLimiter(_Memory())
        self._shared = _in_redis(storage) if storage else None
        self._alone_until = 0.0

    async def take(self, client: str, images: int = 1) -> None:
        """Count ``images`` more. Raises RateLimited, and counts none, where so many are not left."""
        if self._shared is not None and time.monotonic() >= self._alone_until:
            try:
                await self._take(self._shared, client, images)
            except self._shared.storage.base_exceptions as error:
                self._alone_until = time.monotonic() + _ALONE_S
                fields = {"error": type(error).__name__, "seconds": _ALONE_S}
                log.warning("the quotas' storage fails: counted in memory", extra={"fields": fields})
            else:
                return
        await self._take(self._memory, client, images)

    async def _take(self, limiter: FixedWindowRateLimiter, client: str, images: int) -> None:
        # `hit` counts what it refuses: of one image that is nothing, since a full window stays full
        if images == 1 or await limiter.test(self._limit, client, cost=images):
            if await limiter.hit(self._limit, client, cost=images):
                return
        elif images > self._limit.amount:
            raise RateLimited(f"The quota is {self._text}: send fewer images in a request.", 1)
        ends = (await limiter.get_window_stats(self._limit, client)).reset_time
        retry_after_s = max(1, math.ceil(ends - time.time()))
        raise RateLimited(f"The quota is {self._text}: send it again in {retry_after_s} s.", retry_after_s)


def _in_redis(url: str) -> FixedWindowRateLimiter:
    storage = storage_from_string(
        f"async+{url}",
        implementation="redispy",
        socket_timeout=_STORAGE_ANSWERS_S,
        socket_connect_timeout=_STORAGE_ANSWERS_S,
    )
    return FixedWindowRateLimiter(storage)


class _Memory(Storage):
    """The windows of clients, the oldest first; where there are too many, the oldest are forgotten.

    The library's own looks at every client on each hit (50,000 clients: 4.9 ms), and keeps them all.
    """

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, and when it ends, in Unix seconds

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.time()
        count, ends = self._windows.get(key, (0, 0.0))
        if ends <= now:
            self._windows.pop(key, None)
            while self._windows and (len(self._windows) >= _MAX_CLIENTS or self._oldest_ends() <= now):
                self._windows.popitem(last=False)
            count, ends = 0, now + expiry
        self._windows[key] = (count + amount, ends)
        return count + amount

    def _oldest_ends(self) -> float:
        return next(iter(self._windows.values()))[1]

    async def get(self, key: str) -> int:
        count, ends = self._windows.get(key, (0, 0.0))
        return count if ends > time.time() else 0

    async def get_expiry(self, key: str) -> float:
        return self._windows.get(key, (0, time.time()))[1]

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        self._windows.clear()
        return None

    async def clear(self, key: str) -> None:
        self._windows.pop(key, None)
