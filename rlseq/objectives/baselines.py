"""Baselines: what is subtracted from the reward, and the advantages that are left.

All are functions of one batch of rollouts and leave the gradient's expectation unchanged (Williams 1992, sec. 4), but
``mean``, which is scaled by (K − 1)/K since it holds the sample's own reward.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rlseq.config.schema import RLConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def baseline_values(kind: str, rewards: Floats, greedy: Floats | None) -> Floats:
    """The baseline of each sample.

    Args:
        kind: ``none``: 0; ``greedy``: the greedy sequence's reward (Rennie et al. 2017, self-critical);
            ``mean``: the instance's mean over its K samples; ``leave_one_out``: the mean over its other K − 1 samples
            (Kool et al. 2019).
        rewards: (batch_size, K) of the samples.
        greedy: (batch_size,) of the greedy sequences; needed by ``greedy`` alone.

    Returns:
        (batch_size, K).
    """
    if kind == "none":
        return np.zeros_like(rewards)
    if kind == "greedy":
        assert greedy is not None
        return np.broadcast_to(greedy[:, None], rewards.shape)
    if kind == "mean":
        return np.broadcast_to(rewards.mean(1, keepdims=True), rewards.shape)
    return (rewards.sum(1, keepdims=True) - rewards) / (rewards.shape[1] - 1)


def advantages(
    config: RLConfig, lengths: Ints, time: int, rewards: Floats, greedy: Floats | None
) -> tuple[Floats, Floats]:
    """Advantages and baselines of each token, as the configuration asks.

    Args:
        config: The phase's section.
        lengths: (batch_size, K) of the samples.
        time: The longest of them.
        rewards: (batch_size, K).
        greedy: (batch_size,) of the greedy sequences; needed by the greedy baseline alone.

    Returns:
        Twice (batch_size, K, time), 0 beyond a length.
    """
    live = np.arange(time) < lengths[:, :, None]
    baseline = baseline_values(config.baseline, rewards, greedy)[:, :, None] * live
    advantage = rewards[:, :, None] * live - baseline
    if config.normalize_advantage:
        advantage /= max(float(advantage[live].std()), 1e-6)
    return advantage, baseline
