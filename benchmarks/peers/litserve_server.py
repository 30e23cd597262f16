"""LitServe: FastAPI in one process, the model in another. Multipart to `/predict`.

`python -m benchmarks.peers.litserve_server PORT`. Its `fast_queue` and its batches were slower here.
"""

# mypy: disable-error-code="import-not-found, misc"

import sys
from typing import Any

import litserve
from fastapi import Request

from app.imaging.preprocess import Ink
from benchmarks.peers.reader import Reader


class DigitAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._reader = Reader()

    def decode_request(self, request: Request) -> Ink:
        return Reader.ink(request["file"].file.read())  # the parsed form

    def predict(self, ink: Ink) -> dict[str, Any]:
        return self._reader.read([ink])[0]

    def encode_response(self, answer: dict[str, Any]) -> dict[str, Any]:
        return answer


if __name__ == "__main__":
    server = litserve.LitServer(DigitAPI(api_path="/predict"), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
