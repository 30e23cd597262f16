import numpy as np

from training.rounds import resampled


def test_hard_outliers_are_drawn_more_often_and_lookalikes_not_at_all() -> None:
    logits = np.zeros((3000, 11), np.float32)
    logits[:1000, 10] = 12  # surely no digit
    logits[1000:2000, 10] = np.log(10) + 1  # perhaps one
    logits[2000:, 7] = 12  # surely a 7
    drawn = resampled(np.arange(0, 6000, 2), logits, seed=1)
    easy, hard = int((drawn < 2000).sum()), int(((drawn >= 2000) & (drawn < 4000)).sum())
    assert (len(drawn), easy + hard) == (3000, 3000)
    assert 3 < hard / easy < 5  # 0.1 + 0.27 against 0.1
