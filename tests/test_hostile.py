"""Hostile files sent to every endpoint of a running service that also answers ordinary requests."""

from collections.abc import Callable

import pytest

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
