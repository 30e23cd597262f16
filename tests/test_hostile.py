"""Files that mean harm, through every door of a running service while others use it; the folder of `tests.storm`."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.decoding import decode, inspect
from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType
from tests.fuzz.seeds import PICTURES
from tests.hostile import bombs, broken, odd
from tests.storm import DOORS, Storm, storm, unlike


@pytest.fixture(scope="module")
def stormed() -> Storm:
    return storm(bombs() | broken() | odd(), engine="litert")


def test_no_promise_is_broken(stormed: Storm) -> None:
    """No crash, no internal error, nothing of ours or theirs in an answer, no usual request refused."""
    assert stormed.broken == []


@pytest.mark.parametrize(("files", "status"), [(bombs, 413), (broken, 422), (odd, 200)], ids=["bombs", "broken", "odd"])
def test_each_is_answered_as_what_it_is(stormed: Storm, files: Callable[[], dict[str, bytes]], status: int) -> None:
    answered = {name: stormed.statuses[name]["multipart"] for name in files()}

    assert answered == dict.fromkeys(files(), status)


def test_every_door_says_the_same_of_a_file(stormed: Storm) -> None:
    assert all(set(statuses) == set(DOORS) for statuses in stormed.statuses.values())
    assert unlike(stormed) == []


def test_refusing_them_takes_little_memory(stormed: Storm) -> None:
    """The bombs would take gigabytes; what is left is bodies of some megabytes, and threads at their first work."""
    assert stormed.peak_mib - stormed.rest_mib < 150


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(PICTURES),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=6),
)
def test_a_picture_changed_anywhere_is_read_as_large_as_its_header_says_or_refused(
    picture: bytes, changes: list[tuple[int, bytes, int]]
) -> None:
    for place, put, taken in changes:
        at = place % len(picture) if picture else 0
        picture = picture[:at] + put + picture[at + taken :]
    try:
        image = inspect(picture, max_pixels=100_000)
        decoded = decode(image)
    except (TooLarge, UndecodableImage, UnsupportedMediaType):
        return
    assert sorted((decoded.width, decoded.height)) == sorted((image.width, image.height))
    assert decoded.grey.dtype == np.uint8
    assert decoded.grey.size <= image.width * image.height
