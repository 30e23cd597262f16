"""What the tests of the other servers' dialects share: how an error of theirs has to be, and the ink of a seven."""

import base64

import httpx2
import numpy as np

from tests.drawings import digit_drawn, encoded

SEVEN = encoded(digit_drawn(7))
BASE64 = base64.b64encode(SEVEN).decode()
INK = (digit_drawn(7) / np.float32(255)).astype(np.float32)
BROKEN = {"text": b"a text", "cut": SEVEN[:100], "blank": encoded(np.zeros((40, 40), np.uint8))}


def assert_is_error(answer: httpx2.Response, status: int, *words: str) -> None:
    """One key, and nothing of ours in it that helps nobody. ``words``: what it has to say."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert not [word for word in words if word not in answer.json()["error"]], answer.text
    assert not [word for word in ("Traceback", "app/", ".py", "site-packages") if word in answer.text]
