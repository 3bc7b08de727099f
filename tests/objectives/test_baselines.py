"""Baselines by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlseq.config.baselines import BASELINE_SECTIONS, BaselineConfig, RunningMeanConfig
from rlseq.config.rl import RLConfig
from rlseq.objectives.baselines import (
    BASELINES,
    Baseline,
    RunningMean,
    advantages,
    alike,
    build_baseline,
    rewards_seen,
    training_rewards,
)

REWARDS = np.array([[1.0, 0.0, 2.0], [3.0, 3.0, 0.0]])
GREEDY = np.array([0.5, 4.0])
LENGTHS = np.array([[2, 2, 1], [2, 2, 2]])
SAMPLED = np.arange(2) < LENGTHS[:, :, None]


def rl(**keys: Any) -> RLConfig:
    return RLConfig.model_validate({"updates": 1} | keys)


def section(kind: str) -> BaselineConfig:
    sections: list[Any] = list(BASELINE_SECTIONS)
    (found,) = (section for section in sections if section().type == kind)
    return found()


def test_every_section_has_its_class() -> None:
    assert list(BASELINES) == [section.model_fields["type"].default for section in BASELINE_SECTIONS]


def test_a_state_of_another_baseline_is_ignored() -> None:
    for kind in BASELINES.keys() - {"running_mean"}:
        made = build_baseline(section(kind), {"total": 3.0, "weight": 1.0})
        made.add(5.0)
        assert made.state == {}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [[0, 0, 0], [0, 0, 0]]),
        ("greedy", [[0.5, 0.5, 0.5], [4, 4, 4]]),
        ("mean", [[1, 1, 1], [2, 2, 2]]),
        ("leave_one_out", [[1, 1.5, 0.5], [1.5, 1.5, 3]]),
        ("running_mean", [[0.75] * 3, [0.75] * 3]),
    ],
)
def test_baselines_by_hand(kind: str, expected: list[list[float]]) -> None:
    config = RLConfig.model_validate({"updates": 1, "samples": 3, "baseline": kind})
    made = build_baseline(config.baseline, {"total": 0.75, "weight": 1.0})
    advantage, baseline = advantages(config, made, SAMPLED, REWARDS, GREEDY)
    np.testing.assert_allclose(baseline, np.array(expected)[:, :, None] * SAMPLED)
    np.testing.assert_allclose(advantage, (REWARDS - expected)[:, :, None] * SAMPLED)
    np.testing.assert_allclose(made.values(REWARDS, GREEDY), expected)


def test_a_baseline_does_not_see_its_own_sample() -> None:
    changed = REWARDS.copy()
    changed[0, 1] += 7.0
    for kind in BASELINES.keys() - {"mean"}:
        before, after = (BASELINES[kind](section(kind)).values(rewards, GREEDY) for rewards in (REWARDS, changed))
        assert before[0, 1] == after[0, 1]


def test_normalised_advantages_have_unit_spread_and_equal_rewards_stay_zero() -> None:
    config = rl(samples=3, baseline="leave_one_out", normalize_advantage="batch")
    loo = build_baseline(config.baseline)
    advantage, _ = advantages(config, loo, SAMPLED, REWARDS, None)
    plain, _ = advantages(rl(samples=3, baseline="leave_one_out"), loo, SAMPLED, REWARDS, None)
    assert advantage[SAMPLED].std() == pytest.approx(1.0)
    np.testing.assert_allclose(advantage, plain / plain[SAMPLED].std())
    equal, _ = advantages(config, loo, SAMPLED, np.full((2, 3), 0.3), None)
    np.testing.assert_allclose(equal, 0.0, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e6])
def test_advantages_by_instance_have_unit_spread_and_samples_that_are_alike_teach_nothing(scale: float) -> None:
    config = rl(samples=3, baseline="mean", normalize_advantage="instance")
    rewards = scale * np.array([[1.0, 0.0, 2.0], [0.1 + 0.2, 0.3, 0.3], [0.0, 0.0, 0.0]])
    advantage, _ = advantages(config, build_baseline(config.baseline), np.ones((3, 3, 2), bool), rewards, None)
    np.testing.assert_allclose(advantage[0, :, 0], np.array([0, -1, 1]) * np.sqrt(1.5), atol=1e-12)
    assert not advantage[1:].any()  # 0.1 + 0.2 is 0.3 but for rounding
    assert alike(rewards).tolist() == [False, True, True]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.sampled_from([0.0, 0.5, 0.95]))
def test_the_running_mean_is_weighted_by_powers_of_its_decay(rewards: list[float], decay: float) -> None:
    mean: Baseline = RunningMean(RunningMeanConfig(decay=decay))
    assert isinstance(mean, RunningMean) and mean.value == 0.0
    for reward in rewards:
        mean.add(reward)
        mean = build_baseline(mean.section, mean.state)  # as a run that goes on does
    assert isinstance(mean, RunningMean)
    weights = decay ** np.arange(len(rewards))[::-1]
    assert mean.value == pytest.approx(np.average(rewards, weights=weights), abs=1e-9)


def test_rewards_are_clipped_in_their_own_units_and_then_scaled() -> None:
    config = RLConfig(updates=1, reward_clip=(0.5, 2.5), reward_scale=10.0)
    np.testing.assert_array_equal(training_rewards(config, REWARDS), [[10, 5, 20], [25, 25, 5]])
    np.testing.assert_array_equal(training_rewards(RLConfig(updates=1), REWARDS), REWARDS)


def test_controls_see_rewards_that_say_nothing() -> None:
    rewards = np.arange(12.0).reshape(6, 2)
    constant = rewards_seen(rl(reward_source="constant", baseline="none"), rewards, seed=3)
    assert (constant == 1.0).all()
    shuffled = rewards_seen(rl(reward_source="shuffled"), rewards, seed=3)
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, rewards)) and (shuffled != rewards).any()
    np.testing.assert_array_equal(shuffled, rewards_seen(rl(reward_source="shuffled"), rewards, seed=3))
    assert (shuffled != rewards_seen(rl(reward_source="shuffled"), rewards, seed=4)).any()
    assert rewards_seen(rl(), rewards, seed=3) is rewards
