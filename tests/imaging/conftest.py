"""Codecs as the service sets them."""

import pytest

from app.imaging.codecs import configure_codecs
from app.imaging.formats import MAX_PIXELS


@pytest.fixture(scope="session", autouse=True)
def codecs() -> None:
    configure_codecs(MAX_PIXELS)
