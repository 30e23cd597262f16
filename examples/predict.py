"""Sends pictures to the service: python examples/predict.py [--numbers] FILE...

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


def ask(path: str, picture: bytes) -> dict[str, Any]:
    """The service's answer to an encoded picture. Raises HTTPError; its body gives the reason."""
    request = Request(f"{URL}/{path}", picture, {"Content-Type": "application/octet-stream"})  # noqa: S310
    with urlopen(request, timeout=30) as response:  # noqa: S310 - the address is the caller's own
        answer: dict[str, Any] = json.load(response)
        return answer


def shown(read: str, answer: dict[str, Any]) -> str:
    """What was read, and why it is not accepted if so."""
    return read if answer["accepted"] else f"{read} (not accepted: {answer['rejection']['reason']})"


in_numbers = sys.argv[1:2] == ["--numbers"]
for name in sys.argv[2 if in_numbers else 1 :]:
    try:
        answer = ask("read" if in_numbers else "predict", Path(name).read_bytes())
    except HTTPError as error:
        sys.exit(f"{name}: {json.load(error)['detail']}")
    except OSError as error:  # no such file, or nothing that answers
        sys.exit(f"{name}: {error}")
    if in_numbers:
        line = ", ".join(shown(number["text"], number) for number in answer["numbers"]) or "no number"
    else:
        line = shown(str(answer["digit"]), answer)
    print(f"{name}: {line}")  # noqa: T201
