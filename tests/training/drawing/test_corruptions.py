import numpy as np
import pytest

from training.data.mnist import Mnist
from training.drawing.corruptions import CORRUPTIONS

PUBLISHED = {
    "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate", "brightness", "translate",
    "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
}  # fmt: skip
DETERMINISTIC = {"scale", "brightness", "stripe", "canny_edges"}


def test_there_are_the_fifteen_published_corruptions() -> None:
    assert set(CORRUPTIONS) == PUBLISHED


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_corruption_changes_every_image_and_depends_on_the_seed_only(name: str, mnist: Mnist) -> None:
    corrupt, images = CORRUPTIONS[name], mnist.x_test[:8]
    before = images.copy()
    corrupted = corrupt(images, 1)
    assert (corrupted.shape, corrupted.dtype) == (images.shape, np.dtype(np.uint8))
    assert all((one != other).any() for one, other in zip(corrupted, images, strict=True))
    assert np.array_equal(corrupted, corrupt(images, 1))
    assert np.array_equal(corrupted, corrupt(images, 2)) == (name in DETERMINISTIC)
    assert np.array_equal(images, before)


def test_stripes_invert_the_outer_quarters(mnist: Mnist) -> None:
    image = mnist.x_test[:1]
    striped = CORRUPTIONS["stripe"](image, 0)
    assert np.array_equal(striped[..., :7], 255 - image[..., :7])
    assert np.array_equal(striped[..., 7:21], image[..., 7:21])
    assert np.array_equal(striped[..., 21:], 255 - image[..., 21:])


def test_scaling_shrinks_about_the_centre_and_translation_moves_by_three_pixels() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[0, 4:24, 4:24] = 255
    rows = np.flatnonzero(CORRUPTIONS["scale"](square, 0)[0, :, 14] > 127)
    assert (rows[0], rows[-1]) == (7, 20)
    dot = np.zeros((20, 28, 28), np.uint8)
    dot[:, 14, 14] = 255
    places = {tuple(place) for place in np.argwhere(CORRUPTIONS["translate"](dot, 0))[:, 1:].tolist()}
    assert places == {(11, 11), (11, 17), (17, 11), (17, 17)}


def test_brightness_a_dotted_line_and_edges_have_their_levels(mnist: Mnist) -> None:
    assert (CORRUPTIONS["brightness"](mnist.x_test[:4], 0)[:, 0, 0] == 128).all()
    drawn = CORRUPTIONS["dotted_line"](np.zeros((5, 28, 28), np.uint8), 0).max(axis=(0, 1)) > 0
    assert not drawn[np.arange(28) // 2 % 2 == 0].any()
    assert drawn[2:4].all()
    assert set(np.unique(CORRUPTIONS["canny_edges"](mnist.x_test[:4], 0))) == {0, 255}
