"""Finding the digit on framed, ruled, shaded, dirty, pale and crowded sheets."""

import itertools
import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import NoInk
from app.imaging.pixels import as_uint8
from app.imaging.preprocess import Preprocessed, find_ink, preprocess
from app.imaging.strokes import find_strokes
from tests.drawings import Grey, difference, digit_drawn, encoded, enlarged, mnist_test, placed
from tests.pictures import (
    PAPER,
    box_of,
    cut_out,
    dashed,
    dithered,
    dotted,
    framed,
    grainy,
    lit,
    on_nothing,
    on_paper,
    ruled,
    screened,
    shadowed,
    side_by_side,
    sloping_light,
    speckled,
    traced,
    vignetted,
    worn,
)

ALIKE = 0.4  # share of the ink that may differ: edges of strokes after scaling
NEAR_PX = 10  # that a box may be off: faint ends of strokes
BOTH = ["dark on light", "light on dark"]

Picture = Callable[[Grey], Grey]
Reals = NDArray[np.float64]


def drawing(digit: int, number: int = 0) -> Grey:
    return placed(enlarged(digit_drawn(digit, number), 160), (260, 220), 50, 30)


def small(digit: int) -> Grey:
    """A digit whose box is a twentieth of the sheet, off its middle."""
    return placed(enlarged(digit_drawn(digit), 100), (320, 320), 170, 120)


def on(picture: Grey, polarity: str) -> Grey:
    return picture if polarity == "dark on light" else 255 - picture


def assert_found(found: Preprocessed, drawn: Grey, polarity: str, *, alike: float = ALIKE) -> None:
    """The ink, the box and the polarity are those of the drawing."""
    assert found.inverted == (polarity == "dark on light")
    assert np.abs(np.subtract(found.ink_box, box_of(drawn))).max() <= NEAR_PX
    assert difference(found.ink, find_ink(drawn).ink) < alike


SHEETS: dict[str, Picture] = {
    "plain paper": on_paper,
    "a black line along the edge": lambda drawn: framed(drawn, 0, 1),
    "a thick black frame": lambda drawn: framed(drawn, 0, 4),
    "a black margin": lambda drawn: framed(drawn, 0, 12),
    "a white margin": lambda drawn: framed(drawn, 0, 6, level=255),
    "a box around the digit": lambda drawn: framed(drawn, 10, 2),
    "a thick box around the digit": lambda drawn: framed(drawn, 10, 5),
    "a box near the digit": lambda drawn: framed(drawn, 20, 3),
    "a soft shadow": lambda drawn: shadowed(drawn, 0.5, 40),
    "a hard shadow": lambda drawn: shadowed(drawn, 0.5, 3),
    "a slight shadow": lambda drawn: shadowed(drawn, 0.3),
    "light from one corner": lambda drawn: sloping_light(drawn, 0.6),
    "a vignette": lambda drawn: vignetted(drawn, 0.5),
    "a deep vignette": lambda drawn: vignetted(drawn, 0.8),
    "specks": lambda drawn: speckled(drawn, 20, 3),
    "crumbs": lambda drawn: speckled(drawn, 8, 5),
    "grain": lambda drawn: grainy(on_paper(drawn), 8),
    "a pale pencil": lambda drawn: on_paper(drawn, 220, 190),
    "a pale pencil in a shadow": lambda drawn: shadowed(drawn // 2, 0.3),
}


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize(
    ("sheet", "draw"),
    [
        *((sheet, drawing) for sheet in SHEETS),
        *((sheet, small) for sheet in ("plain paper", "a slight shadow", "a vignette", "a box around the digit")),
    ],
)
def test_the_digit_is_found_on_any_sheet(sheet: str, draw: Callable[[int], Grey], polarity: str) -> None:
    for digit in range(10):
        drawn = draw(digit)
        found = find_ink(on(SHEETS[sheet](drawn), polarity))

        assert_found(found, drawn, polarity)
        assert found.digits == 1


RULED: dict[str, Picture] = {
    "ruled": lambda drawn: ruled(drawn, 40, 2, 150),
    "ruled darkly": lambda drawn: ruled(drawn, 40, 2, 70),
    "ruled, photographed askew": lambda drawn: ruled(drawn, 40, 2, 150, slope=0.02),
    "squared": lambda drawn: ruled(drawn, 36, 2, 150, squared=True),
    "squared, photographed askew": lambda drawn: ruled(drawn, 36, 2, 150, slope=0.015, squared=True),
}


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("paper", RULED)
def test_ruled_lines_are_not_ink(paper: str, polarity: str) -> None:
    """In at least 17 of 20 drawings: a stroke that runs along a line can be mistaken for it."""
    drawn = [drawing(digit, number) for digit in range(10) for number in (0, 1)]
    found = [find_ink(on(RULED[paper](each), polarity)) for each in drawn]

    assert {each.inverted for each in found} == {polarity == "dark on light"}
    alike = [difference(ink.ink, find_ink(each).ink) < ALIKE for ink, each in zip(found, drawn, strict=True)]
    assert alike.count(True) >= 17


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("side", ["top", "bottom", "left", "right", "top and left"])
def test_a_digit_that_touches_the_border_is_whole_and_of_the_right_polarity(side: str, polarity: str) -> None:
    for digit in range(10):
        cut = cut_out(enlarged(digit_drawn(digit), 160))
        room = [(0 if before in side else 50, 0 if after in side else 50) for before, after in _SIDES]
        drawn = np.pad(cut, room)

        assert_found(find_ink(on(on_paper(drawn), polarity)), drawn, polarity)


_SIDES = (("top", "bottom"), ("left", "right"))


def test_a_digit_cut_out_to_its_last_pixel_is_still_ink_on_paper() -> None:
    for digit in range(10):
        cut = cut_out(enlarged(digit_drawn(digit), 160))
        found = find_ink(on_paper(cut))

        assert found.inverted
        assert difference(found.ink, find_ink(np.pad(cut, 50)).ink) < ALIKE


@pytest.mark.parametrize("level", [180, 195])
def test_pale_thin_strokes_on_a_sheet_of_three_megapixels_are_found(level: int) -> None:
    """A pencil line of six pixels, with little more contrast than the camera's noise."""
    for digit in (0, 1, 2, 3, 4, 6, 9):
        line = placed(traced(digit_drawn(digit), 560, 6), (2000, 1500), 600, 400)
        found = find_ink(grainy(on_paper(line, 220, level), 3))

        assert_found(found, line, "dark on light", alike=0.5)
        assert found.ink.max() > 0.9


@pytest.mark.parametrize("pen", [0, 200, 255])
@pytest.mark.parametrize("hidden", [0, 128, 255])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_ink_on_a_transparent_ground_is_found_whatever_the_hidden_colour(pen: int, hidden: int, kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    for digit in (1, 4, 8):
        drawn = drawing(digit)
        found = preprocess(encoded(on_nothing(drawn, pen, hidden), kind, **options))

        assert_found(found, drawn, "light on dark" if pen > 150 else "dark on light")


@pytest.mark.parametrize("level", [20_000, 40_000, 60_000])
def test_a_blank_page_of_16_bits_with_the_noise_of_a_sensor_shows_no_ink(level: int) -> None:
    noise = np.random.default_rng(level).normal(level, 65_536 / 256, (400, 300))

    with pytest.raises(NoInk):
        preprocess(encoded(np.clip(np.rint(noise), 0, 65_535).astype(np.uint16)))


def test_strokes_that_do_not_touch_are_one_digit() -> None:
    """A five whose bar stands apart."""
    five = placed(enlarged(digit_drawn(5, 1), 160), (260, 220), 60, 30)
    x, y, width, _ = box_of(five)
    five[y - 22 : y - 12, x + width // 2 : x + width + 20] = 255

    found = find_ink(on_paper(five))

    assert found.digits == 1
    assert np.abs(np.subtract(found.ink_box, box_of(five))).max() <= NEAR_PX


# Strokes in pieces


PIECES: dict[str, Picture] = {
    "pencil on rough paper, thresholded": lambda drawn: worn(drawn, 0.5, 1.5),
    "spray": lambda drawn: worn(drawn, 0.4),
    "thin spray": lambda drawn: worn(drawn, 0.2),
    "dithered pale ink": lambda drawn: dithered(drawn, 190),
    "dithered paler ink": lambda drawn: dithered(drawn, 215),
    "a printer's screen": lambda drawn: screened(drawn, 8, 0.4),
    "dashes": lambda drawn: dashed(drawn, 24, 10),
    "dots": lambda drawn: dotted(drawn, 9, 18),
}


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("kind", PIECES)
def test_strokes_in_pieces_are_one_digit(kind: str, polarity: str) -> None:
    """At least 9 of 10: the far stroke of a 4 in dots may count as another digit."""
    whole = 0
    for digit in range(10):
        drawn = drawing(digit)
        found = find_ink(on(255 - PIECES[kind](drawn), polarity))
        whole += found.digits == 1 and difference(found.ink, find_ink(drawn).ink) < 0.45

    assert whole >= 9


@pytest.mark.parametrize("kind", PIECES)
def test_two_digits_in_pieces_are_several(kind: str) -> None:
    for digit in range(10):
        pair = side_by_side([digit_drawn(digit), digit_drawn(9 - digit)], 160, 40)

        assert find_ink(255 - PIECES[kind](pair)).digits > 1


def test_pieces_too_far_apart_to_be_one_digit_are_several() -> None:
    column = np.zeros((300, 300), np.uint8)
    for top in (50, 140, 230):
        column[top : top + 20, 140:160] = 255

    assert find_ink(255 - column).digits > 1


@pytest.mark.parametrize(
    "mark", [np.ones((2, 1)), np.ones((1, 1)), np.eye(4)[[0, 1, 1, 0], :2]], ids=["dash", "dot", "arc"]
)
def test_thousands_of_parts_are_not_looked_at_one_by_one(mark: Reals) -> None:
    """Each takes a few calls, so the calls of Python and C functions are counted."""
    cell = np.pad(mark, [(0, 1), (0, 1)])
    marks = np.tile(cell, (390 // cell.shape[0], 390 // cell.shape[1]))
    picture = np.where(np.pad(marks, 5) > 0, 0, 255).astype(np.uint8)
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls) and None)
    try:
        find_strokes(picture)
    finally:
        sys.setprofile(None)

    assert next(calls) < 50_000


# Sheets that do not reach the edges: 150 of 400 pixels wide.
_Y, _X = np.mgrid[:400, :400]
GROUNDS: dict[str, Grey] = {
    "white": np.full((400, 400), 255, np.uint8),
    "grey": np.full((400, 400), 140, np.uint8),
    "black": np.full((400, 400), 0, np.uint8),
    "wood": (90 + 40 * np.sin(_Y / 5 + np.sin(_X / 30))).astype(np.uint8),
}


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize(
    ("row", "column", "turn"), [(200, 200, 0), (200, 75, 0), (325, 75, 0), (180, 240, 0.15)], ids=str
)
def test_the_digit_is_found_on_a_sheet_in_a_larger_picture(
    row: int, column: int, turn: float, ground: str, polarity: str
) -> None:
    """In the middle, at an edge, in a corner, and turned."""
    across = (_X - column) * np.cos(turn) + (_Y - row) * np.sin(turn)
    down = (_Y - row) * np.cos(turn) - (_X - column) * np.sin(turn)
    sheet = np.maximum(np.abs(across), np.abs(down)) <= 75
    for digit in range(10):
        drawn = placed(enlarged(digit_drawn(digit), 110), sheet.shape, row - 55, column - 55)
        picture = np.where(sheet, on(on_paper(drawn), polarity), GROUNDS[ground])

        assert_found(find_ink(picture), drawn, polarity)


# Lines above and below, and parentheses

# style -> where it has ink, of x and y in pens from its left end and its middle
LINES: dict[str, Callable[[Reals, Reals], NDArray[np.bool_]]] = {
    "ruled": lambda _, y: np.abs(y) < 0.5,
    "thin": lambda _, y: np.abs(y) < 0.2,
    "thick": lambda _, y: np.abs(y) < 1,
    "double": lambda _, y: np.abs(np.abs(y) - 1) < 0.4,
    "sloping": lambda x, y: np.abs(y - 0.05 * (x - 7)) < 0.5,
    "wavy": lambda x, y: np.abs(y - 0.5 * np.sin(x)) < 0.5,
    "dashed": lambda x, y: (np.abs(y) < 0.5) & (x % 4 < 2.5),
    "dotted": lambda x, y: np.hypot(x % 3 - 0.5, y) < 0.5,
}
LINE_PX = 12  # of its pen


def lined(drawing: Grey, style: str, sides: str, share: float, gap: float) -> Grey:
    """With lines ``share`` times as long as the drawing's ink is high, and ``gap`` of that height away from it."""
    x, y, width, height = box_of(drawing)
    across, down = np.meshgrid(np.arange(share * height) / LINE_PX, np.arange(-25, 26) / LINE_PX)
    line = cut_out(np.where(LINES[style](across, down), 255, 0).astype(np.uint8))
    picture = drawing.copy()
    left = x + (width - line.shape[1]) // 2
    for side in sides.split(" and "):
        top = y - round(gap * height) - len(line) if side == "above" else y + height + round(gap * height)
        picture[top : top + len(line), left : left + line.shape[1]] |= line
    return picture


def touched(drawing: Grey) -> Grey:
    """Its foot stands on a form line."""
    return lined(drawing, "ruled", "below", 1.9, -0.02)


def in_parentheses(drawing: Grey) -> Grey:
    return closed(closed(drawing)[:, ::-1])[:, ::-1]


def closed(drawing: Grey) -> Grey:
    """With a closing parenthesis after it, a little higher than the ink."""
    x, y, width, height = box_of(drawing)
    rows, columns = np.mgrid[: drawing.shape[0], : drawing.shape[1]]
    away = (rows - y - height / 2) / (0.6 * height)
    bend = 0.2 * height * (1 - away**2)
    arc = (np.abs(columns - x - width - 15 - bend) < LINE_PX / 2) & (np.abs(away) < 1)
    return np.where(arc, 255, drawing).astype(np.uint8)


def assert_alike(draw: Picture, at_least: int) -> None:
    """With what is drawn around it, a digit gives the ink that it gives alone, in ``at_least`` of ten."""
    alike = 0
    for digit in range(10):
        drawn = placed(enlarged(digit_drawn(digit), 160), (360, 400), 100, 120)
        found = find_ink(on_paper(draw(drawn)))
        alike += found.digits == 1 and difference(found.ink, find_ink(on_paper(drawn)).ink) < ALIKE
    assert alike >= at_least


@pytest.mark.parametrize(("share", "gap"), [(1.1, 0.2), (1.9, 0.06)])
@pytest.mark.parametrize("sides", ["above", "below", "above and below"])
@pytest.mark.parametrize("style", LINES)
def test_lines_above_and_below_are_no_strokes(style: str, sides: str, share: float, gap: float) -> None:
    """In eight of ten: a one keeps what may be its foot, and a wide digit what may be its bar."""
    assert_alike(lambda drawn: lined(drawn, style, sides, share, gap), 8)


@pytest.mark.parametrize(("draw", "at_least"), [(in_parentheses, 10), (closed, 10), (touched, 8)])
def test_parentheses_and_a_line_that_the_digit_touches_are_no_strokes(draw: Picture, at_least: int) -> None:
    assert_alike(draw, at_least)


def test_a_one_keeps_its_loose_foot() -> None:
    sheet = np.zeros((300, 300), np.uint8)
    cv2.polylines(sheet, [np.array([[100, 110], [150, 60], [150, 220]])], False, 255, LINE_PX)
    one = lined(sheet, "ruled", "below", 0.7, 0.05)

    assert np.abs(np.subtract(find_ink(on_paper(one)).ink_box, box_of(one))).max() <= NEAR_PX


def test_a_lone_dash_is_ink() -> None:
    dash = placed(np.full((12, 90), 255, np.uint8), (200, 200), 90, 50)

    assert np.abs(np.subtract(find_ink(on_paper(dash)).ink_box, box_of(dash))).max() <= NEAR_PX


def test_two_blurred_bars_are_ink() -> None:
    """Between the bars is only pale ink."""
    picture = np.zeros((174, 260), np.uint8)
    cv2.line(picture, (40, 62), (180, 60), 255, 10)
    cv2.line(picture, (40, 112), (180, 115), 255, 10)
    found = find_strokes(as_uint8(cv2.convertScaleAbs(cv2.GaussianBlur(picture, (0, 0), 4), alpha=1.22)))
    assert found.contrast[found.strokes > 0].max() > found.sure


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize(
    "digit", range(2, 10)
)  # on a disc, a one and a thin zero look like the opening of a thick zero
def test_the_digit_is_found_on_a_round_card(digit: int, polarity: str) -> None:
    card = np.hypot(_X - 200, _Y - 190) <= 120
    drawn = placed(enlarged(digit_drawn(digit), 120), card.shape, 130, 140)
    picture = np.where(card, on(on_paper(drawn), polarity), 255 - on(np.full_like(drawn, 255), polarity))

    assert_found(find_ink(picture), drawn, polarity)


# Bands of another level


BAND_PX = 40  # of 160: MNIST's strokes reach into it

# What is done to the picture in a band, and where the band is.
BANDS: dict[str, Picture] = {
    "inverted": lambda band: 255 - band,
    "lighter": lambda band: band + 70,
    "darker": lambda band: band - 70,
}
SIDES: dict[str, tuple[slice, ...]] = {
    "top": np.s_[:BAND_PX, :],
    "bottom": np.s_[-BAND_PX:, :],
    "left": np.s_[:, :BAND_PX],
    "right": np.s_[:, -BAND_PX:],
}


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize(
    ("sides", "whole"),
    [("left right", 10), ("left", 10), ("right", 10), ("top bottom", 8), ("top", 8), ("bottom", 8)],
)
def test_strokes_that_run_into_a_band_stay_whole(sides: str, whole: int, band: str, polarity: str) -> None:
    """Above and below in at least 8 of 10: the foot of a two may run along the edge of a band and hide it."""
    alike = 0
    for digit in range(10):
        picture = on(on_paper(enlarged(digit_drawn(digit), 160), 170, 90), polarity)
        banded = picture.copy()
        for side in sides.split():
            banded[SIDES[side]] = BANDS[band](picture[SIDES[side]])
        plain, found = find_ink(picture), find_ink(banded)
        assert found.inverted == plain.inverted
        alike += difference(found.ink, plain.ink) < 0.1

    assert alike >= whole


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("level", [0, 120])
@pytest.mark.parametrize(
    "bars",
    [((0, 0), (56, 56)), ((0, 0), (56, 0)), ((0, 0), (0, 56)), ((56, 56), (0, 0)), ((0, 56), (0, 0))],
    ids=["left and right", "left", "right", "above and below", "below"],
)
def test_letterbox_bars_are_not_ink(bars: tuple[tuple[int, int], tuple[int, int]], level: int, polarity: str) -> None:
    for digit in range(10):
        picture = on_paper(enlarged(digit_drawn(digit), 160))
        plain = find_ink(on(picture, polarity))
        found = find_ink(on(np.pad(picture, bars, constant_values=level), polarity))

        assert found.inverted == plain.inverted
        assert np.array_equal(found.ink, plain.ink)
        x, y, width, height = plain.ink_box
        assert found.ink_box == (x + bars[1][0], y + bars[0][0], width, height)


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize(("side_px", "pen"), [(28, "sharp"), (160, "sharp"), (160, "soft")])
def test_a_one_from_edge_to_edge_is_no_band(side_px: int, pen: str, polarity: str) -> None:
    """MNIST's stroke, upright, cut off above and below, in the middle or where a band would be."""
    stem = digit_drawn(1) if side_px == 28 else enlarged(digit_drawn(1), side_px)
    across = cut_out(stem[side_px // 2 : side_px // 2 + 1])
    if pen == "sharp":
        across = np.full_like(across, 255)
    upright = np.tile(across, (side_px, 1))
    whole = find_ink(np.pad(upright, side_px)).ink
    for left, right in ((4, 4), (2, 12), (12, 2), (1, 16), (16, 0)):  # quarters of its width
        room = [(0, 0), (left * across.size // 4, right * across.size // 4)]

        found = find_ink(on(on_paper(np.pad(upright, room)), polarity))

        assert found.inverted == (polarity == "dark on light")
        assert difference(found.ink, whole) < 0.1


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("kind", ["MNIST's", "enlarged", "on a large sheet", "near the border"])
def test_a_pixel_of_noise_at_the_border_changes_nothing(kind: str, polarity: str) -> None:
    """A picture with a blank border is searched in a shorter way, which has to find the same."""
    sheets: dict[str, Picture] = {
        "MNIST's": lambda image: image,
        "enlarged": enlarged,
        "on a large sheet": lambda image: placed(enlarged(image, 300), (400, 390), 80, 50),
        "near the border": lambda image: np.pad(cut_out(enlarged(image, 100)), 9),
    }
    for image in mnist_test()[0][::4]:
        blank = on(255 - sheets[kind](image), polarity)
        noisy = blank.copy()
        noisy[-1, -1] ^= 1

        one, other = find_strokes(blank), find_strokes(noisy)

        assert (one.box, one.inverted, one.digits) == (other.box, other.inverted, other.digits)
        assert np.array_equal(one.strokes, other.strokes)


# Several digits


@pytest.mark.parametrize("polarity", BOTH)
@pytest.mark.parametrize("first", range(10))
def test_two_digits_side_by_side_are_two(first: int, polarity: str) -> None:
    pairs = [on_paper(side_by_side([digit_drawn(first), digit_drawn(second)])) for second in range(10)]

    assert {find_ink(on(pair, polarity)).digits for pair in pairs} == {2}


@pytest.mark.parametrize("digits", [(1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 0, 7)], ids=str)
def test_three_digits_side_by_side_are_three(digits: tuple[int, ...]) -> None:
    assert find_ink(on_paper(side_by_side([digit_drawn(digit) for digit in digits]))).digits == 3


def test_one_digit_is_one() -> None:
    for image in mnist_test()[0]:
        assert find_ink(image).digits == 1
        assert find_ink(on_paper(placed(enlarged(image, 160), (260, 220), 50, 30))).digits == 1


# No ink


@pytest.mark.parametrize(
    "paper",
    [
        lambda blank: lit(blank, np.full(blank.shape, PAPER, np.float64)),
        lambda blank: framed(blank, 0, 4),
        lambda blank: ruled(blank, 40, 2, 150),
    ],
    ids=["blank", "framed", "ruled"],
)
def test_paper_without_a_digit_has_no_ink(paper: Picture) -> None:
    with pytest.raises(NoInk):
        find_ink(paper(np.zeros((260, 220), np.uint8)))
