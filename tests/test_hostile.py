"""Files that mean harm, through every door of a running service while others use it; the folder of `tests.storm`."""

from collections.abc import Callable

import pytest

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
