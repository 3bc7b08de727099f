"""Losses: pure functions of logits at real tokens.

``N`` is the number of real tokens of a batch, packed row by row; ``C`` the number of choices. Impossible choices have
logits near −1e9, whose probability is exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IMPOSSIBLE = -1e8


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """−log p of each token (N,), from logits (N, C) and targets (N,)."""
    return F.cross_entropy(logits, targets, reduction="none")


def label_smoothing(logits: Tensor, targets: Tensor) -> Tensor:
    """What smoothing by the uniform law over the possible choices adds to −log p(target), per unit of its share.

    Szegedy et al. 2016, sec. 7. With the normaliser log Z, −log p(target) is log Z − x_target and the uniform law's
    cross-entropy is log Z − mean x; the difference x_target − mean x needs no softmax.

    Args:
        logits: (N, C).
        targets: (N,).

    Returns:
        (N,).
    """
    possible = logits > IMPOSSIBLE
    mean = torch.where(possible, logits, 0.0).sum(-1) / possible.sum(-1)
    return logits.gather(1, targets[:, None])[:, 0] - mean


def kl_divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(p ‖ q) of each token's law (N,) from logits (N, C); exact over all choices."""
    log_p, log_q = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of each token's law (N,) from logits (N, C)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
