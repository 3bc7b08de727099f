"""Minimum risk training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rlseq.config.objectives import MRTConfig
from rlseq.objectives.base import Columns, Ints, Objective, Samples, Scored, Statistics, first_of_equals
from rlseq.objectives.losses import totals


class MinimumRisk(Objective[MRTConfig]):
    """The expected −reward under the policy renormalised over an instance's candidates: see ``minimum_risk``.

    The candidates are the distinct ones of the samples and, if asked for, the reference.
    """

    uses_advantages = False

    @property
    def compares_reference(self) -> bool:
        """See the base class."""
        return self.section.reference

    def columns(self, samples: Samples, batch: Columns) -> Columns:
        """The candidates take the place of the samples; the policy did not visit the reference's states."""
        sequences, lengths, rewards = samples.sequences, samples.lengths, samples.rewards
        state_weights = batch["state_weights"]
        if samples.reference is not None:
            reference, reference_lengths, reference_rewards = samples.reference
            sequences = _beside(sequences, reference * (np.arange(reference.shape[1]) < reference_lengths[:, None]))
            lengths = np.column_stack([lengths, reference_lengths])
            rewards = np.column_stack([rewards, reference_rewards])
            state_weights = np.pad(state_weights, ((0, 0), (0, 1)))
        distinct = first_of_equals(sequences) == np.arange(sequences.shape[1])
        target_mask = np.arange(sequences.shape[2]) < lengths[:, :, None]
        divisor = self.rl.loss_divisor(len(sequences), 0)
        return {
            "targets": sequences,
            "target_lengths": lengths,
            "weights": (distinct[:, :, None] * target_mask / divisor).astype(np.float32),
            "state_weights": state_weights,
            "rewards": rewards.astype(np.float32),
        }

    def statistics(self, batch: Columns) -> dict[str, float]:
        """See the base class."""
        return {"rollout/candidates_mean": float(batch["weights"].any(2).sum(1).mean())}

    def loss(self, scored: Scored, weights: Tensor) -> tuple[Tensor, Statistics]:
        """See the base class."""
        log_probs, rewards = scored.log_probs(), scored.batch["rewards"]
        of_rows = totals(log_probs, scored.lengths)
        of_candidates = log_probs.new_zeros(rewards.numel()).index_copy_(0, scored.rows, of_rows).view_as(rewards)
        of_rows, value = minimum_risk(of_candidates, rewards, scored.batch["weights"][:, :, 0], self.section.alpha)
        return scored.surrogate(of_rows.flatten()[scored.rows].repeat_interleave(scored.lengths), value), {}


def minimum_risk(log_probs: Tensor, rewards: Tensor, weights: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Minimum risk training (Shen et al. 2016, eqs. 8-10), with −reward as the loss of a candidate.

    The risk of an instance is Σ_y Q(y) (−reward(y)) with Q(y) = p(y)^α / Σ_z p(z)^α, z running over its candidates.
    ∂Q(y)/∂log p(z) = α Q(y) (1[y = z] − Q(z)), hence w(y) = α Q(y) (reward(y) − Σ_z Q(z) reward(z)).

    Args:
        log_probs: (batch_size, K) of whole sequences.
        rewards: (batch_size, K).
        weights: (batch_size, K) the instance's weight at its candidates, which are distinct; 0 elsewhere.
        alpha: Sharpness of Q.

    Returns:
        w (batch_size, K), and the weighted sum of the instances' risks.
    """
    probabilities = (alpha * log_probs).masked_fill(weights == 0, -torch.inf).softmax(1)
    expected = (probabilities * rewards).sum(1, keepdim=True)
    gradient = weights * alpha * probabilities * (rewards - expected)
    return gradient, -(weights * probabilities * rewards).sum()


def _beside(sequences: Ints, more: Ints) -> Ints:
    """(batch_size, K, time) and (batch_size, time) as (batch_size, K + 1, time), padded with END to the longer."""
    time = max(sequences.shape[2], more.shape[1])
    wide = np.pad(sequences, ((0, 0), (0, 0), (0, time - sequences.shape[2])))
    return np.concatenate([wide, np.pad(more, ((0, 0), (0, time - more.shape[1])))[:, None]], axis=1)
