"""A running service as a predictor: encoded images -> answers over HTTP. Knows nothing about labels or files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2
import numpy as np

from app.imaging.preprocess import Mode
from app.model.decision import DIGITS
from training.errors import ServiceError
from training.evaluation.scoring import Answers

CONNECTIONS = 8
TIMEOUT_S = 30.0
UNREADABLE_IMAGE = {413, 415, 422}  # other errors do not concern the image


class RemoteService:
    """The service at ``url``. ``client``: an HTTP client for it, created by default."""

    def __init__(self, url: str, client: httpx2.Client | None = None) -> None:
        self._url = url
        self._client = client or httpx2.Client(base_url=url, timeout=TIMEOUT_S)

    def read(self, pictures: Sequence[bytes | str], mode: Mode) -> Answers:
        """The service's answers. See `training.evaluation.scoring.Predictor`.

        Raises ServiceError if the service is unreachable or its response is neither a prediction nor an image error.
        """
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            answers = list(pool.map(lambda data: data if isinstance(data, str) else self._ask(data, mode), pictures))
        probabilities = np.full((len(answers), DIGITS), np.nan)
        rejections: list[str | None] = []
        unread = {}
        for place, answer in enumerate(answers):
            if isinstance(answer, str):
                unread[place] = answer
                rejections.append(answer)
            else:
                probabilities[place] = answer.probabilities
                rejections.append(answer.rejection)
        return Answers(probabilities, None, rejections, unread)  # responses do not contain outlier scores

    def _ask(self, data: bytes, mode: Mode) -> "_Answer | str":
        try:
            response = self._client.post("/predict", files={"file": ("image", data)}, params={"preprocess": mode})
            answer = response.json()
            if response.status_code in UNREADABLE_IMAGE:
                return str(answer["code"])
            response.raise_for_status()
            rejection = None if answer["accepted"] else str(answer["rejection"]["reason"])
            return _Answer([float(probability) for probability in answer["probabilities"]], rejection)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServiceError(f"{self._url} does not answer: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"{self._url} does not respond like this service") from error


@dataclass(frozen=True)
class _Answer:
    probabilities: list[float]
    rejection: str | None
