"""Reading numbers with the shipped model, on pictures drawn from MNIST's test images."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from app.errors import NoInk, TooLarge
from app.imaging.decode import Decoded
from app.imaging.lines import find_lines
from app.imaging.pixels import as_uint8
from app.model.engine import Int8Engine
from app.model.numbers import ANY, Number, Wanted, inks_of, read_lines
from tests.drawings import Grey
from tests.pictures import cut_out, framed, number_drawn, on_paper, ruled, shadowed


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> Int8Engine:
    return Int8Engine.load(model_dir)


def read(engine: Int8Engine, grey: Grey, wanted: Wanted = ANY) -> list[Number]:
    found = find_lines(Decoded(grey, grey.shape[1], grey.shape[0]))
    return read_lines(found, engine.logits(inks_of(found)), engine.manifest.temperature, wanted)


def texts(numbers: list[Number]) -> list[str]:
    return [number.text for number in numbers]


NUMBER = number_drawn("20746")
TURNED = as_uint8(cv2.warpAffine(NUMBER, cv2.getRotationMatrix2D((200, 75), 8, 1), NUMBER.shape[::-1]))

NOTE = np.pad(on_paper(NUMBER), 250, constant_values=40)


@pytest.mark.parametrize(
    "picture",
    [
        on_paper(NUMBER),
        NUMBER,
        on_paper(number_drawn("20746", height_px=14, margin_px=8)),
        on_paper(number_drawn("20746", height_px=150)),
        on_paper(number_drawn("20746", margin_px=400)),
        shadowed(NUMBER, 0.5),
        ruled(NUMBER, gap_px=60, thickness_px=2, level=120),
        framed(number_drawn("20746", margin_px=60), 15, 3),
        on_paper(TURNED),
        NOTE,
    ],
    ids=[
        "on paper",
        "light on dark",
        "small",
        "large",
        "on a large sheet",
        "in a shadow",
        "ruled",
        "framed",
        "sloping",
        "on a note",
    ],
)
def test_a_number_is_read_wherever_and_however_it_is_written(engine: Int8Engine, picture: Grey) -> None:
    assert texts(read(engine, picture)) == ["20746"]


def test_touching_digits_are_cut(engine: Int8Engine) -> None:
    picture = on_paper(number_drawn("27", gap=-0.12))

    [number] = read(engine, picture)

    whole = [line.is_whole for line in find_lines(Decoded(picture, *picture.shape[::-1])).lines]
    assert (number.text, whole) == ("27", [False, True])


def test_unfoundink_beside_a_number_makes_it_less_probable(engine: Int8Engine) -> None:
    drawing = number_drawn("20746")
    scribbled = np.pad(drawing, ((0, 0), (0, 150)))
    for end in ((420, 40), (470, 110), (520, 40)):
        cv2.line(scribbled, (440, 75), end, 255, 5)
    overlapping = np.concatenate([drawing, number_drawn("88", gap=-0.6)], axis=1)

    found = [read(engine, on_paper(each)) for each in (drawing, scribbled, overlapping)]

    reasons = [number.rejection and number.rejection[0] for [number] in found]
    assert reasons == [None, "not_a_number", "touching"]


def test_a_candidate_is_found_where_touching_digits_look_like_none(engine: Int8Engine) -> None:
    picture = on_paper(number_drawn("48213", gap=-0.15))

    [plain], [listed] = read(engine, picture), read(engine, picture, Wanted(candidates=("48213", "74180", "26031")))

    assert (plain.rejection is None, listed.text, listed.rejection) == (False, "48213", None)


def test_a_hairline_beside_a_number_is_no_error(engine: Int8Engine) -> None:
    drawing = np.pad(number_drawn("27", height_px=300), ((100, 100), (0, 300)))
    right = drawing.shape[1]
    cv2.polylines(drawing, [np.array([(right - 300, 60), (right - 240, 560), (right - 30, 40)])], False, 255, 1)

    assert texts(read(engine, on_paper(drawing)))[0].startswith("27")


def test_a_reading_that_skips_a_digit_is_improbable(engine: Int8Engine) -> None:
    [number] = read(engine, on_paper(number_drawn("207")), Wanted(2, 2))

    assert (number.text, number.probability < 0.3) == ("27", True)


def test_a_large_gap_ends_a_number_and_lines_are_read_in_order(engine: Int8Engine) -> None:
    upper, lower = number_drawn("20 746"), number_drawn("13")
    page = np.zeros((len(upper) + len(lower), max(upper.shape[1], lower.shape[1])), np.uint8)
    page[: len(upper), : upper.shape[1]] = upper
    page[len(upper) :, : lower.shape[1]] = lower

    numbers = read(engine, on_paper(page))

    assert [(number.text, number.row) for number in numbers] == [("20", 0), ("746", 0), ("13", 1)]


def test_boxes_are_where_the_digits_are(engine: Int8Engine) -> None:
    drawing = number_drawn("27")
    rows, columns = np.nonzero(drawing > 100)

    [number] = read(engine, on_paper(drawing))

    assert number.box == pytest.approx((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), abs=4)
    assert [digit.box[0] for digit in number.digits] == sorted(digit.box[0] for digit in number.digits)
    assert [digit.digit for digit in number.digits] == [2, 7]


@pytest.mark.parametrize("half_at", [218, 250], ids=["touching", "apart"])
def test_a_fraction_is_read_in_order(engine: Int8Engine, half_at: int) -> None:
    number = cut_out(number_drawn("27"))
    half = as_uint8(cv2.resize(cut_out(number_drawn("2")), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    drawing = np.zeros((150, 330), np.uint8)
    drawing[40 : 40 + number.shape[0], 30 : 30 + number.shape[1]] = number
    cv2.line(drawing, (198, 30), (198, 62), 255, 5)
    cv2.line(drawing, (200, 125), (250, 25), 255, 5)
    drawing[90 : 90 + half.shape[0], half_at : half_at + half.shape[1]] |= half

    [mixed] = read(engine, on_paper(drawing))

    assert (mixed.text, [(mark.after, mark.mark) for mark in mixed.marks]) == ("2712", [(3, "/")])


@pytest.mark.parametrize(("width", "height", "down", "mark"), [(8, 8, 52, "."), (30, 5, 28, "-")])
def test_a_mark_is_no_digit_and_ends_no_number(
    engine: Int8Engine, width: int, height: int, down: int, mark: str
) -> None:
    drawing = number_drawn("2 7")
    left = int(np.flatnonzero(drawing.any(axis=0))[0])
    two = int(np.flatnonzero(~drawing[:, left:].any(axis=0))[0]) + left
    drawing = np.delete(drawing, np.s_[two + 60 : two + 130], axis=1)
    top = int(np.flatnonzero(drawing.any(axis=1))[0]) + down
    drawing[top : top + height, two + 25 : two + 25 + width] = 255

    [number] = read(engine, on_paper(drawing))

    assert number.text == "27"
    assert [(each.after, each.mark) for each in number.marks] == [(1, mark)]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (Wanted(5, 5), "20746"),
        (Wanted(candidates=("20746", "11111", "746")), "20746"),
        (Wanted(candidates=("20745", "20748", "20749", "20746")), "20746"),
    ],
    ids=["digits", "candidates", "candidates that differ in a digit"],
)
def test_only_what_a_number_can_be_is_considered(engine: Int8Engine, wanted: Wanted, text: str) -> None:
    [number] = read(engine, on_paper(NUMBER), wanted)

    assert number.text == text
    assert number.probability > 0.9
    assert all(other in wanted.candidates or wanted.has(other) for other, _ in number.alternatives)


@pytest.mark.parametrize("candidates", [("11111", "33333"), ("20741", "20742", "20743")])
def test_a_number_that_is_no_candidate_is_none_of_these(engine: Int8Engine, candidates: tuple[str, ...]) -> None:
    [number] = read(engine, on_paper(NUMBER), Wanted(candidates=candidates))

    assert number.none_of_these is not None
    assert number.none_of_these > 0.9
    assert number.probability + number.none_of_these <= 1 + 1e-9
    assert number.rejection


def test_the_length_that_is_wanted_decides_where_to_cut(engine: Int8Engine) -> None:
    picture = on_paper(number_drawn("20746", gap=-0.05))

    assert all(len(number.text) == 4 for number in read(engine, picture, Wanted(4, 4)))


def test_a_blank_picture_has_no_ink(engine: Int8Engine) -> None:
    with pytest.raises(NoInk):
        read(engine, np.full((60, 200), 240, np.uint8))


def test_more_than_400_digits_are_too_many(engine: Int8Engine) -> None:
    line = number_drawn("11" * 21, height_px=20, margin_px=4)
    page = on_paper(np.concatenate([line] * 10))

    with pytest.raises(TooLarge, match="400"):
        read(engine, page)


@pytest.mark.parametrize("candidate", ["0" * 95, "1" * 130])
def test_an_improbable_candidate_of_many_digits_is_read(engine: Int8Engine, candidate: str) -> None:
    """With more beginnings than the search keeps readings."""
    row = on_paper(number_drawn("0123456789" * 10))

    assert len(read(engine, row, Wanted(candidates=(candidate,)))) <= 1
