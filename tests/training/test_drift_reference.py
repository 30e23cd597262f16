from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.model.engine import LiteRTEngine
from app.telemetry.drift import FEATURES, stability_index
from tests.asking import service
from tests.drawings import encoded, enlarged, mnist_test
from tests.pictures import on_paper
from tests.scraping import Scrape
from training.drift_reference import folder_images, histogram, make_reference
from training.errors import DataError


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """Half of them large and dark on light."""
    drawings, _ = mnist_test()
    return [encoded(on_paper(enlarged(grey, 100)) if index % 2 else grey, "PNG") for index, grey in enumerate(drawings)]


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> LiteRTEngine:
    return LiteRTEngine.load(model_dir)


async def test_the_service_measures_images_like_the_reference(
    engine: LiteRTEngine, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.telemetry.drift.EVERY_S", 0)
    monkeypatch.setattr("app.telemetry.drift.LEAST", len(images))
    reference = make_reference(engine, engine.manifest, images, "pictures")
    served = LiteRTEngine(engine.manifest.model_copy(update={"reference": reference}), engine.logits)

    async with service(served) as client:
        answers = [await client.post("/predict", content=image) for image in images]
        found = Scrape(await client.get("/metrics"))

    assert {answer.status_code for answer in answers} == {httpx2.codes.OK}
    drift = found.series("digits_drift_psi")
    assert set(drift) == {"ink_fraction", "stroke_width", "polarity", "confidence", "digit"}
    assert max(drift.values()) < 1e-6
    assert found.value("digits_drift_reference_pictures", source="pictures") == 200


def test_unreadable_images_are_left_out(engine: LiteRTEngine, images: list[bytes], tmp_path: Path) -> None:
    blank = encoded(np.full((50, 50), 255, np.uint8))

    assert make_reference(engine, engine.manifest, [b"not an image", blank, images[0]], "pictures").pictures == 1
    with pytest.raises(DataError, match="none of the reference images"):
        make_reference(engine, engine.manifest, [b"not an image"], "pictures")
    with pytest.raises(DataError, match="cannot be read"):
        folder_images(tmp_path / "none")


def test_a_wider_pen_is_drift_and_the_same_pen_is_not() -> None:
    random = np.random.default_rng(0)
    values = random.normal(3, 0.5, 5000)
    reference = histogram("stroke_width", values)

    assert stability_index(reference, values) < 1e-6
    assert stability_index(reference, random.normal(3, 0.5, 1000)) < 0.1
    assert stability_index(reference, random.normal(3.5, 0.5, 1000)) > 0.25


def test_a_bin_that_is_empty_in_the_reference_makes_the_index_large_but_finite() -> None:
    dark_on_light = histogram("polarity", np.ones(1000))

    assert 5 < stability_index(dark_on_light, np.zeros(1000)) < 50


@pytest.mark.parametrize("feature", FEATURES)
def test_a_constant_feature_has_a_histogram(feature: str) -> None:
    made = histogram(feature, np.ones(300))

    assert sum(made.shares) == pytest.approx(1)
    assert stability_index(made, np.ones(10)) < 1e-6
