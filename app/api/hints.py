"""What a body that is no image seems to be, and how to send it instead."""

import re

from app.errors import DigitsError, UndecodableImage, UnsupportedMediaType

_START_BYTES = 300  # that are looked at
_BEFORE = rb"\s*(?:\xef\xbb\xbf)?(?:[\w.\[\]-]+=)?['\"]?"  # the BOM of JSON, the name of a form's field, a quote
_HINTS = {
    rb"\{": "This looks like JSON: send it with Content-Type: application/json.",
    rb"data(?::|%3a)": 'This looks like a data: URL: send it as JSON, {"image": "data:..."}.',
    rb"https?(?::|%3a)": "This looks like a URL, and the service does not fetch URLs: send the image itself.",
    rb"[^\0-\x1f]+\.\w{2,5}['\"]?\s*\Z": "This looks like the name of a file, not its content: curl needs an @ before "
    "the name, as in -F file=@seven.png or --data-binary @seven.png.",
    rb"[\w+/%-]{40}": 'This looks like base64: send it as JSON, {"image": "..."}, or send the bytes themselves.',
}


def hinted(error: DigitsError, content_type: str, data: bytes) -> DigitsError:
    """The error of ``data`` that cannot be read with what to send instead, where that can be guessed."""
    if not isinstance(error, UnsupportedMediaType | UndecodableImage):
        return error
    return type(error)(_hint(content_type.lower(), data) or str(error))


def _hint(content_type: str, data: bytes) -> str | None:
    for looks, hint in _HINTS.items():
        if re.match(_BEFORE + looks, data[:_START_BYTES], re.IGNORECASE):
            return hint
    form = content_type.startswith("application/x-www-form-urlencoded")  # as curl says it
    if form and not data.isascii() and b"\n" not in data and b"\r" not in data:
        return "This may have lost its line breaks, which curl -d drops: send the file with --data-binary."
    return None
