"""Baselines: what is subtracted from the reward, and the advantages that are left.

All leave the gradient's expectation unchanged (Williams 1992, sec. 4), but ``mean``, which is scaled by (K − 1)/K since
it holds the sample's own reward. All are functions of one batch of rollouts, but ``running_mean``, whose state the
trainer keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlseq.config.rl import RLConfig

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ROUNDING = 1e-9  # rewards that differ by less, in units of the largest, count as equal


@dataclass
class RunningMean:
    """Exponential moving average of past batches' mean rewards: Sutton's reinforcement comparison (1984).

    It is divided by the weight of what it has seen, as Adam's moments are (Kingma & Ba 2015), so that it does not begin
    near 0.

    Attributes:
        total: Weighted sum of the mean rewards.
        weight: Sum of their weights.
    """

    total: float = 0.0
    weight: float = 0.0

    @property
    def value(self) -> float:
        """The average; 0 before the first batch."""
        return self.total / self.weight if self.weight else 0.0

    def add(self, reward: float, decay: float) -> None:
        """Take in a batch's mean reward, after its update: a baseline that has seen the batch would bias it."""
        self.total = decay * self.total + (1.0 - decay) * reward
        self.weight = decay * self.weight + (1.0 - decay)


def rewards_seen(config: RLConfig, rewards: Floats, seed: int) -> Floats:
    """What training takes for rewards: the task's, or those of a control that says nothing about the outputs.

    Choshen et al. (2020) ask for such controls: sharpening alone raises many metrics.

    Args:
        config: The phase's section.
        rewards: (batch_size, K) the task's.
        seed: Of the permutation of ``shuffled`` rewards over the instances, all of an instance's together.
    """
    if config.reward_source == "constant":
        return np.ones_like(rewards)
    if config.reward_source == "shuffled":
        return np.random.default_rng(seed).permutation(rewards)
    return rewards


def training_rewards(config: RLConfig, rewards: Floats) -> Floats:
    """The task's rewards as training sees them: clipped first, so that the bounds are the task's, then scaled.

    A scale multiplies the gradient; clipping (Mnih et al. 2015, Methods) changes what is optimised.
    """
    if config.reward_clip is not None:
        rewards = rewards.clip(*config.reward_clip)
    return rewards * config.reward_scale


def baseline_values(kind: str, rewards: Floats, greedy: Floats | None, running_mean: float = 0.0) -> Floats:
    """The baseline of each sample.

    Args:
        kind: ``none``: 0; ``greedy``: the greedy sequence's reward (Rennie et al. 2017, self-critical);
            ``mean``: the instance's mean over its K samples; ``leave_one_out``: the mean over its other K − 1 samples
            (Kool et al. 2019); ``running_mean``: ``RunningMean.value`` of earlier batches; ``critic``: 0 here, its
            values are subtracted where the update is done.
        rewards: (batch_size, K) of the samples.
        greedy: (batch_size,) of the greedy sequences; needed by ``greedy`` alone.
        running_mean: Needed by ``running_mean`` alone.

    Returns:
        (batch_size, K).
    """
    if kind in ("none", "critic"):
        return np.zeros_like(rewards)
    if kind == "greedy":
        assert greedy is not None
        return np.broadcast_to(greedy[:, None], rewards.shape)
    if kind == "mean":
        return np.broadcast_to(rewards.mean(1, keepdims=True), rewards.shape)
    if kind == "running_mean":
        return np.full_like(rewards, running_mean)
    return (rewards.sum(1, keepdims=True) - rewards) / (rewards.shape[1] - 1)


def alike(rewards: Floats) -> Bools:
    """Whether all samples of an instance have the same reward, (batch_size,), from (batch_size, K)."""
    return np.ptp(rewards, axis=1) <= ROUNDING * np.abs(rewards).max(axis=1)


def inverse_deviation(rewards: Floats) -> Floats:
    """1 / the standard deviation of an instance's rewards, 0 if they are alike: (batch_size,), from (batch_size, K)."""
    deviation, equal = rewards.std(axis=1), alike(rewards)
    return np.where(equal, 0.0, 1.0 / np.where(equal, 1.0, deviation))


def advantages(
    config: RLConfig, live: Bools, rewards: Floats, greedy: Floats | None, running_mean: float = 0.0
) -> tuple[Floats, Floats]:
    """Advantages and baselines of each token, as the configuration asks.

    Args:
        config: The phase's section.
        live: (batch_size, K, time) True at the tokens that were sampled.
        rewards: (batch_size, K).
        greedy: (batch_size,) of the greedy sequences; needed by the greedy baseline alone.
        running_mean: Of earlier batches; needed by that baseline alone.

    Returns:
        Twice (batch_size, K, time), 0 where nothing was sampled.
    """
    baseline = baseline_values(config.baseline, rewards, greedy, running_mean)[:, :, None] * live
    advantage = rewards[:, :, None] * live - baseline
    if config.normalize_advantage == "batch":
        advantage /= max(float(advantage[live].std()), 1e-6)
    if config.normalize_advantage == "instance":
        advantage *= inverse_deviation(rewards)[:, None, None]
    return advantage, baseline
