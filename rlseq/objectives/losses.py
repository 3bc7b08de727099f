"""Losses: pure functions of logits at real tokens.

``N`` is the number of real tokens of a batch, packed row by row; ``C`` the number of choices. Impossible choices have
logits near −1e9, whose probability is exactly 0.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

IMPOSSIBLE = -1e8


def negative_log_likelihood(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """−log p of each token (N,), or label-smoothed (Szegedy et al. 2016, sec. 7) over the possible choices.

    Args:
        logits: (N, C).
        targets: (N,).
        smoothing: Share ε of the uniform law: (1 − ε)(−log p(target)) + ε · mean over choices of −log p.
    """
    if not smoothing:
        return F.cross_entropy(logits, targets, reduction="none")
    log_probs = logits.log_softmax(-1)
    possible = logits > IMPOSSIBLE
    uniform = -(log_probs * possible).sum(-1) / possible.sum(-1)
    return (1 - smoothing) * -log_probs.gather(1, targets[:, None])[:, 0] + smoothing * uniform


def kl_divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(p ‖ q) of each token's law (N,) from logits (N, C); exact over all choices."""
    log_p, log_q = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of each token's law (N,) from logits (N, C)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
