"""Has cross-entropy stopped improving? Recorded curves whose continuation is known, and what is read of a run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rlseq.evaluation.plateau import MleCurve, MleTrend, mle_curve, mle_trend


def curve(every: int, per_cent: str) -> MleCurve:
    rewards = tuple(float(value) / 100 for value in per_cent.split())
    return MleCurve(tuple(every * (place + 1) for place in range(len(rewards))), rewards, 0.02)


def trend(found: MleCurve, fresh: bool, instances: int = 4000) -> MleTrend:
    reward = found.rewards[-1]
    error = math.sqrt(reward * (1 - reward) / instances)
    return mle_trend(found, error=error, reference=1.0, fresh=fresh)


# Validations every so many updates, and whether instances were fresh. Longer training brought 2 points or more.
RISING = {
    "hulls, 6,000 updates, cosine run out": (1000, "58 69 73 74.5 75.5 76.3", True),
    "hulls, 7,000 updates, cosine run out": (1000, "58 69 73 75 75 76 77", True),
    "hulls, 36,000 updates, cosine run out": (3000, "73.1 78.9 81.5 83.5 85.1 86 87.2 87.5 87.8 87.9 87.7 88.2", True),
    "hulls of 5 to 50 points": (1000, "41.8 55.2 57 59 62.0", True),
    "dates, 1,500 of 8,000 updates": (500, "59.0 81.7 86.7", False),
    "dates, 4,000 of 8,000 updates": (500, "59.0 81.7 86.7 90.3 92.0 92.7 93.4 94.4", False),
}
# A quarter more updates brought less than half a point.
FLAT = {
    "20,000 labelled sets": (1400, "62 67 69 70 70.5 70.6 70.8 70.7", False),
    "20,000 labelled sets, dropout, 8,000 updates": (1000, "42.3 60.4 66.1 68.2 69.4 69.7 70.0 70.1", False),
    "the same without dropout, 10,000 updates": (1000, "42.4 60.4 65.9 67.8 68.6 68.9 68.7 68.4 68.4 68.6", False),
    "dates, 8,000 updates": (1000, "81.7 90.3 92.7 94.4 95.2 95.8 95.9 96.1", False),
    "dates, a small network": (1000, "67.8 85.2 90.4 92.0 93.6 94.2 94.3 94.4", False),
    "past the peak": (1000, "60 66 71 74 72 71 70 69", True),
    "a network that can do no more": (1000, "40 52 58 60 60.4 60.3 60.5 60.4 60.5 60.5", True),
    "solved": (500, "80 97 99.2 99.3 99.2 99.3", True),
}


@pytest.mark.parametrize("name", RISING)
def test_curves_that_went_on_rising_are_told(name: str) -> None:
    every, values, fresh = RISING[name]
    found = trend(curve(every, values), fresh, 4000 if "hull" in name else 1000)
    assert found.rising and found.run_out and found.updates == every * len(values.split())


@pytest.mark.parametrize("name", FLAT)
def test_curves_that_had_ended_are_told(name: str) -> None:
    every, values, fresh = FLAT[name]
    assert not trend(curve(every, values), fresh, 1000 if "dates" in name else 4000).rising


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fresh", [False, True])
def test_noise_about_a_level_is_no_rise(seed: int, fresh: bool) -> None:
    """The same instances are seen each time, so validations differ by about half of an independent error."""
    noise = math.sqrt(0.7 * 0.3 / 1000) / 2
    rewards = 0.7 + noise * np.random.default_rng(seed).standard_normal(12)
    assert not trend(MleCurve(tuple(range(100, 1300, 100)), tuple(rewards.tolist())), fresh, 1000).rising


def test_only_fresh_instances_have_a_decayed_curve_count_as_rising() -> None:
    """The same curve: without new instances, nothing says that more updates would help."""
    found = curve(3000, "73.1 78.9 81.5 83.5 85.1 86.0 87.2 87.5 87.8 87.9 87.7 88.2")
    assert trend(found, True).rising and not trend(found, False).rising
    assert trend(found, True).gain == pytest.approx(0.022) and trend(found, False).gain == pytest.approx(0.004)


def test_a_curve_is_read_from_a_runs_records() -> None:
    records: list[dict[str, Any]] = [{"update": 0, "phase": "mle", "eval/reward": 0.1}]
    for update in range(10, 110, 10):
        rate = 1e-3 * (1 - update / 100)
        records.append({"update": update, "phase": "mle", "train/learning_rate": rate})
        if update % 50 == 0:
            records.append({"update": update, "phase": "mle", "eval/reward": update / 200})
    records.append({"update": 100, "phase": "rl", "eval/reward": 0.9})
    found = mle_curve(records)
    assert found is not None
    assert (found.updates, found.rewards) == ((0, 50, 100), (0.1, 0.25, 0.5))
    assert found.rate_left == 0
    assert mle_curve(records[:5]) is None
    assert mle_curve([]) is None
