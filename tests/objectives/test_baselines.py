"""Baselines by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rlseq.config.schema import RLConfig
from rlseq.objectives.baselines import advantages, baseline_values, prefix_baseline

REWARDS = np.array([[1.0, 0.0, 2.0], [3.0, 3.0, 0.0]])
GREEDY = np.array([0.5, 4.0])
SEQUENCES = np.array([[[1, 0], [2, 0], [0, 0]], [[1, 1], [1, 0], [1, 2]]])
LENGTHS = np.array([[2, 2, 1], [2, 2, 2]])
LIVE = np.arange(2) < LENGTHS[:, :, None]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [[0, 0, 0], [0, 0, 0]]),
        ("greedy", [[0.5, 0.5, 0.5], [4, 4, 4]]),
        ("mean", [[1, 1, 1], [2, 2, 2]]),
        ("leave_one_out", [[1, 1.5, 0.5], [1.5, 1.5, 3]]),
    ],
)
def test_baselines_by_hand(kind: str, expected: list[list[float]]) -> None:
    config = RLConfig.model_validate({"updates": 1, "samples": 3, "baseline": kind})
    advantage, baseline = advantages(config, SEQUENCES, LENGTHS, REWARDS, GREEDY)
    np.testing.assert_allclose(baseline, np.array(expected)[:, :, None] * LIVE)
    np.testing.assert_allclose(advantage, (REWARDS - expected)[:, :, None] * LIVE)
    np.testing.assert_allclose(baseline_values(kind, REWARDS, GREEDY), expected)


def test_a_baseline_does_not_see_its_own_sample() -> None:
    changed = REWARDS.copy()
    changed[0, 1] += 7.0
    for kind in ("none", "greedy", "leave_one_out"):
        before, after = (baseline_values(kind, rewards, GREEDY) for rewards in (REWARDS, changed))
        assert before[0, 1] == after[0, 1]


def test_normalised_advantages_have_unit_spread_and_equal_rewards_stay_zero() -> None:
    config = RLConfig(updates=1, samples=3, baseline="leave_one_out", normalize_advantage=True)
    advantage, _ = advantages(config, SEQUENCES, LENGTHS, REWARDS, None)
    plain, _ = advantages(RLConfig(updates=1, samples=3, baseline="leave_one_out"), SEQUENCES, LENGTHS, REWARDS, None)
    assert advantage[LIVE].std() == pytest.approx(1.0)
    np.testing.assert_allclose(advantage, plain / plain[LIVE].std())
    equal, _ = advantages(config, SEQUENCES, LENGTHS, np.full((2, 3), 0.3), None)
    np.testing.assert_allclose(equal, 0.0, atol=1e-9)


def test_a_prefix_baseline_by_hand() -> None:
    """Samples are compared with those that share the prefix; lone tokens with the other instance's lone tokens."""
    sequences = np.array([[[1, 2, 0], [1, 3, 0], [1, 2, 4]], [[1, 2, 0], [2, 0, 0], [3, 1, 0]]])
    lengths = np.array([[3, 3, 3], [3, 2, 3]])
    rewards = np.array([[1.0, 0.0, 4.0], [2.0, 0.0, 6.0]])
    left_out = [[2.0, 2.5, 0.5], [3.0, 4.0, 1.0]]
    baseline = prefix_baseline(sequences, lengths, rewards)
    for instance in (0, 1):  # before the first token all share the empty prefix
        np.testing.assert_allclose(baseline[instance, :, 0], left_out[instance])
    np.testing.assert_allclose(baseline[0, :, 1], left_out[0])
    np.testing.assert_allclose(baseline[0, [0, 2], 2], [4.0, 1.0])
    # Lone tokens: two of samples 0 and 2 and one of sample 1 in the second instance, one of sample 1 in the first.
    worth_of_second = (2 + 2 + 0 + 6 + 6) / (3 + 3 + 4 + 1 + 1)
    assert baseline[0, 1, 2] == pytest.approx(worth_of_second * 2.5)
    np.testing.assert_allclose(baseline[1, [0, 1, 2], 1], 0.0)  # the first instance's lone token is worth 0 / 2.5


def test_a_prefix_baseline_does_not_see_its_own_sample() -> None:
    changed = REWARDS.copy()
    changed[0, 1] += 7.0
    before, after = (prefix_baseline(SEQUENCES, LENGTHS, rewards) for rewards in (REWARDS, changed))
    np.testing.assert_allclose(before[0, 1], after[0, 1])
    assert before[0, 0, 0] != after[0, 0, 0]
