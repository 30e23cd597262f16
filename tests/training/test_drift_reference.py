import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.imaging.preprocess import preprocess
from app.model.engine import LiteRTEngine
from app.model.manifest import read_manifest, write_manifest
from tests.asking import service
from tests.drawings import encoded, enlarged, mnist_test
from tests.pictures import on_paper
from tests.scraping import Scrape
from training.__main__ import main
from training.drift_reference import folder_pictures, make_reference
from training.errors import DataError


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """As others would send them: half of them large, dark on light."""
    drawings, _ = mnist_test()
    return [encoded(on_paper(enlarged(grey, 100)) if place % 2 else grey, "PNG") for place, grey in enumerate(drawings)]


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> LiteRTEngine:
    return LiteRTEngine.load(model_dir)


@pytest.mark.anyio
async def test_the_service_measures_pictures_as_the_reference_does(
    engine: LiteRTEngine, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.telemetry.drift.EVERY_S", 0)
    monkeypatch.setattr("app.telemetry.drift.LEAST", len(pictures))
    reference = make_reference(engine, engine.manifest, pictures, "pictures")
    served = LiteRTEngine(engine.manifest.model_copy(update={"reference": reference}), engine.logits)

    async with service(served) as client:
        answers = [await client.post("/predict", content=picture) for picture in pictures]
        found = Scrape(await client.get("/metrics"))

    assert {answer.status_code for answer in answers} == {httpx2.codes.OK}
    drift = found.series("digits_drift_psi")
    assert set(drift) == {"ink_fraction", "stroke_width", "polarity", "confidence", "digit"}
    assert max(drift.values()) < 1e-6
    assert found.value("digits_drift_reference_pictures", source="pictures") == 200


def test_a_reference_says_how_its_pictures_are(engine: LiteRTEngine, pictures: list[bytes]) -> None:
    reference = make_reference(engine, engine.manifest, pictures, "pictures")

    assert reference.polarity.shares == (0.5, 0.5)
    assert len(reference.digit.shares) == 10
    assert sum(reference.digit.shares[:5]) == pytest.approx(0.5, abs=0.03)
    assert reference.ink_fraction.shares == pytest.approx([0.1] * 10, abs=0.02)
    fractions = [preprocess(picture).ink.mean() for picture in pictures]
    assert reference.ink_fraction.edges[4] == pytest.approx(np.median(fractions), abs=1e-3)


def test_pictures_that_cannot_be_read_are_left_out(engine: LiteRTEngine, pictures: list[bytes]) -> None:
    blank = encoded(np.full((50, 50), 255, np.uint8))

    assert make_reference(engine, engine.manifest, [b"no picture", blank, pictures[0]], "pictures").pictures == 1
    with pytest.raises(DataError, match="no picture"):
        make_reference(engine, engine.manifest, [b"no picture"], "pictures")


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        folder_pictures(tmp_path / "none")


@pytest.mark.parametrize(("count", "status"), [(200, 0), (199, 1)])
def test_an_operator_s_own_pictures_become_the_reference_of_the_model_if_there_are_enough(
    count: int,
    status: int,
    model_dir: Path,
    pictures: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models, folder = tmp_path / "models", tmp_path / "pictures"
    models.mkdir()
    folder.mkdir()
    (models / "digits.keras").symlink_to(model_dir / "digits.keras")
    before = read_manifest(model_dir).model_copy(update={"reference": None})
    write_manifest(before, models)
    for place, picture in enumerate(pictures[:count]):
        (folder / f"{place}.png").write_bytes(picture)
    monkeypatch.setattr(sys, "argv", ["training", "reference", "--models", str(models), "--images", str(folder)])

    try:
        main()
        ended = 0
    except SystemExit as stop:
        ended = int(stop.code or 0)

    after = read_manifest(models)
    assert ended == status, capsys.readouterr().err
    assert (after.reference is None) == bool(status)
    assert after.model_copy(update={"reference": None}) == before
    assert sorted(path.name for path in models.iterdir()) == ["digits.json", "digits.keras"]
