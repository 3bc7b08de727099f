"""Baselines: what is subtracted from the reward, and the advantages that are left.

All leave the gradient's expectation unchanged (Williams 1992, sec. 4), but ``mean``, which is scaled by (K − 1)/K since
it holds the sample's reward. Those with a state are kept by the trainer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from rlseq.config.baselines import BaselineConfig, RunningMeanConfig
from rlseq.config.rl import RLConfig

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ROUNDING = 1e-9  # rewards that differ by less, in units of the largest, count as equal


class Baseline(ABC):
    """What is subtracted from the rewards of samples; a new one for each phase, and for each run that goes on.

    Args:
        section: Its section of the configuration.
        state: What ``state`` gave; empty for a new one.
    """

    def __init__(self, section: BaselineConfig, state: Mapping[str, float] = MappingProxyType({})) -> None:
        self.section = section

    @abstractmethod
    def values(self, rewards: Floats, greedy: Floats | None) -> Floats:
        """The baseline of each sample, (batch_size, K).

        Args:
            rewards: (batch_size, K) of the samples.
            greedy: (batch_size,) of the greedy sequences; None if they were not decoded.
        """

    def add(self, reward: float) -> None:  # noqa: B027 - most baselines know of no other batch
        """Take in a batch's mean reward, after its update: a baseline that has seen the batch would bias it."""

    @property
    def state(self) -> dict[str, float]:
        """What is saved with a checkpoint, and sent with an update."""
        return {}


class NoBaseline(Baseline):
    """0."""

    def values(self, rewards: Floats, greedy: Floats | None) -> Floats:
        """See the base class."""
        return np.zeros_like(rewards)


class Critic(NoBaseline):
    """0: the critic's values are subtracted at each token, when the update reads the samples again."""


class Greedy(Baseline):
    """The greedy sequence's reward (Rennie et al. 2017, self-critical)."""

    def values(self, rewards: Floats, greedy: Floats | None) -> Floats:
        """See the base class."""
        assert greedy is not None
        return np.broadcast_to(greedy[:, None], rewards.shape)


class Mean(Baseline):
    """The instance's mean over its K samples."""

    def values(self, rewards: Floats, greedy: Floats | None) -> Floats:
        """See the base class."""
        return np.broadcast_to(rewards.mean(1, keepdims=True), rewards.shape)


class LeaveOneOut(Baseline):
    """The mean over the instance's other K − 1 samples (Kool et al. 2019)."""

    def values(self, rewards: Floats, greedy: Floats | None) -> Floats:
        """See the base class."""
        return (rewards.sum(1, keepdims=True) - rewards) / (rewards.shape[1] - 1)


class RunningMean(Baseline):
    """Exponential moving average of past batches' mean rewards: Sutton's reinforcement comparison (1984).

    It is divided by the weight of what it has seen, as Adam's moments are (Kingma & Ba 2015), so that it does not begin
    near 0.

    Attributes:
        total: Weighted sum of the mean rewards.
        weight: Sum of their weights.
    """

    section: RunningMeanConfig

    def __init__(self, section: BaselineConfig, state: Mapping[str, float] = MappingProxyType({})) -> None:
        super().__init__(section)
        self.total, self.weight = state.get("total", 0.0), state.get("weight", 0.0)

    @property
    def value(self) -> float:
        """The average; 0 before the first batch."""
        return self.total / self.weight if self.weight else 0.0

    def values(self, rewards: Floats, greedy: Floats | None) -> Floats:
        """See the base class."""
        return np.full_like(rewards, self.value)

    def add(self, reward: float) -> None:
        """See the base class."""
        decay = self.section.decay
        self.total = decay * self.total + (1.0 - decay) * reward
        self.weight = decay * self.weight + (1.0 - decay)

    @property
    def state(self) -> dict[str, float]:
        """See the base class."""
        return {"total": self.total, "weight": self.weight}


BASELINES: dict[str, type[Baseline]] = {
    "greedy": Greedy,
    "none": NoBaseline,
    "mean": Mean,
    "leave_one_out": LeaveOneOut,
    "running_mean": RunningMean,
    "critic": Critic,
}


def build_baseline(section: BaselineConfig, state: Mapping[str, float] = MappingProxyType({})) -> Baseline:
    """The baseline of a section, with the state that it had; a state of another baseline is ignored."""
    return BASELINES[section.type](section, state)


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


def alike(rewards: Floats) -> Bools:
    """Whether all samples of an instance have the same reward, (batch_size,), from (batch_size, K)."""
    return np.ptp(rewards, axis=1) <= ROUNDING * np.abs(rewards).max(axis=1)


def inverse_deviation(rewards: Floats) -> Floats:
    """1 / the standard deviation of an instance's rewards, 0 if they are alike: (batch_size,), from (batch_size, K)."""
    deviation, equal = rewards.std(axis=1), alike(rewards)
    return np.where(equal, 0.0, 1.0 / np.where(equal, 1.0, deviation))


def advantages(
    config: RLConfig, baseline: Baseline, sampled: Bools, rewards: Floats, greedy: Floats | None
) -> tuple[Floats, Floats]:
    """Advantages and baselines of each token, as the configuration asks.

    Args:
        config: The phase's section.
        baseline: What is subtracted.
        sampled: (batch_size, K, time) True at the tokens that were sampled.
        rewards: (batch_size, K).
        greedy: (batch_size,) of the greedy sequences; None if they were not decoded.

    Returns:
        Twice (batch_size, K, time), 0 if nothing was sampled.
    """
    subtracted = baseline.values(rewards, greedy)[:, :, None] * sampled
    advantage = rewards[:, :, None] * sampled - subtracted
    if config.normalize_advantage == "batch":
        advantage /= max(float(advantage[sampled].std()), 1e-6)
    if config.normalize_advantage == "instance":
        advantage *= inverse_deviation(rewards)[:, None, None]
    return advantage, subtracted
