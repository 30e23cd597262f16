"""A running service as a classifier: encoded images -> probabilities over HTTP. Knows no label and no file."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
from numpy.typing import NDArray

from app.preprocessing import Mode
from training.errors import ServiceError
from training.scoring import CLASSES

CONNECTIONS = 8
TIMEOUT_S = 30.0
REFUSED_IMAGE = {413, 415, 422}  # the image's own fault; any other error is not an answer about it


class RemoteService:
    """The service at ``url``. ``client`` is one that speaks to it; by default it is made here."""

    def __init__(self, url: str, client: httpx2.Client | None = None) -> None:
        self._url = url
        self._client = client or httpx2.Client(base_url=url, timeout=TIMEOUT_S)

    def classify(self, images: Iterable[bytes], mode: Mode) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Probabilities (n, 10) and, for the rows that are nan, place -> the code of the refusal.

        Raises ServiceError when the service cannot be reached, or answers neither a prediction nor such a refusal.
        """
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            answers = list(pool.map(lambda data: self._ask(data, mode), images))
        probabilities = np.full((len(answers), CLASSES), np.nan)
        unread = {}
        for place, answer in enumerate(answers):
            if isinstance(answer, str):
                unread[place] = answer
            else:
                probabilities[place] = answer
        return probabilities, unread

    def _ask(self, data: bytes, mode: Mode) -> list[float] | str:
        try:
            response = self._client.post("/predict", files={"file": ("image", data)}, params={"preprocess": mode})
            answer = response.json()
            if response.status_code in REFUSED_IMAGE:
                return str(answer["code"])
            response.raise_for_status()
            return [float(probability) for probability in answer["probabilities"]]
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServiceError(f"{self._url} does not answer: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"{self._url} does not answer as this service does") from error

