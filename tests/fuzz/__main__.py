"""`python -m tests.fuzz TARGET CORPUS [options of libFuzzer]`: mutates inputs until one breaks a promise.

That is an exception other than ours, a crash, more than a minute, or more than 2 GiB. The input is then written to the
working directory. Inputs that reach new code are kept in the directory CORPUS.
"""

import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris

# atheris keeps the result of every array comparison in instrumented code
_ON_PIXELS = ("preprocess", "paper", "strokes", "rules", "lines", "grids", "pieces", "cuts")
_NOT_INSTRUMENTED = [f"app.imaging.{name}" for name in _ON_PIXELS]

with atheris.instrument_imports(include=["app", "PIL", "python_multipart"], exclude=_NOT_INSTRUMENTED):
    from app.api.bodies import image_in
    from app.api.dialects import tensorflow_serving
    from app.api.dialects.tensors import read_request
    from app.api.multipart import parse_multipart
    from app.errors import DigitsError
    from app.imaging.decode import decode
    from app.imaging.formats import inspect
    from app.imaging.lines import find_lines
    from app.imaging.preprocess import ink_from_decoded

from tests.fuzz.seeds import BOUNDARY, FORMS, PICTURES, TENSORS  # noqa: E402 - it imports Pillow, too

_FORM = f"multipart/form-data; boundary={BOUNDARY}"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PIXELS = 20_000  # enough to reach all code, and fast
_MAX_IMAGES = 4


def decoder(data: bytes) -> None:
    """Any bytes give a picture of the size in its header, or one of our errors."""
    try:
        image = inspect(data, max_pixels=_MAX_PIXELS)
        decoded = decode(image)
        if image.kind != "HEIC":  # libheif may crop it
            assert sorted((decoded.width, decoded.height)) == sorted((image.width, image.height))
        assert image.kind == "JPEG" or decoded.grey.shape == (decoded.height, decoded.width)
        find_lines(decoded)
        ink = ink_from_decoded(decoded).ink
    except DigitsError:
        return
    assert ink.shape == (28, 28, 1)
    assert 0 <= ink.min() <= ink.max() <= 1


def forms(data: bytes) -> None:
    """The first byte chooses the content type of the rest."""
    content_type = (_FORM, "application/json", f"multipart/form-data; boundary={data[1:300].decode('latin-1')}")[
        (data[0] if data else 0) % 3
    ]
    try:
        assert image_in(content_type, data[1:])
        assert all(isinstance(part.data, bytes) for part in parse_multipart(_FORM, data[1:]))
    except DigitsError:
        return


def tensors(data: bytes) -> None:
    """The first byte chooses the dialect, and the length of the JSON before binary tensors."""
    how, body = (data[0] if data else 0), data[1:]
    try:
        if how % 2:
            read_request(body, None if how < 128 else str(how * 4), _MAX_IMAGES)
        else:
            tensorflow_serving.read_request(body, _MAX_IMAGES)
    except DigitsError:
        return


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """A mutation by libFuzzer; in a PNG with correct checksums, which hardly any mutation would pass otherwise."""
    changed: bytes = atheris.Mutate(data, max_size)
    return _with_checksums(changed)[:max_size] if seed % 8 and changed.startswith(_SIGNATURE) else changed


def _with_checksums(png: bytes) -> bytes:
    mended, place = bytearray(png), len(_SIGNATURE)
    while place + 12 <= len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4])
        if end + 4 > len(png):
            break
        mended[end : end + 4] = zlib.crc32(png[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(mended)


_TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "decoder": (decoder, PICTURES),
    "forms": (forms, FORMS),
    "tensors": (tensors, TENSORS),
}


def main() -> None:
    target, seeds = _TARGETS[sys.argv.pop(1)]
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [sys.argv[0], "-timeout=60", "-rss_limit_mb=2048", "-max_len=4096", *sys.argv[1:]],
        target,
        custom_mutator=mutated,
    )
    atheris.Fuzz()


main()
