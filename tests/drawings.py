"""Pictures of digits from the MNIST test images in `tests/data`: enlarged, moved, coloured, encoded.

A grey picture is made by plain arithmetic, the same on every machine.
"""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]

MNIST = Path(__file__).parent / "data" / "mnist-small.npz"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "HEIC", "AVIF")
EXACT: dict[str, dict[str, Any]] = {
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 95},
    "HEIC": {"quality": -1, "chroma": 444},
    "AVIF": {"quality": 100, "subsampling": "4:4:4", "speed": 10},
}

_ORIENTATION = 0x0112
_STORED_AS = {  # EXIF orientation -> how an upright picture is turned before it is stored with it
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@cache
def mnist_test() -> tuple[Grey, NDArray[np.int64]]:
    """Grey images (200, 28, 28), light ink on dark, and their labels; twenty of each digit."""
    with np.load(MNIST) as arrays:
        return arrays["x_test"], arrays["y_test"].astype(np.int64)


def digit_drawn(digit: int, number: int = 0) -> Grey:
    """The ``number``-th of our images of ``digit``: (28, 28), light ink on dark."""
    images, labels = mnist_test()
    image: Grey = images[np.flatnonzero(labels == digit)[number]]
    return image


def enlarged(grey: Grey, side_px: int = 280) -> Grey:
    """Bilinear, to a square of ``side_px``."""
    places = (np.arange(side_px) + 0.5) * len(grey) / side_px - 0.5
    known = np.arange(len(grey))
    rows = np.stack([np.interp(places, known, row) for row in grey.astype(np.float64)])
    both = np.stack([np.interp(places, known, column) for column in rows.T]).T
    large: Grey = np.rint(both).astype(np.uint8)
    return large


def placed(grey: Grey, shape: tuple[int, int], top: int, left: int) -> Grey:
    """On a dark sheet of ``shape``."""
    sheet = np.zeros(shape, np.uint8)
    sheet[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    return sheet


def coloured(grey: Grey, pen: tuple[int, int, int], paper: tuple[int, int, int]) -> Image.Image:
    """RGB: ``pen`` where ``grey`` is light, ``paper`` where it is dark."""
    share = grey[:, :, None] / 255
    return Image.fromarray(np.rint(np.array(pen) * share + np.array(paper) * (1 - share)).astype(np.uint8))


def transparent(grey: Grey, pen: tuple[int, int, int]) -> Image.Image:
    """RGBA: ink of colour ``pen``, as opaque as ``grey`` is light, on nothing."""
    image = Image.new("RGBA", grey.shape[::-1], pen)
    image.putalpha(Image.fromarray(grey))
    return image


def encoded(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    """The bytes of a file of ``kind``."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = BytesIO()
    if kind == "HEIC":
        heif = pillow_heif.from_pillow(picture)
        for later in options.pop("append_images", []):
            heif.add_from_pillow(later)
        heif.save(file, primary_index=0, **options)
    else:
        picture.save(file, kind, **options)
    return file.getvalue()


def as_stored(grey: Grey, orientation: int) -> Image.Image:
    """Turned so that EXIF ``orientation`` turns it back."""
    how = _STORED_AS[orientation]
    image = Image.fromarray(grey)
    return image if how is None else image.transpose(how)


def turned(grey: Grey, orientation: int, kind: str) -> bytes:
    """A file whose pixels are turned and whose EXIF ``orientation`` says how to turn them back."""
    stored = as_stored(grey, orientation)
    if kind == "TIFF":
        return encoded(stored, kind, tiffinfo={_ORIENTATION: orientation})
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return encoded(stored, kind, exif=exif.tobytes(), **EXACT.get(kind, {}))


def difference(one: Ink, other: Ink) -> float:
    """Share of the ink that the two do not have in common, from 0 to 1.

    A shift by one pixel is ignored: a centre of mass between two pixels can be rounded either way.
    """
    shifts = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    moved = [np.roll(other, shift, axis=(0, 1)) for shift in shifts]
    return min(float(np.abs(one - each).sum() / np.maximum(one, each).sum()) for each in moved)
