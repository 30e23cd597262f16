from collections import Counter

import numpy as np
import pytest

from training.data.mnist import Mnist
from training.data.samples import Samples
from training.data.sources import OWN, SOURCES
from training.drawing.augmentation import augment
from training.drawing.hands import MIX, draw_kind
from training.drawing.pens import NOT_A_DIGIT


def test_every_source_has_a_weight() -> None:
    assert set(SOURCES) <= set(MIX)


@pytest.mark.parametrize("kind", MIX)
def test_each_kind_is_drawn_with_its_label(kind: str, sources: list[Samples], mnist: Mnist) -> None:
    random = np.random.default_rng(1)
    grey, labels = mnist.x_train[:60], mnist.y_train[:60]
    drawn = [draw_kind(kind, random, grey, labels, place, sources) for place in range(60)]
    given = [label for _, label in drawn]
    if kind == "mnist":
        assert given == labels.tolist()
    else:
        digits = kind in SOURCES and SOURCES[kind].kind == "digits"
        assert set(given) == {7 if digits else NOT_A_DIGIT}
    assert {picture.dtype for picture, _ in drawn} == {np.dtype(np.uint8)}
    assert sum(int(np.ptp(picture)) < 20 for picture, _ in drawn) < 3  # ink is visible
    assert len({picture.tobytes() for picture, _ in drawn}) > 20


def test_own_pictures_have_a_fixed_share(sources: list[Samples], mnist: Mnist) -> None:
    arrays = {"x": np.pad(mnist.x_train[:3], ((0, 0), (4, 4), (4, 4))), "label": np.array(["7"] * 3)}
    for others in ([], sources):
        own = [*others, Samples(OWN["own_digits"], arrays, np.arange(3))]
        drawn = Counter(augment(mnist.x_train, np.full(len(mnist.x_train), 3), 5, own)[1].tolist())
        plain = Counter(augment(mnist.x_train, np.full(len(mnist.x_train), 3), 5, others)[1].tolist())
        assert drawn[7] - 0.8 * plain[7] == pytest.approx(0.2 * len(mnist.x_train), rel=0.35)


@pytest.mark.parametrize("used", [tuple(SOURCES), ("unipen_letters",), ()])
def test_the_mix_has_the_stated_shares_of_the_sources_at_hand(
    used: tuple[str, ...], sources: list[Samples], mnist: Mnist
) -> None:
    here = [samples for samples in sources if samples.source.name in used]
    grey, labels = mnist.x_train, np.full(len(mnist.x_train), 3)
    ink, given = augment(grey, labels, 5, here)
    assert np.array_equal(augment(grey, labels, 5, here)[0], ink)
    assert not np.array_equal(augment(grey, labels, 6, here)[0], ink)
    counts = Counter(given.tolist())
    weights = {
        kind: weight
        for kind, weight in MIX.items()
        if kind in {"mnist", "several", "rules", *used, *("jumble" for _ in used)}
    }
    other_digits = sum(weight for kind, weight in weights.items() if kind in used and SOURCES[kind].kind == "digits")
    for label, weight in ((3, weights["mnist"]), (7, other_digits)):
        share = weight / sum(weights.values())
        assert abs(counts[label] / len(given) - share) <= 4 * np.sqrt(share * (1 - share) / len(given)) + 0.01
    assert set(counts) <= {3, 7, NOT_A_DIGIT}
