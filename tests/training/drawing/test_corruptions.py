import numpy as np
import pytest

from training.data import Mnist
from training.drawing.corruptions import CORRUPTIONS

PUBLISHED = {
    "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate", "brightness", "translate",
    "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
}  # fmt: skip
BLIND = {"scale", "brightness", "stripe", "canny_edges"}  # these draw no random number


def test_there_are_the_fifteen_that_were_published() -> None:
    assert set(CORRUPTIONS) == PUBLISHED


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_keeps_the_form_and_changes_every_image(name: str, mnist: Mnist) -> None:
    images = mnist.x_test[:4]
    before = images.copy()
    corrupted = CORRUPTIONS[name](images, 0)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.uint8
    assert all((one != other).any() for one, other in zip(corrupted, images, strict=True))
    assert np.array_equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_images_and_another_gives_others(name: str, mnist: Mnist) -> None:
    corrupt, images = CORRUPTIONS[name], mnist.x_test[:8]
    assert np.array_equal(corrupt(images, 1), corrupt(images, 1))
    assert np.array_equal(corrupt(images, 1), corrupt(images, 2)) == (name in BLIND)


@pytest.mark.parametrize(("name", "low", "high"), [("brightness", 128, 128), ("translate", 0, 0), ("scale", 0, 0)])
def test_paper_becomes_what_the_corruption_says(name: str, low: int, high: int, mnist: Mnist) -> None:
    corners = CORRUPTIONS[name](mnist.x_test[:4], 0)[:, 0, 0]
    assert (corners >= low).all()
    assert (corners <= high).all()


def test_stripes_turn_over_the_outer_quarters_alone(mnist: Mnist) -> None:
    image = mnist.x_test[:1]
    striped = CORRUPTIONS["stripe"](image, 0)
    assert np.array_equal(striped[..., :7], 255 - image[..., :7])
    assert np.array_equal(striped[..., 7:21], image[..., 7:21])
    assert np.array_equal(striped[..., 21:], 255 - image[..., 21:])


def test_scaling_keeps_the_centre_where_it_was_and_makes_the_ink_smaller() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[0, 4:24, 4:24] = 255
    rows = np.flatnonzero(CORRUPTIONS["scale"](square, 0)[0, :, 14] > 127)
    assert (rows[0], rows[-1]) == (7, 20)


def test_translation_is_three_pixels_both_ways() -> None:
    dot = np.zeros((20, 28, 28), np.uint8)
    dot[:, 14, 14] = 255
    places = {tuple(place) for place in np.argwhere(CORRUPTIONS["translate"](dot, 0))[:, 1:].tolist()}
    assert places == {(11, 11), (11, 17), (17, 11), (17, 17)}


def test_a_dotted_line_leaves_every_other_pair_of_columns_alone() -> None:
    lines = CORRUPTIONS["dotted_line"](np.zeros((5, 28, 28), np.uint8), 0)
    drawn = lines.max(axis=(0, 1)) > 0
    assert not drawn[np.arange(28) // 2 % 2 == 0].any()
    assert drawn[2:4].all()


def test_edges_are_black_and_white(mnist: Mnist) -> None:
    assert set(np.unique(CORRUPTIONS["canny_edges"](mnist.x_test[:4], 0))) == {0, 255}
