"""The one path of an answer: image -> ink -> logits -> prediction. Every route only translates to and from this.

Small pictures are decoded on the event loop (30 µs, less than a thread's hand-over), large ones in threads.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app.batching import MicroBatcher
from app.decision import probabilities
from app.decoding import Encoded, decode, inspect
from app.engine import KerasEngine
from app.errors import DeadlineExceeded, NotReady
from app.manifest import Manifest
from app.preprocessing import Mode, Preprocessed, ink_from_decoded
from app.settings import Settings

_INLINE_PIXELS = 64 * 64  # decoded and searched for ink in less than 0.3 ms


@dataclass(frozen=True)
class Stages:
    """Milliseconds that an answer spent in each stage."""

    decode: float
    preprocess: float
    queue: float
    inference: float


@dataclass(frozen=True)
class Result:
    """Calibrated probabilities of the ten digits, float, summing to 1."""

    probabilities: tuple[float, ...]
    stages: Stages


class Service:
    """Answers once an engine is `start`-ed; raises NotReady before and after `close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._decoders = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self._batcher: MicroBatcher | None = None
        self._manifest: Manifest | None = None

    def start(self, engine: KerasEngine) -> None:
        """Take an engine that is warm. Called on the event loop."""
        self._batcher = MicroBatcher(
            engine.logits,
            max_batch=self._settings.max_batch,
            max_wait_ms=self._settings.max_wait_ms,
            max_queue=self._settings.max_queue,
        )
        self._manifest = engine.manifest

    def close(self) -> None:
        """Finish what runs, take nothing more."""
        self._decoders.shutdown()
        if self._batcher is not None:
            self._batcher.close()
            self._batcher = None

    @property
    def manifest(self) -> Manifest:
        """Raises NotReady."""
        if self._manifest is None or self._batcher is None:
            raise NotReady("The model is being loaded: send it again in a second.")
        return self._manifest

    async def predict(self, data: bytes, mode: Mode) -> Result:
        """Read an encoded image. Raises the errors of decoding and preprocessing, Overloaded, DeadlineExceeded."""
        manifest = self.manifest
        image = inspect(data, max_pixels=self._settings.max_pixels)
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                if image.width * image.height <= _INLINE_PIXELS:
                    found, decode_ms, preprocess_ms = _find(image, mode)
                else:
                    loop = asyncio.get_running_loop()
                    found, decode_ms, preprocess_ms = await loop.run_in_executor(self._decoders, _find, image, mode)
                if self._batcher is None:
                    raise NotReady("The service is stopping: send it again in a second.")
                answer = await self._batcher.submit(found.ink)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"No answer within {self._settings.request_timeout_ms} ms: send it again later, or a smaller image."
            ) from error
        row = probabilities(answer.row[None], manifest.temperature)[0]
        return Result(
            tuple(row.round(8).tolist()),  # eight places: the sum stays within 1e-7 of 1
            Stages(decode_ms, preprocess_ms, answer.queue_ms, answer.inference_ms),
        )


def _find(image: Encoded, mode: Mode) -> tuple[Preprocessed, float, float]:
    """What the model shall see, and the milliseconds of decoding and of finding it."""
    started = time.perf_counter()
    decoded = decode(image)
    between = time.perf_counter()
    found = ink_from_decoded(decoded, mode)
    return found, (between - started) * 1000, (time.perf_counter() - between) * 1000
