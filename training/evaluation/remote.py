"""A running service as a reader: encoded images -> answers over HTTP. Knows no label and no file."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2
import numpy as np

from app.imaging.preprocess import Mode
from training.errors import ServiceError
from training.evaluation.answers import Answers
from training.evaluation.scoring import CLASSES

CONNECTIONS = 8
TIMEOUT_S = 30.0
REFUSED_IMAGE = {413, 415, 422}  # the image's own fault; any other error is not an answer about it


class RemoteService:
    """The service at ``url``. ``client`` is one that speaks to it; by default it is made here."""

    def __init__(self, url: str, client: httpx2.Client | None = None) -> None:
        self._url = url
        self._client = client or httpx2.Client(base_url=url, timeout=TIMEOUT_S)

    def read(self, pictures: Sequence[bytes | str], mode: Mode) -> Answers:
        """The service's answers to encoded pictures. See `training.evaluation.answers.Reader`.

        Raises ServiceError when the service cannot be reached, or answers neither a prediction nor such a refusal.
        """
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            told = list(pool.map(lambda data: data if isinstance(data, str) else self._ask(data, mode), pictures))
        probabilities = np.full((len(told), CLASSES), np.nan)
        rejections: list[str | None] = []
        unread = {}
        for place, answer in enumerate(told):
            if isinstance(answer, str):
                unread[place] = answer
                rejections.append(answer)
            else:
                probabilities[place] = answer.probabilities
                rejections.append(answer.rejection)
        return Answers(probabilities, None, rejections, unread)  # the score of what is accepted is not in the answer

    def _ask(self, data: bytes, mode: Mode) -> "_Answer | str":
        try:
            response = self._client.post("/predict", files={"file": ("image", data)}, params={"preprocess": mode})
            answer = response.json()
            if response.status_code in REFUSED_IMAGE:
                return str(answer["code"])
            response.raise_for_status()
            rejection = None if answer["accepted"] else str(answer["rejection"]["reason"])
            return _Answer([float(probability) for probability in answer["probabilities"]], rejection)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServiceError(f"{self._url} does not answer: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"{self._url} does not answer as this service does") from error


@dataclass(frozen=True)
class _Answer:
    probabilities: list[float]
    rejection: str | None
