"""mosec: a Rust server in front of two Python workers, with batching. Raw bodies to `/inference`.

`python -m benchmarks.peers.mosec_server --address 127.0.0.1 --port PORT`
"""

# mypy: disable-error-code="import-not-found, misc"

from typing import Any

from mosec import Server, Worker

from app.imaging.preprocess import Ink
from benchmarks.peers.reader import Reader

WORKERS = 2
BATCH = 8  # without batches it answered half as many requests
WAIT_MS = 1  # the minimum


class DigitWorker(Worker):
    def __init__(self) -> None:
        self._reader = Reader()

    def deserialize(self, data: bytearray) -> Ink:
        return Reader.ink(bytes(data))

    def forward(self, data: list[Ink]) -> list[dict[str, Any]]:
        return self._reader.read(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(DigitWorker, num=WORKERS, max_batch_size=BATCH, max_wait_time=WAIT_MS)
    server.run()
