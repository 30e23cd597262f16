"""Hostile files sent to every endpoint of a running service that also answers ordinary requests."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType
from app.imaging.decode import decode
from app.imaging.formats import inspect
from tests.fuzz.seeds import PICTURES
from tests.hostile import bombs, broken, odd
from tests.storm import Storm, storm


@pytest.fixture(scope="module")
def stormed() -> Storm:
    return storm(bombs() | broken() | odd(), engine="litert")


def test_no_promise_is_broken(stormed: Storm) -> None:
    """No crash, no 500, no internals in an answer, no ordinary request refused, the same status from every endpoint."""
    assert stormed.broken == []


@pytest.mark.parametrize(("files", "status"), [(bombs, 413), (broken, 422), (odd, 200)], ids=["bombs", "broken", "odd"])
def test_every_file_gets_the_status_of_its_kind(
    stormed: Storm, files: Callable[[], dict[str, bytes]], status: int
) -> None:
    statuses = {name: stormed.statuses[name]["multipart"] for name in files()}

    assert statuses == dict.fromkeys(files(), status)


def test_refusing_bombs_takes_little_memory(stormed: Storm) -> None:
    """Decoding them would take gigabytes. What is left is bodies of some megabytes, and the first use of threads."""
    assert stormed.peak_mib - stormed.rest_mib < 150


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(PICTURES),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=6),
)
def test_a_picture_with_bytes_changed_is_decoded_at_the_size_of_its_header_or_refused(
    picture: bytes, changes: list[tuple[int, bytes, int]]
) -> None:
    for place, added, removed in changes:
        at = place % len(picture) if picture else 0
        picture = picture[:at] + added + picture[at + removed :]
    try:
        image = inspect(picture, max_pixels=100_000)
        decoded = decode(image)
    except (TooLarge, UndecodableImage, UnsupportedMediaType):
        return
    assert sorted((decoded.width, decoded.height)) == sorted((image.width, image.height))
    assert decoded.grey.dtype == np.uint8
    assert decoded.grey.size <= image.width * image.height
