"""Ray Serve, one replica. Multipart and raw bodies to `/predict`. `python -m benchmarks.peers.ray_server PORT`.

The method is asynchronous: with `RAY_SERVE_THROUGHPUT_OPTIMIZED=1` it runs on the event loop that takes the request.
"""

# mypy: disable-error-code="import-not-found, misc, untyped-decorator, attr-defined"

import logging
import sys
import threading
from typing import Any

import ray
from ray import serve
from starlette.datastructures import UploadFile
from starlette.requests import Request

from benchmarks.peers.reader import Reader


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Digit:
    def __init__(self) -> None:
        self._reader = Reader()

    async def __call__(self, request: Request) -> dict[str, Any]:
        if request.headers["content-type"].startswith("multipart/"):
            file = (await request.form())["file"]
            assert isinstance(file, UploadFile)
            image = await file.read()
        else:
            image = await request.body()
        return self._reader.read([Reader.ink(image)])[0]


if __name__ == "__main__":
    ray.init(include_dashboard=False, logging_level=logging.ERROR)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Digit.bind(), route_prefix="/predict")
    threading.Event().wait()
