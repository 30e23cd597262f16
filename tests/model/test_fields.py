"""Reading the fields of a drawn form with the shipped model: printed boxes, grain of a scan, a skew of 2 degrees."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from app.errors import TooLarge
from app.imaging.decode import Decoded
from app.imaging.forms import Place, find_fields
from app.model.engine import Int8Engine
from app.model.numbers import inks_of, read_cells, read_field
from tests.drawings import Grey, digit_drawn, enlarged
from tests.pictures import PEN, cut_out

CELL_PX = 60
TEXTS = ["20746", "", "4 9", "7", ""]


def form(noise: float, degrees: float, down_px: int) -> tuple[Grey, list[Place]]:
    """Rows of cells and, at odd places, one wide box for a number; the ink is ``down_px`` below the middle."""
    page = np.full((900, 700), 235, np.uint8)
    places = []
    for row, text in enumerate(TEXTS):
        left, top, cells = 120, 100 + row * 140, 5
        cv2.rectangle(page, (left, top), (left + cells * CELL_PX, top + CELL_PX), 90, 3)
        for cell in range(1, cells if row % 2 == 0 else 0):
            cv2.line(page, (left + cell * CELL_PX, top), (left + cell * CELL_PX, top + CELL_PX), 90, 3)
        for cell, char in enumerate(text):
            if char != " ":
                ink = cut_out(enlarged(digit_drawn(int(char)), 62))
                lower = top + (CELL_PX - len(ink)) // 2 + down_px
                right = left + cell * CELL_PX + (CELL_PX - ink.shape[1]) // 2
                part = page[lower : lower + len(ink), right : right + ink.shape[1]]
                part[:] = np.minimum(part, part - (part - float(PEN)) * (ink / 255)).astype(np.uint8)
        places.append(Place((left, top, cells * CELL_PX, CELL_PX), cells if row % 2 == 0 else 0))
    turn = cv2.getRotationMatrix2D((270, 450), degrees, 1)
    page = cv2.warpAffine(page, turn, (700, 900), borderValue=(235,)).astype(np.uint8)
    moved = []
    for (x, y, width, height), cells in places:
        across, down = (turn @ np.array([x + width / 2, y + height / 2, 1])).tolist()
        moved.append(Place((across - width / 2, down - height / 2, width, height), cells))
    grain = np.random.default_rng(1).normal(0, noise, page.shape)
    return np.clip(page + grain, 0, 255).astype(np.uint8), moved


@pytest.mark.parametrize(("noise", "degrees", "down_px"), [(0, 0, 0), (12, 0, 0), (3, 2, 0), (3, -2, 0), (3, 0, 9)])
def test_filled_fields_are_read_and_empty_ones_are_empty(
    model_dir: Path, noise: float, degrees: float, down_px: int
) -> None:
    engine = Int8Engine.load(model_dir)
    page, places = form(noise, degrees, down_px)

    texts = []
    for found, place in zip(find_fields(Decoded(page, 700, 900), places), places, strict=True):
        reader = read_cells if place.cells else read_field
        inks = inks_of(found)
        number = reader(found, engine.logits(inks), engine.manifest.temperature) if len(inks) else None
        texts.append(number.text if number else "")

    assert texts == [text.replace(" ", "") for text in TEXTS]


def test_fields_that_overlap_too_much_are_refused() -> None:
    page, _ = form(0, 0, 0)

    with pytest.raises(TooLarge):
        find_fields(Decoded(page, 700, 900), [Place((0, 0, 1, 1), 0)] * 5)
