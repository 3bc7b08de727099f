"""Proximal policy optimisation: the clipped objective."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlseq.config.objectives import PPOConfig
from rlseq.objectives.base import Columns, Objective, Samples, Scored, Statistics
from rlseq.objectives.losses import totals

Ratio = Literal["token", "sequence"]


class PPO(Objective[PPOConfig]):
    """Several optimiser steps on one batch, held near the policy that sampled it: see ``clipped_ratio``."""

    def columns(self, samples: Samples, batch: Columns) -> Columns:
        """See the base class."""
        assert samples.token_log_probs is not None
        columns: Columns = {"token_log_probs": samples.token_log_probs}
        return columns | ({"sampled": samples.sampled} if samples.some_given else {})

    def loss(self, scored: Scored, weights: Tensor) -> tuple[Tensor, Statistics]:
        """See the base class."""
        log_ratios = scored.log_probs() - scored.of_tokens("token_log_probs")
        if "sampled" in scored.batch:  # what was given has probability 1 under either policy
            log_ratios = log_ratios * scored.of_tokens("sampled")
        bounds, ratio = self.section.bounds, self.section.ratio
        weights, value, stats = clipped_ratio(log_ratios, weights, scored.lengths, bounds, ratio)
        return scored.surrogate(weights, value), stats


def clipped_ratio(
    log_ratios: Tensor, advantages: Tensor, lengths: Tensor, clip: tuple[float, float], ratio: Ratio
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """PPO's clipped objective (Schulman et al. 2017, eq. 7): −Σ_t min(r_t A_t, clip(r_t, 1 − ε, 1 + ε′) A_t).

    r is p / q of the token, or of the sequence: there the geometric mean of its tokens' ratios, with GSPO-token's
    gradient (Zheng et al. 2025, eqs. 7 and 14), summed over tokens where the paper divides by the length. At p = q
    either has REINFORCE's gradient. In the paper ε′ is ε; DAPO raises it (Yu et al. 2025, eq. 10).

    Args:
        log_ratios: (N,) log p − log q of each token; q is what it was sampled from.
        advantages: (N,), weights of the loss included.
        lengths: (rows,) tokens of each sequence, N in all.
        clip: ε and ε′.
        ratio: Of what.

    Returns:
        w (N,), the objective, and by tag the fraction of tokens that are clipped and an estimate of KL(q ‖ p) a token.
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
