"""Has cross-entropy stopped improving? Recorded curves whose continuation is known, and what is read of a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rlseq.evaluation.plateau import MleCurve, mle_curve, mle_trend


def curve(every: int, per_cent: str, train_nll: float = math.nan) -> MleCurve:
    rewards = tuple(float(value) / 100 for value in per_cent.split())
    return MleCurve(tuple(every * (place + 1) for place in range(len(rewards))), rewards, train_nll, 0.02)


def proportion_error(reward: float, instances: int = 4000) -> float:
    return math.sqrt(reward * (1 - reward) / instances)


# Longer training raised each of these by 2 points or more: the rule has to see it in the curve alone.
RISING = {
    "hulls, 6,000 updates, cosine run out": (1000, "58 69 73 74.5 75.5 76.3", True),
    "hulls, 7,000 updates, cosine run out": (1000, "58 69 73 75 75 76 77", True),
    "hulls, 36,000 updates": (3000, "73.1 78.9 81.5 83.5 85.1 86.0 87.2 87.5 87.8 87.9 87.7 88.2", True),
    "dates, a third of a schedule": (500, "59.0 81.7 86.7", False),
    "dates, 7,000 updates": (500, "59.0 81.7 86.7 90.3 92.0 92.7 93.4 94.4 95.1 95.1 95.5 95.8 96.0", False),
    "hulls of 5 to 50 points": (1000, "41.8 55.2 57 59 62.0", True),
}
# More updates brought nothing to these.
FLAT = {
    "20,000 labelled sets": (1400, "62 67 69 70 70.5 70.6 70.8 70.7", False),
    "20,000 labelled sets, past the peak": (1400, "60 65 68 70 71.2 70.4 69.8 69.5", False),
    "a network that can do no more": (1000, "40 52 58 60 60.4 60.3 60.5 60.4 60.5 60.5", True),
    "learnt by heart from early on": (500, "50 60 66 70 69 68 67 66", False),
    "solved": (500, "80 97 99.2 99.3 99.2 99.3", True),
}


@pytest.mark.parametrize("name", RISING)
def test_curves_that_went_on_rising_are_told(name: str) -> None:
    every, values, endless = RISING[name]
    found = curve(every, values)
    error = proportion_error(found.rewards[-1])
    trend = mle_trend(found, error=error, reference=1.0, endless=endless, validation_nll=2.0)
    assert trend.rising and trend.run_out and trend.updates == found.updates[-1]


@pytest.mark.parametrize("name", FLAT)
def test_curves_that_had_ended_are_told(name: str) -> None:
    every, values, endless = FLAT[name]
    found = curve(every, values)
    error = proportion_error(found.rewards[-1])
    assert not mle_trend(found, error=error, reference=1.0, endless=endless, validation_nll=2.0).rising


@pytest.mark.parametrize("seed", range(20))
def test_noise_about_a_level_is_no_rise(seed: int) -> None:
    error = proportion_error(0.7, 1000)
    noisy = 0.7 + error / 2 * np.random.default_rng(seed).standard_normal(
        12
    )  # the same instances each time: half of it
    found = MleCurve(tuple(range(100, 1300, 100)), tuple(noisy.tolist()))
    assert not mle_trend(found, error=error, reference=1.0, endless=False, validation_nll=1.0).rising


def test_instances_that_come_again_need_a_clearer_gain() -> None:
    """Only if the references are less likely in validation than in training is anything learnt by heart."""
    found = curve(100, "50 60 61.8 62.5", train_nll=0.5)
    by_nll = {
        nll: mle_trend(found, error=0.015, reference=0.7, endless=False, validation_nll=nll) for nll in (0.52, 0.9)
    }
    assert by_nll[0.52].fresh and by_nll[0.52].rising
    assert not by_nll[0.9].fresh and not by_nll[0.9].rising


def test_a_curve_is_read_from_a_runs_records() -> None:
    records: list[dict[str, Any]] = [{"update": 0, "phase": "mle", "eval/reward": 0.1}]
    for update in range(10, 110, 10):
        rate = 1e-3 * (1 - update / 100)
        records.append({"update": update, "phase": "mle", "train/nll": 2 - update / 100, "train/learning_rate": rate})
        if update % 50 == 0:
            records.append({"update": update, "phase": "mle", "eval/reward": update / 200})
    records.append({"update": 100, "phase": "rl", "eval/reward": 0.9})
    found = mle_curve(records)
    assert found is not None
    assert (found.updates, found.rewards) == ((0, 50, 100), (0.1, 0.25, 0.5))
    assert found.train_nll == pytest.approx(np.mean([1.2, 1.1, 1.0]))
    assert found.rate_left == 0
    assert mle_curve(records[:5]) is None
    assert mle_curve([]) is None
