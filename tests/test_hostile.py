"""Files that mean harm, through every door of a running service while others use it; the folder of `tests.storm`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from app.errors import TooLarge, UndecodableImage, UnsupportedMediaType
from app.imaging.decode import decode, inspect
from tests.fuzz.seeds import PICTURES
from tests.hostile import bombs, broken, odd
from tests.server import ROOT
from tests.storm import DOORS, Storm, storm, unlike

BYTES_A_PIXEL = (
    17  # 16 for the most there can be, 16 bits and four channels: as decoded, and once more while it is read
)

# Decodes a file, prints the bytes a pixel by which the process was larger meanwhile than after another, small one.
_MEASURING = """
import sys
from pathlib import Path
from app.imaging.decode import decode, inspect
from tests.drawings import encoded
import numpy as np

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

path = Path(sys.argv[1])
decode(inspect(encoded(np.zeros((28, 28), np.uint8), path.suffix[1:])))
before = peak()
image = decode(inspect(path.read_bytes()))
print((peak() - before) * 1024 / (image.width * image.height))
"""


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


@pytest.mark.skipif(sys.platform != "linux", reason="the system says how large a process is in another way")
@pytest.mark.parametrize(
    ("channels", "dtype", "kind"), [(4, np.uint16, "PNG"), (4, np.uint16, "TIFF"), (1, np.int32, "TIFF")]
)
def test_the_largest_pictures_take_a_few_bytes_a_pixel(
    channels: int, dtype: DTypeLike, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / f"large.{kind}"
    path.write_bytes(cv2.imencode(f".{kind}", np.full((2000, 2000, channels), 40_000, dtype))[1].tobytes())

    ran = subprocess.run([sys.executable, "-c", _MEASURING, path], check=True, capture_output=True, text=True, cwd=ROOT)

    assert 2 < float(ran.stdout) < BYTES_A_PIXEL


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
