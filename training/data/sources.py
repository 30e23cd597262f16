"""Sources of training data besides MNIST: licence, official files, reader, and which labels count as what.

Of a source of digits every label is a digit, of one of outliers every label is an outlier, except its ``lookalikes``:
what resembles a digit to a person is neither learnt nor counted. To add a source, add an entry to `SOURCES`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from training.data import own, pictures, quickdraw, strokes
from training.data.arrays import Arrays
from training.errors import DataError

# Lookalikes
LETTERS = frozenset("IOSZbgiloqsz")
SIGNS = frozenset("!'(),./:;\\`|")
SHAPES = frozenset({"ellipse"})
DOODLES = frozenset({"baseball bat", "bracelet", "circle", "cookie", "line", "peanut", "potato", "snowman"})

FONT_LETTERS = "#$%&*+<=>?@ABCDEFGHJKLMNPQRTUVWXYacdefhjkmnprtuvwxy{}£€ΓΔΛΞΠΣΦΨΩαβγδεζηλμξπρφχψω"


@dataclass(frozen=True)
class OfficialFile:
    """A file as its authors publish it. ``address`` None: there is nothing to download, see the source's note."""

    name: str
    address: str | None
    sha256: str | None = None  # None: nobody publishes one, or it may change; the arrays' own hash is recorded
    size: int | None = None  # bytes to download
    head: int | None = None  # only that many bytes of it are needed


@dataclass(frozen=True)
class Source:
    """Where samples come from. ``reader``: paths of ``files``, in that order -> arrays in the project's layout."""

    name: str
    kind: Literal["digits", "outliers"]
    licence: str
    citation: str
    files: tuple[OfficialFile, ...]
    reader: Callable[[Sequence[Path]], Arrays]
    lookalikes: frozenset[str] = frozenset()
    note: str = ""

    @property
    def size(self) -> int | None:
        """Bytes to download, None if unknown."""
        sizes = [file.size for file in self.files if file.address]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def paths(self, folder: Path) -> list[Path]:
        """Where its official files are, or will be downloaded to, if ``folder`` is the sources folder."""
        return [folder / file.name for file in self.files]

    def read(self, folder: Path) -> Arrays:
        """The arrays from the official files in ``folder``. Raises DataError."""
        try:
            return self.reader(self.paths(folder))
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error
        except Exception as error:  # whatever archives and decoders raise for a damaged file
            raise DataError(f"{self.name}: its files in {folder} are missing or damaged: {error}") from error


_UNIPEN = OfficialFile(
    "unipen-CDROM-train_r01_v07.tgz",
    "https://zenodo.org/api/records/1195803/files/unipen-CDROM-train_r01_v07.tgz/content",
)
_unipen = partial(
    Source,
    licence="CC BY 4.0; the data may not be sold",
    citation="I. Guyon, L. Schomaker and others: UNIPEN, train_r01_v07, 1999, doi:10.5281/zenodo.1195803",
    files=(_UNIPEN,),
)
_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/057f034baf2ecb8530bc5710e5a23584d2a519cc/python/"
_FASHION = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_fonts = partial(
    Source,
    licence="each font's own",
    citation="the fonts of this machine",
    files=(OfficialFile("fonts", None),),
    note="drawn from the fonts that fc-list finds, or from font files in fonts/",
)

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="pendigits_strokes",
            kind="digits",
            licence="CC BY 4.0",
            citation="E. Alpaydin, F. Alimoglu: Pen-Based Recognition of Handwritten Digits, UCI, doi:10.24432/C5MG6K",
            files=(
                OfficialFile(
                    "pendigits.zip",
                    "https://archive.ics.uci.edu/static/public/81/pen+based+recognition+of+handwritten+digits.zip",
                    sha256="1e02bea023613c2b11c9492f6f34caf975420455934f3527d270cee9a1f03b64",
                    size=1_668_118,
                ),
            ),
            reader=strokes.pendigits,
        ),
        _unipen(name="unipen_digits", kind="digits", reader=partial(strokes.unipen, ("1a",))),
        _unipen(
            name="unipen_letters", kind="outliers", reader=partial(strokes.unipen, ("1b", "1c")), lookalikes=LETTERS
        ),
        _unipen(name="unipen_symbols", kind="outliers", reader=partial(strokes.unipen, ("1d",)), lookalikes=SIGNS),
        Source(
            name="omniglot_strokes",
            kind="outliers",
            licence="MIT",
            citation="B. Lake, R. Salakhutdinov, J. Tenenbaum: Omniglot, 2015, doi:10.1126/science.aab3050",
            files=(
                OfficialFile(
                    "strokes_background.zip",
                    _OMNIGLOT + "strokes_background.zip",
                    sha256="c1e445d158fd74b6adf81f1387ebe051f5a23923bdb0c16f539d6e707ce056d4",
                ),
                OfficialFile(
                    "strokes_evaluation.zip",
                    _OMNIGLOT + "strokes_evaluation.zip",
                    sha256="17185a39049e62d6e6a26070fa5c58e5ce7dbaff826a9f78595bdd7881d2070b",
                ),
            ),
            reader=strokes.omniglot,
            note="some characters look like digits, and no label says which",
        ),
        Source(
            name="quickdraw_strokes",
            kind="outliers",
            licence="CC BY 4.0",
            citation="Google: Quick, Draw!, 2017, github.com/googlecreativelab/quickdraw-dataset",
            files=tuple(
                OfficialFile(
                    f"quickdraw/{word}.ndjson",
                    f"https://storage.googleapis.com/quickdraw_dataset/full/simplified/{quote(word)}.ndjson",
                    size=quickdraw.HEAD_BYTES,
                    head=quickdraw.HEAD_BYTES,
                )
                for word in quickdraw.WORDS
            ),
            reader=quickdraw.quickdraw,
            lookalikes=DOODLES,
        ),
        Source(
            name="hds_shapes",
            kind="outliers",
            licence="CC BY 4.0",
            citation="F. Robert: Hand-drawn Shapes, 2022, github.com/frobertpixto/hand-drawn-shapes-dataset",
            files=(
                OfficialFile(
                    "hand-drawn-shapes-dataset.zip",
                    "https://github.com/frobertpixto/hand-drawn-shapes-dataset/archive/"
                    "872099cee68d134333a53059666db55fa0ecfa16.zip",
                ),
            ),
            reader=pictures.hand_drawn_shapes,
            lookalikes=SHAPES,
        ),
        Source(
            name="kensanata_scans",
            kind="digits",
            licence="MIT",
            citation="A. Schroeder and others: Numbers, github.com/kensanata/numbers",
            files=(
                OfficialFile(
                    "kensanata-numbers.zip",
                    "https://github.com/kensanata/numbers/archive/2295afc9beb74968e4cde073d03f0d32426e6d30.zip",
                ),
            ),
            reader=pictures.kensanata,
        ),
        _fonts(name="font_digits", kind="digits", reader=partial(pictures.fonts, "0123456789", 48)),
        _fonts(
            name="font_letters",
            kind="outliers",
            reader=partial(pictures.fonts, FONT_LETTERS, 32),
            lookalikes=LETTERS | SIGNS,
        ),
        Source(
            name="fashion_mnist",
            kind="outliers",
            licence="MIT",
            citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, 2017, arXiv:1708.07747",
            files=(
                OfficialFile(
                    "train-images-idx3-ubyte.gz",
                    _FASHION + "train-images-idx3-ubyte.gz",
                    sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                    size=26_421_880,
                ),
                OfficialFile(
                    "train-labels-idx1-ubyte.gz",
                    _FASHION + "train-labels-idx1-ubyte.gz",
                    sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                    size=29_515,
                ),
            ),
            reader=pictures.fashion_mnist,
        ),
        Source(
            name="pictures_no_digit",
            kind="outliers",
            licence="public domain, OFL, CC BY(-SA), GPL-2",
            citation="photos, clip art, stamps, emoji and textures of seven Debian packages",
            files=(OfficialFile("pictures_no_digit.zip", None),),
            reader=pictures.indexed_pictures,
            note="yours to supply: pictures_no_digit.zip, with index.csv (columns file and kind)",
        ),
    )
}

# Your own pictures, from the folders given to fit
_own = partial(Source, licence="your own", citation="pictures of your own", files=(OfficialFile(".", None),))
OWN: dict[str, Source] = {
    "own_digits": _own(name="own_digits", kind="digits", reader=own.digits),
    "own_outliers": _own(name="own_outliers", kind="outliers", reader=own.outliers),
}


def find_sources(names: Iterable[str]) -> tuple[Source, ...]:
    """The sources with these names. Raises DataError."""
    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        raise DataError(f"unknown source {', '.join(unknown)}; choose from {', '.join(SOURCES)}")
    return tuple(SOURCES[name] for name in names)
