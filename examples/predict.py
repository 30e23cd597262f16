"""Sends pictures to the service: python examples/predict.py FILE...

Needs only Python. DIGITS_URL is the service's address.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

URL = os.environ.get("DIGITS_URL", "http://localhost:8000").rstrip("/")


def predict(picture: bytes) -> dict[str, Any]:
    """The service's answer to an encoded picture. Raises HTTPError; its body gives the reason."""
    request = Request(f"{URL}/predict", picture, {"Content-Type": "application/octet-stream"})  # noqa: S310
    with urlopen(request, timeout=30) as response:  # noqa: S310 - the address is the caller's own
        answer: dict[str, Any] = json.load(response)
        return answer


for name in sys.argv[1:]:
    try:
        answer = predict(Path(name).read_bytes())
    except HTTPError as error:
        sys.exit(f"{name}: {json.load(error)['detail']}")
    except OSError as error:  # no such file, or nothing that answers
        sys.exit(f"{name}: {error}")
    doubt = "" if answer["accepted"] else f" (not accepted: {answer['rejection']['reason']})"
    print(f"{name}: {answer['digit']}{doubt}")  # noqa: T201
