"""BentoML, one worker. Multipart to `/predict`, raw bodies to `/predict_raw`.

`bentoml serve benchmarks.peers.bentoml_server:DigitService`. The methods are asynchronous because threads were slower
and LiteRT's interpreter is not thread-safe.
"""

# mypy: disable-error-code="import-not-found, misc, untyped-decorator"

from pathlib import Path
from typing import Any

import bentoml

from benchmarks.peers.reader import Reader


@bentoml.service(workers=1)
class DigitService:
    def __init__(self) -> None:
        self._reader = Reader()

    @bentoml.api
    async def predict(self, file: Path) -> dict[str, Any]:
        return self._reader.read([Reader.ink(file.read_bytes())])[0]  # noqa: ASYNC240 - a file of 300 bytes

    @bentoml.api
    async def predict_raw(self, image: bytes, /) -> dict[str, Any]:
        return self._reader.read([Reader.ink(image)])[0]
