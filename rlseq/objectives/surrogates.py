"""Objectives beside REINFORCE: functions of the log-probabilities of what was sampled.

The gradient of each is Σ w ∇(−log p) with weights w that follow from the log-probabilities alone, so all share the
fused projection and loss of ``losses.weighted_nll``. They give w and the objective's value; neither carries a graph.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlseq.objectives.losses import totals

Ratio = Literal["token", "sequence"]


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
    law = (alpha * log_probs).masked_fill(weights == 0, -torch.inf).softmax(1)
    expected = (law * rewards).sum(1, keepdim=True)
    return weights * alpha * law * (rewards - expected), -(weights * law * rewards).sum()


def clipped_ratio(
    log_ratios: Tensor, advantages: Tensor, lengths: Tensor, clip: tuple[float, float], ratio: Ratio
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """PPO's clipped objective (Schulman et al. 2017, eq. 7): −Σ_t min(r_t A_t, clip(r_t, 1 − ε, 1 + ε′) A_t).

    r is p / q of the token, or of the sequence: there the geometric mean of its tokens' ratios, with GSPO-token's
    gradient (Zheng et al. 2025, eqs. 7 and 14), summed over tokens where the paper divides by the length. At p = q
    either has REINFORCE's gradient. In the paper ε′ is ε; DAPO raises it (Yu et al. 2025, eq. 10).

    Args:
        log_ratios: (N,) log p − log q of each token; q is the law it was sampled from.
        advantages: (N,), weights of the loss included.
        lengths: (rows,) tokens of each sequence, N in all.
        clip: ε and ε′.
        ratio: Of what.

    Returns:
        w (N,), the objective, and by tag the share of tokens that are clipped and an estimate of KL(q ‖ p) a token.
    """
    if ratio == "sequence":
        log_ratios = (totals(log_ratios, lengths) / lengths).repeat_interleave(lengths)
    ratios = log_ratios.exp()
    reward = ratios * advantages
    bounded = ratios.clamp(1.0 - clip[0], 1.0 + clip[1]) * advantages
    clipped = bounded < reward
    count = max(1, len(ratios))
    stats = {
        "train/clip_frac": clipped.sum() / count,
        "train/approx_kl": (ratios - 1.0 - log_ratios).sum() / count,
    }
    return reward.masked_fill(clipped, 0.0), -torch.minimum(reward, bounded).sum(), stats
