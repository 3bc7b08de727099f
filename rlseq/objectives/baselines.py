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


def leave_one_out(rewards: Floats) -> Floats:
    """The mean over the instance's other K − 1 samples (Kool et al. 2019): (batch_size, K) from (batch_size, K)."""
    count = rewards.shape[1]
    return (rewards.sum(1, keepdims=True) - rewards) / (count - 1)


def baseline_values(kind: str, rewards: Floats, greedy: Floats | None) -> Floats:
    """The baseline of each sample.

    Args:
        kind: ``none``: 0; ``greedy``: the greedy sequence's reward (Rennie et al. 2017, self-critical);
            ``mean``: the instance's mean over its K samples; ``leave_one_out``.
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
    return leave_one_out(rewards)


def prefix_baseline(sequences: Ints, lengths: Ints, rewards: Floats) -> Floats:
    """A baseline of each token: the mean reward of the instance's other samples that share the prefix before it.

    Given the prefix those are independent draws of its value, so the expectation of the gradient is unchanged and the
    credit falls on the tokens where samples part. Where no other sample shares the prefix, the leave-one-out mean
    stands in, times what such lone tokens were worth in the batch's other instances, in units of their own mean.

    Args:
        sequences: (batch_size, K, time).
        lengths: (batch_size, K).
        rewards: (batch_size, K).

    Returns:
        (batch_size, K, time); arbitrary beyond a length.
    """
    live = np.arange(sequences.shape[2]) < lengths[:, :, None]
    others = _sharing_prefix(sequences, live)
    count = others.sum(2)
    mean = np.einsum("bijt,bj->bit", others, rewards) / np.maximum(count, 1)
    alone = live & (count == 0)
    left_out = np.broadcast_to(leave_one_out(rewards)[:, :, None], live.shape)
    worth = _in_other_instances(np.where(alone, rewards[:, :, None], 0.0), np.where(alone, left_out, 0.0))
    return np.where(count > 0, mean, worth[:, None, None] * left_out)


def _sharing_prefix(sequences: Ints, live: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """[b, i, j, t]: sample j ≠ i of instance b has the tokens of sample i before t, and neither had ended."""
    equal = (sequences[:, :, None] == sequences[:, None]) & live[:, :, None] & live[:, None]
    shared = np.ones_like(equal)
    np.logical_and.accumulate(equal[..., :-1], axis=-1, out=shared[..., 1:])
    itself = np.arange(sequences.shape[1])
    shared[:, itself, itself] = False
    return shared & live[:, :, None]


def _in_other_instances(numerator: Floats, denominator: Floats) -> Floats:
    """Ratio of the sums over all instances but one, for each one left out: (batch_size,); 1 where there is nothing."""
    above, below = numerator.sum((1, 2)), denominator.sum((1, 2))
    above, below = above.sum() - above, below.sum() - below
    return np.divide(above, below, out=np.ones_like(above), where=below > 1e-9)


def advantages(
    config: RLConfig, sequences: Ints, lengths: Ints, rewards: Floats, greedy: Floats | None
) -> tuple[Floats, Floats]:
    """Advantages and baselines of each token, as the configuration asks.

    Args:
        config: The phase's section.
        sequences: (batch_size, K, time) the samples.
        lengths: (batch_size, K).
        rewards: (batch_size, K).
        greedy: (batch_size,) of the greedy sequences; needed by the greedy baseline alone.

    Returns:
        Twice (batch_size, K, time), 0 beyond a length.
    """
    live = np.arange(sequences.shape[2]) < lengths[:, :, None]
    if config.baseline == "prefix":
        baseline = prefix_baseline(sequences, lengths, rewards)
    else:
        baseline = np.broadcast_to(baseline_values(config.baseline, rewards, greedy)[:, :, None], live.shape)
    advantage = np.where(live, rewards[:, :, None] - baseline, 0.0)
    if config.normalize_advantage:
        advantage /= max(float(advantage[live].std()), 1e-6)
    return advantage, np.where(live, baseline, 0.0)
