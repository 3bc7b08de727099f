"""Losses: pure functions of logits at the tokens of sequences.

``N`` is the number of tokens of a batch, packed row by row without padding; ``C`` is the number of choices. Choices
that cannot be made have the logit ``IMPOSSIBLE``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rlseq.objectives.distribution import POLICY, SamplingDistribution
from rlseq.objectives.logits import is_possible

CHUNK = 256  # rows of logits that exist at once

Head = tuple[Tensor, Tensor]  # weight (C, D) and bias (C,) of the layer that turns features into logits


def weighted_nll(
    features: Tensor,
    head: Head | None,
    targets: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    distribution: SamplingDistribution = POLICY,
) -> tuple[Tensor, Tensor]:
    """Σ w · (−log p(target) + smoothing), the sum that both phases minimise.

    Args:
        features: (N, D), what ``head`` reads; logits (N, C) if there is no head.
        head: Weight and bias.
        targets: (N,).
        weights: (N,) of each token.
        smoothing: Weight of label smoothing.
        distribution: What the targets were sampled from; p is theirs under it.

    Returns:
        The scalar loss, and −log p of each target, (N,), detached.
    """
    if head is not None:
        loss, nll = ProjectedNLL.apply(features, *head, targets, weights, smoothing, distribution)
        return loss, nll
    logits = distribution.logits(_widened(features), targets)
    nll = negative_log_likelihood(logits, targets)
    values = nll + smoothing * label_smoothing(logits, targets) if smoothing else nll
    return (values * weights).sum(), nll.detach()


class ProjectedNLL(torch.autograd.Function):
    """Projection and loss in one, chunk by chunk, the gradients formed in the forward.

    The logits of all tokens never exist at once, and are passed over while they are in the cache. The gradient of
    −log p(y) + s (x_y − mean x) by the logits x is p − (1 − s) e_y − s / C, of the C choices that are possible.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        weights: Tensor,
        smoothing: float,
        distribution: SamplingDistribution,
    ) -> tuple[Tensor, Tensor]:
        """Arguments as of ``weighted_nll``."""
        with torch.autocast(features.device.type, enabled=False):
            grads, loss, nll = _project(features, weight, bias, targets, weights, smoothing, distribution)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Of features, weight and bias."""
        return *(grads[0] * saved for saved in ctx.saved_tensors), None, None, None, None


def _project(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float,
    distribution: SamplingDistribution,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Gradients by features, weight and bias; the loss; −log p of each target. Products have the features' type."""
    grads = [torch.empty_like(features), torch.zeros_like(weight), torch.zeros_like(bias)]
    loss, nll = bias.new_zeros(()), bias.new_empty(len(features))
    cast_weight, cast_bias = weight.to(features.dtype), bias.to(features.dtype)
    for start in range(0, len(features), CHUNK):
        part = slice(start, start + CHUNK)
        logits = distribution.logits(_widened(F.linear(features[part], cast_weight, cast_bias)), targets[part])
        extra = smoothing * label_smoothing(logits, targets[part]) if smoothing else 0.0
        probabilities = logits.softmax(-1)
        # log Z − max x is −log of the largest probability: no pass over the exponentials, and no underflow.
        below = logits.amax(-1) - logits.gather(1, targets[part, None])[:, 0]
        nll[part] = below - probabilities.amax(-1).log()
        loss += ((nll[part] + extra) * weights[part]).sum()
        by_logits = _by_logits(
            probabilities, logits, targets[part], smoothing, weights[part] / distribution.temperature
        )
        _accumulate(grads, part, features, cast_weight, by_logits)
    return grads, loss, nll


def _by_logits(probabilities: Tensor, logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor) -> Tensor:
    """The loss's gradient by the logits (N, C), made of the probabilities in place."""
    less = probabilities.new_full((len(probabilities), 1), smoothing - 1.0)
    probabilities.scatter_add_(1, targets[:, None], less)
    if smoothing:
        possible = is_possible(logits)
        probabilities -= possible * (smoothing / possible.sum(-1, keepdim=True))
    return probabilities.mul_(weights[:, None])


def _accumulate(grads: list[Tensor], part: slice, features: Tensor, weight: Tensor, by_logits: Tensor) -> None:
    grads[2].add_(by_logits.sum(0))
    by_logits = by_logits.to(features.dtype)
    torch.mm(by_logits, weight, out=grads[0][part])
    if features.dtype == grads[1].dtype:
        grads[1].addmm_(by_logits.t(), features[part])
    else:
        grads[1].add_(by_logits.t() @ features[part])


def _widened(values: Tensor) -> Tensor:
    """The values in fp32, if they are in less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@torch.no_grad()
def importance_weights(logits: Tensor, targets: Tensor, lengths: Tensor, log_probs: Tensor, cap: float) -> Tensor:
    """p(sequence) / q(sequence), cut at ``cap``: truncated importance sampling (Ionides 2008).

    Args:
        logits: (N, C) of p.
        targets: (N,).
        lengths: (rows,) tokens of each sequence, N in all.
        log_probs: (rows,) under q, which they were drawn from.
        cap: The largest weight.

    Returns:
        (rows,).
    """
    ours = totals(-negative_log_likelihood(_widened(logits), targets).to(log_probs), lengths)
    return (ours - log_probs).exp().clamp(max=cap).float()


@torch.no_grad()
def token_log_probs(
    features: Tensor, head: Head | None, targets: Tensor, distribution: SamplingDistribution = POLICY
) -> Tensor:
    """Log-probability of each target (N,), chunk by chunk; arguments as of ``weighted_nll``."""
    parts = []
    for part, chosen in zip(features.split(CHUNK), targets.split(CHUNK), strict=True):
        with torch.autocast(features.device.type, enabled=False):
            logits = part if head is None else F.linear(part, *(tensor.to(part.dtype) for tensor in head))
            parts.append(-negative_log_likelihood(distribution.logits(_widened(logits), chosen), chosen))
    return torch.cat(parts)


def totals(values: Tensor, lengths: Tensor) -> Tensor:
    """Sums (rows,) of packed values (N,) over each row's tokens."""
    row = torch.repeat_interleave(lengths)
    return values.new_zeros(len(lengths)).index_add_(0, row, values)


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """−log p of each token (N,), from logits (N, C) and targets (N,)."""
    return F.cross_entropy(logits, targets, reduction="none")


def label_smoothing(logits: Tensor, targets: Tensor) -> Tensor:
    """What smoothing by the uniform distribution over the possible choices adds to −log p(target), at weight 1.

    Szegedy et al. 2016, sec. 7. With the normaliser log Z, −log p(target) is log Z − x_target and the uniform
    distribution's cross-entropy is log Z − mean x; the difference x_target − mean x needs no softmax.

    Args:
        logits: (N, C).
        targets: (N,).

    Returns:
        (N,).
    """
    possible = is_possible(logits)
    mean = torch.where(possible, logits, 0.0).sum(-1) / possible.sum(-1)
    return logits.gather(1, targets[:, None])[:, 0] - mean


def kl_divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(p ‖ q) of each token's distribution (N,) from logits (N, C); exact over all choices."""
    log_p, log_q = _widened(logits).log_softmax(-1), _widened(reference_logits).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of each token's distribution (N,) from logits (N, C)."""
    log_p = _widened(logits).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
