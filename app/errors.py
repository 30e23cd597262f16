"""Every error that a client or an operator can see: one tree, with status and code on the class.

The message tells the reader what to do. It holds no file path, no traceback and nothing that a client sent, except
the name or address of an unknown model in a dialect, as its own servers do.
"""

import math
from collections.abc import Mapping

_MAX_RETRY_S = 60


class DigitsError(Exception):
    """An error that becomes an HTTP answer: see `app.api.problems`."""

    status = 500
    code = "internal_error"
    title = "Internal error"
    headers: Mapping[str, str] = {}  # of the HTTP answer


class BadRequest(DigitsError):
    status, code, title = 400, "bad_request", "Bad request"


class BodyTooSlow(BadRequest):
    headers: Mapping[str, str] = {"Connection": "close"}  # otherwise the server waits for the rest of the body


class Unauthorized(DigitsError):
    status, code, title = 401, "unauthorized", "Unauthorized"
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer realm="digits"'}


class NotFound(DigitsError):
    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(DigitsError):
    status, code, title = 405, "method_not_allowed", "Method not allowed"


class TooLarge(DigitsError):
    status, code, title = 413, "too_large", "Too large"


class UnsupportedMediaType(DigitsError):
    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UndecodableImage(DigitsError):
    status, code, title = 422, "undecodable_image", "Undecodable image"


class NoInk(DigitsError):
    status, code, title = 422, "no_ink", "No ink"


class InvalidParameter(DigitsError):
    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class RateLimited(DigitsError):
    status, code, title = 429, "rate_limited", "Rate limited"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(retry_after_s)}


class NotReady(DigitsError):
    status, code, title = 503, "not_ready", "Not ready"
    headers: Mapping[str, str] = {"Retry-After": "1"}


class Overloaded(DigitsError):
    status, code, title = 503, "overloaded", "Overloaded"

    def __init__(self, wait_s: float = 1) -> None:
        super().__init__("Too many requests are waiting: retry later.")
        self.headers = {"Retry-After": str(min(max(1, math.ceil(wait_s)), _MAX_RETRY_S))}


class DeadlineExceeded(DigitsError):
    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class ModelError(Exception):
    """The model directory is missing, damaged or incompatible: the service prints this line and does not start."""


class ScanError(Exception):
    """A scan cannot go on: `digits scan` prints this line and ends."""
