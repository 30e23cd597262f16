import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console

from training.data.download import fetch
from training.data.pictures import fonts
from training.data.samples import load, load_all
from training.data.sources import SOURCES, OfficialFile, Source
from training.data.strokes import Drawn, pack
from training.errors import DataError

FONT = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def _zip(path: Path, **files: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _compress(text: str) -> bytes:
    """As compress(1) writes it, for short texts: 9 bits a byte."""
    assert len(text) < 255
    bits = sum(code << 9 * place for place, code in enumerate(text.encode()))
    return b"\x1f\x9d\x8c" + bits.to_bytes(-(-9 * len(text) // 8), "little")


def _png(height: int, width: int) -> bytes:
    picture = np.full((height, width), 255, np.uint8)
    picture[height // 4 :, width // 2] = 0
    return cv2.imencode(".png", picture)[1].tobytes()


def _pendigits(folder: Path) -> None:
    text = (
        ".COORD X Y\n"
        '.SEGMENT DIGIT 0-1 ? "4"\n.COMMENT 4 12 7\n.PEN_DOWN\n 0 0\n 10 20\n.PEN_UP\n.DT 1\n.PEN_DOWN\n5 5\n.PEN_UP\n'
        '.SEGMENT DIGIT 2 ? "1"\n.COMMENT 1 13 8\n.PEN_DOWN\n3 9\n3 5\n.PEN_UP\n'
    )
    _zip(folder / "pendigits.zip", **{"pendigits-orig.tra.Z": _compress(text)})


def _unipen(folder: Path) -> None:
    strokes = (
        ".INCLUDE lib/a.doc\n.INCLUDE lib/gone.doc\n.PEN_DOWN\n9 0 0\n9 10 20\n.PEN_UP\n9 7 7\n"
        ".PEN_DOWN\n.COMMENT a note\n9 5 5\n"
    )
    segments = '.INCLUDE aga/a.dat\n.SEGMENT CHARACTER 0,1-2 OK "{}"\n.SEGMENT CHARACTER 0 ? "two"\n'
    with tarfile.open(folder / "unipen-CDROM-train_r01_v07.tgz", "w:gz") as archive:
        for name, text in {
            "data/1a/aga/a.dat": segments.format("4"),
            "data/1b/aga/a.dat": segments.format("O"),
            "data/1c/aga/a.dat": segments.format("a"),
            "data/1d/aga/a.dat": segments.format('\\"'),
            "data/2/aga/a.dat": segments.format("x"),
            "include/lib/a.doc": ".COORD T X Y\n.WRITER_ID anna\n",
            "include/aga/a.dat": strokes,
        }.items():
            member = tarfile.TarInfo(f"CDROM/train_r01_v07/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def _omniglot(folder: Path) -> None:
    text = b"START\n0,-20,1\n10,0,2\nBREAK\n5,-15,3\nBREAK\n"
    for part, alphabet in (("background", "Greek"), ("background", "Futurama"), ("evaluation", "Tibetan")):
        mode, name = ("a" if alphabet == "Futurama" else "w"), f"strokes_{part}/{alphabet}/character02/0001_07.txt"
        with zipfile.ZipFile(folder / f"strokes_{part}.zip", mode) as archive:  # type: ignore[call-overload]
            archive.writestr(name, text)


def _quickdraw(folder: Path) -> None:
    (folder / "quickdraw").mkdir()
    drawing = [[[0, 10], [20, 0]], [[5], [15]]]
    for file in SOURCES["quickdraw_strokes"].files:
        word = Path(file.name).stem
        lines = [json.dumps({"word": word, "recognized": known, "drawing": drawing}) for known in (False, True)]
        (folder / file.name).write_text("\n".join(lines) + '\n{"word": "cut of')


def _kensanata(folder: Path) -> None:
    names = ("n-1/0001_CH4M/4/number-1.png", "n-1/0025_RO4F/1/number-2.png", "n-1/0002_CH5M/3/number-3.png")
    _zip(folder / "kensanata-numbers.zip", **dict.fromkeys(names, _png(60, 40)))


def _shapes(folder: Path) -> None:
    names = [f"h-1/data/user.u01/images/{shape}/{shape}.u01.0001.png" for shape in ("ellipse", "other")]
    _zip(folder / "hand-drawn-shapes-dataset.zip", **dict.fromkeys(names, _png(70, 70)))


def _fashion(folder: Path) -> None:
    pixels = np.zeros((2, 28, 28), np.uint8)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + pixels.tobytes()))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + b"\x09\x00"))


def _fonts(folder: Path) -> None:
    (folder / "fonts").mkdir()
    (folder / "fonts" / "a.ttf").write_bytes(FONT.read_bytes())
    (folder / "fonts" / "broken.ttf").write_bytes(b"no font")


def _pictures(folder: Path) -> None:
    table = b"file,kind,source\ntrain/a.png,photo,x\ntrain/b.png,emoji,y\n"
    _zip(folder / "pictures_no_digit.zip", **{"index.csv": table, "train/a.png": _png(9, 9), "train/b.png": _png(9, 5)})


@pytest.mark.parametrize(
    ("name", "make", "labels"),
    [
        ("pendigits_strokes", _pendigits, ["4", "1"]),
        ("unipen_digits", _unipen, ["4"]),
        ("unipen_letters", _unipen, ["a"]),
        ("unipen_symbols", _unipen, ['"']),
        ("omniglot_strokes", _omniglot, ["Futurama/character02", "Tibetan/character02"]),
        ("quickdraw_strokes", _quickdraw, [Path(file.name).stem for file in SOURCES["quickdraw_strokes"].files]),
        ("hds_shapes", _shapes, ["other"]),
        ("kensanata_scans", _kensanata, ["4", "1"]),
        ("font_digits", _fonts, list("0123456789")),
        ("font_letters", _fonts, None),
        ("fashion_mnist", _fashion, ["9", "0"]),
        ("pictures_no_digit", _pictures, ["photo", "emoji"]),
    ],
)
def test_official_files_are_read_converted_and_recorded(
    name: str, make: Callable[[Path], None], labels: list[str] | None, tmp_path: Path
) -> None:
    source = SOURCES[name]
    make(tmp_path)
    samples = load(source, tmp_path)
    assert labels is None or samples.labels.tolist() == labels
    if samples.has_strokes:  # the same character in every file
        assert [stroke.tolist() for stroke in samples.strokes(0)] == [[[0, 1000], [500, 0]], [[250, 750]]]
    else:
        assert samples.picture(len(samples) - 1).ndim == 2
    unverified = replace(source, files=tuple(replace(file, sha256=None) for file in source.files))
    fetch(unverified, tmp_path, Console(quiet=True))
    for path in source.paths(tmp_path):
        if path.is_file():
            path.unlink()
    converted = load(source, tmp_path)
    assert converted.record == samples.record
    assert (converted.record.name, converted.record.licence) == (name, source.licence)
    assert converted.record.samples == len(samples) > 0


def test_a_font_without_a_character_draws_no_box_for_it(tmp_path: Path) -> None:
    _fonts(tmp_path)
    arrays = fonts("7\ue123", 48, [tmp_path / "fonts"])
    assert (arrays["label"].tolist(), arrays["font"].tolist()) == (["7"], ["a"])


def test_one_installed_font_of_each_family_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "fc-list"
    lines = (
        f"{family}\\t{style}\\t{file}\\t0\\n"
        for family, style, file in (("B", "Bold", FONT), ("A", "Bold", "gone.ttf"), ("A", "Regular", FONT))
    )
    command.write_text(f"#!/bin/sh\nprintf '{''.join(lines)}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fonts("7", 48, [tmp_path / "fonts"])["font"].tolist() == ["A", "B"]
    command.unlink()
    with pytest.raises(DataError, match=r"fc-list.*fonts"):
        fonts("7", 48, [tmp_path / "fonts"])


@pytest.mark.parametrize("name", SOURCES)
def test_damaged_official_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    for path in SOURCES[name].paths(tmp_path):
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if path.name == "fonts" else path.write_bytes(b"\x1f\x8b damaged \n\n")
    with pytest.raises(DataError, match=f"^{name}: "):
        load(SOURCES[name], tmp_path)


def test_missing_sources_are_named_with_both_ways_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "fashion_mnist.npz", x=np.zeros((2, 28, 28), np.uint8), y=np.array([9, 0], np.uint8))
    sources = [SOURCES[name] for name in ("unipen_digits", "fashion_mnist", "hds_shapes")]
    with pytest.raises(DataError) as raised:
        load_all(sources, [tmp_path])
    assert "--fetch unipen_digits hds_shapes" in str(raised.value)
    assert "--without unipen_digits --without hds_shapes" in str(raised.value)
    (samples,) = load_all(sources[1:2], [tmp_path / "none", tmp_path])
    assert samples.labels.tolist() == ["9", "0"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((1, 9, 9))},
        {"x": np.zeros((1, 9, 9)), "y": np.array([1, 2])},
        pack([Drawn("A", [np.zeros((2, 2))])]),
    ],
    ids=["no labels", "other labels", "no digit"],
)
def test_arrays_that_do_not_fit_the_source_are_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "pendigits_strokes.npz", allow_pickle=False, **arrays)
    with pytest.raises(DataError, match=r"pendigits_strokes\.npz"):
        load(SOURCES["pendigits_strokes"], tmp_path)


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The URL of an HTTP server and the files it has. Below /short/, connections end too early."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.rpartition("/")[2])
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:50] if "/short/" in self.path else content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", files
        http.shutdown()
        thread.join()


def _served(url: str, content: bytes, **changes: object) -> Source:
    file = OfficialFile("pendigits.zip", url, sha256=sha256(content).hexdigest())
    return replace(SOURCES["pendigits_strokes"], files=(replace(file, **changes),))  # type: ignore[arg-type]


def test_a_download_is_verified_and_converted(server: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    url, files = server
    _pendigits(tmp_path)
    files["p.zip"] = (tmp_path / "pendigits.zip").read_bytes()
    source = _served(f"{url}/p.zip", files["p.zip"])
    folder = tmp_path / "new" / "folder"
    assert fetch(source, folder, Console(quiet=True)) == folder / "pendigits_strokes.npz"
    assert load(source, folder).labels.tolist() == ["4", "1"]
    del files["p.zip"]
    fetch(source, folder, Console(quiet=True))  # not downloaded again
    head = replace(source, files=(OfficialFile("head", f"{url}/head", head=3),), reader=lambda _: {})
    files["head"] = b"more than is wanted"
    fetch(head, folder, Console(quiet=True))
    assert (folder / "head").read_bytes() == b"mor"


@pytest.mark.parametrize(
    ("path", "changes", "message"),
    [
        ("gone.zip", {}, "404"),
        ("short/p.zip", {}, "cannot be downloaded"),
        ("p.zip", {"sha256": "0" * 64}, "not the official file"),
    ],
    ids=["not found", "cut", "changed"],
)
def test_a_failed_download_leaves_no_file(
    path: str, changes: dict[str, object], message: str, server: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, files = server
    files["p.zip"] = bytes(1000)
    with pytest.raises(DataError, match=re.compile(message)):
        fetch(_served(f"{url}/{path}", files["p.zip"], **changes), tmp_path, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []
