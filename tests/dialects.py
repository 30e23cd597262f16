"""The same picture through each of the three APIs, and how an error of the dialects must look."""

import base64

import httpx2
import numpy as np

from tests.asking import assert_is_problem
from tests.drawings import digit_drawn, encoded

SEVEN = encoded(digit_drawn(7))
BASE64 = base64.b64encode(SEVEN).decode()
INK = (digit_drawn(7) / np.float32(255)).astype(np.float32)
BROKEN = {"text": b"a text", "cut": SEVEN[:100], "blank": encoded(np.zeros((40, 40), np.uint8))}

TENSORFLOW, OPEN_INFERENCE = "/v1/models/digits:predict", "/v2/models/digits/infer"
APIS = {"own": "/predict", "TensorFlow Serving": TENSORFLOW, "Open Inference": OPEN_INFERENCE}


async def post(
    client: httpx2.AsyncClient, path: str, *images: bytes, headers: dict[str, str] | None = None
) -> httpx2.Response:
    """Encoded images, as the API of ``path`` takes them."""
    texts = [base64.b64encode(image).decode() for image in images]
    if path == TENSORFLOW:
        return await client.post(path, json={"instances": [{"b64": text} for text in texts]}, headers=headers)
    if path == OPEN_INFERENCE:
        tensor = {"name": "images", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        return await client.post(path, json={"inputs": [tensor]}, headers=headers)
    return await client.post(path, content=images[0], headers=headers)


def assert_is_refusal(answer: httpx2.Response, path: str, status: int, code: str, words: str = "") -> None:
    """In the form of the API: a problem document, or `{"error": …}`."""
    if path.startswith("/v"):
        assert_is_error(answer, {415: 400, 422: 400}.get(status, status), words)
    else:
        assert_is_problem(answer, status, code)
        assert words in answer.json()["detail"]


def assert_is_error(answer: httpx2.Response, status: int, *words: str) -> None:
    """One key, and nothing internal. ``words`` must be in the message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert not [word for word in words if word not in answer.json()["error"]], answer.text
    assert not [word for word in ("Traceback", "app/", ".py", "site-packages") if word in answer.text]
