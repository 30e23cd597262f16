"""The golden inputs, and the sheets that pin what preprocessing makes of them: one row of 28x28 tiles a mode.

`auto.png` and `plain.png` hold the inks in the order of `inputs`, `VERSION` says which preprocessing made them.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from app.imaging.preprocess import SIDE_PX, VERSION, Mode, find_ink
from tests.drawings import Grey, digit_drawn, enlarged, placed

FOLDER = Path(__file__).parent
MODES: tuple[Mode, ...] = ("auto", "plain")


def inputs() -> dict[str, Grey]:
    """Name -> grey, light ink on dark unless the name says otherwise. Made without codecs and library resizing."""
    large = enlarged(digit_drawn(5))
    everyone = {f"MNIST's {digit}": digit_drawn(digit) for digit in range(10)}
    return everyone | {
        "large": large,
        "larger than is looked at": enlarged(digit_drawn(8), 1000),
        "dark on light": 255 - large,
        "pale": 255 - large // 6,
        "in a corner": placed(enlarged(digit_drawn(2), 90), (300, 400), 5, 300),
        "on a tall sheet": placed(enlarged(digit_drawn(6), 120), (600, 130), 440, 5),
        "hairline": _hairline(),
        "two strokes": _two_strokes(),
        "with dirt": _with_dirt(large),
        "under uneven light": _unevenly_lit(large),
        "noisy": _noisy(255 - large),
        "tiny": digit_drawn(3)[4:24, 4:24][::2, ::2],
    }


def tiles(mode: Mode) -> dict[str, Grey]:
    """Name -> ink in 256 levels, (28, 28): finer differences are the machine's."""
    return {name: np.rint(find_ink(grey, mode).ink[:, :, 0] * 255).astype(np.uint8) for name, grey in inputs().items()}


def pinned(mode: Mode) -> dict[str, Grey]:
    """What `tiles` was when the sheets were written."""
    sheet = np.array(Image.open(FOLDER / f"{mode}.png"))
    return {name: sheet[:, place * SIDE_PX : (place + 1) * SIDE_PX] for place, name in enumerate(inputs())}


def pinned_version() -> str:
    return (FOLDER / "VERSION").read_text(encoding="utf-8").strip()


def write() -> None:
    for mode in MODES:
        Image.fromarray(np.hstack(list(tiles(mode).values()))).save(FOLDER / f"{mode}.png", optimize=True)
    (FOLDER / "VERSION").write_text(f"{VERSION}\n", encoding="utf-8")


def _hairline() -> Grey:
    """A seven of one pixel's width, 300 pixels tall."""
    grey = np.zeros((340, 260), np.uint8)
    grey[20, 40:220] = 255
    for row in range(20, 320):
        grey[row, 219 - (row - 20) // 3] = 255
    return grey


def _two_strokes() -> Grey:
    """A five whose bar does not touch."""
    grey = placed(enlarged(digit_drawn(5), 200), (260, 260), 50, 20)
    grey[52:62, 120:200] = 255
    return grey


def _with_dirt(grey: Grey) -> Grey:
    dirty = grey.copy()
    dirty[8:11, 8:11] = dirty[250:253, 30:32] = 200
    return dirty


def _unevenly_lit(grey: Grey) -> Grey:
    """Dark ink on paper that a shadow crosses."""
    light = 110 + 120 * np.arange(grey.shape[1]) // grey.shape[1]
    lit: Grey = (light - light * (grey.astype(int) * 7 // 10) // 255).astype(np.uint8)
    return lit


def _noisy(grey: Grey) -> Grey:
    """With the grain of a bad camera: a multiplicative congruential sequence, the same everywhere."""
    grain = (np.arange(grey.size, dtype=np.uint64) * 2_654_435_761 >> 16) % 9
    noisy: Grey = np.clip(grey.astype(int) + grain.reshape(grey.shape).astype(int) - 4, 0, 255).astype(np.uint8)
    return noisy
