"""One update: from a batch to the one loss of both phases.

loss = Σ_tokens w · −log p(token) + weighted terms of cross-entropy, KL and entropy. Cross-entropy has w = 1 / divisor
on the references; of rl, w is what the objective makes of advantages and log-probabilities: see ``rlseq.objectives``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlseq.config.baselines import CriticConfig
from rlseq.config.mle import MLEConfig
from rlseq.config.phases import PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy, length_mask
from rlseq.objectives import losses
from rlseq.objectives.attention import attention_spread
from rlseq.objectives.base import Objective, Scored, Statistics
from rlseq.objectives.credit import generalised_advantages
from rlseq.objectives.distribution import SamplingDistribution
from rlseq.objectives.registry import build_objective
from rlseq.training.batch import batch_source, split_tensors
from rlseq.training.forcing import FORCED, feeding
from rlseq.training.rollout import encode

ROWS_TOGETHER = 64  # samples that are scored together: enough for efficient products

# Added to the number of an update whose gradient's variance is estimated: the samples of its second batch are others.
RESAMPLED = 1 << 40


def batch_loss(
    policy: SequencePolicy,
    anchor: SequencePolicy | None,
    batch: dict[str, Tensor],
    config: PhaseConfig,
    memory: Memory | None = None,
    shard_size: int | None = None,
    learners: int = 1,
) -> tuple[Tensor, Statistics]:
    """The loss of a batch and its named parts, detached.

    If the configuration has a step's rows read in parts, one after the other, the gradients of all but the last part
    are added to the parameters' here, and the loss is the last part's share.

    Args:
        policy: The policy, in training mode if dropout is wanted.
        anchor: The mle policy for the KL term; needed only if ``config.kl`` is positive.
        batch: As ``mle_batch`` or ``rl_batch`` made it, as tensors on the policy's device.
        config: The phase's section.
        memory: The sources encoded under the same weights, with a graph; default: encoded here.
        shard_size: Of the rollouts: if the memory could be theirs, sources are encoded here to the same bit.
        learners: How many divide a step's rows, the batch being one's.

    Returns:
        The scalar loss, and statistics by tag.
    """
    count = min(math.ceil(config.accumulation / learners), len(batch["targets"]))
    if count == 1:
        return _loss(policy, anchor, batch, config, memory, shard_size)
    *earlier, last = split_tensors(batch, count)
    found = []
    for part in earlier:
        loss, stats = _loss(policy, anchor, part, config, None, shard_size)
        (loss / count).backward()
        found.append(stats)
    loss, stats = _loss(policy, anchor, last, config, None, shard_size)
    tokens = [part.get("reference_lengths", part["target_lengths"]).sum() for part in (*earlier, last)]
    return loss / count, joined_statistics([*found, stats], tokens)


def _loss(
    policy: SequencePolicy,
    anchor: SequencePolicy | None,
    batch: dict[str, Tensor],
    config: PhaseConfig,
    memory: Memory | None,
    shard_size: int | None,
) -> tuple[Tensor, Statistics]:
    """The loss of rows that are read together."""
    with torch.autocast(batch["targets"].device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        if memory is None:
            size = shard_size if config.encodes_once else None
            memory = encode(policy, batch_source(batch), size)
        if isinstance(config, RLConfig):
            loss, stats = _rl_loss(policy, anchor, memory, batch, config)
            idle = [] if policy.attention_target is None else [policy.attention_target]
        else:
            assert isinstance(config, MLEConfig)
            loss, stats = _mle_loss(policy, memory, batch, config)
            idle = [] if policy.critic is None else list(policy.critic.parameters())
        # Data-parallel training needs a gradient for every parameter, in each phase.
        return loss + sum(0.0 * parameter.sum() for parameter in idle), stats


# ------------------------------------------------------------------------------------------------- cross-entropy
def _mle_loss(
    policy: SequencePolicy, memory: Memory, batch: dict[str, Tensor], config: MLEConfig
) -> tuple[Tensor, Statistics]:
    targets, lengths, weights = (batch[name][:, 0] for name in ("targets", "target_lengths", "weights"))
    mask, spread = length_mask(lengths, targets.shape[1]), config.attention_regularization
    forced = policy.forced(memory, targets, lengths, feeding(batch, config))
    loss, nll = losses.weighted_nll(forced.features, policy.head, targets[mask], weights[mask], config.label_smoothing)
    stats = {"train/loss": loss.detach(), "train/nll": nll.mean()}
    if spread:
        target = policy.attention_target
        assert target is not None
        each = attention_spread(forced.attention, mask, policy.attention_mask(memory), target)
        term = (each * weights[:, 0]).sum()  # a reference's tokens have one weight
        loss = loss + spread * term
        stats |= {"train/attention_regularization": term.detach(), "train/attention_target": target.detach().clone()}
        stats["train/loss"] = loss.detach()
    if FORCED in batch:
        stats["train/teacher_forcing"] = batch[FORCED].mean()
    return loss, stats


# ------------------------------------------------------------------------------------------------------------ rl
class _Rows(NamedTuple):
    """Sequences of a batch that are read again, shorter ones first, so that one long sample pads few others.

    Attributes:
        rows: (R,) which of the batch_size × K sequences.
        instances: (R,) whose.
        targets: (R, time).
        lengths: (R,).
        mask: (R, time) True at their tokens.
    """

    rows: Tensor
    instances: Tensor
    targets: Tensor
    lengths: Tensor
    mask: Tensor


def _rl_loss(
    policy: SequencePolicy, anchor: SequencePolicy | None, memory: Memory, batch: dict[str, Tensor], config: RLConfig
) -> tuple[Tensor, Statistics]:
    objective = build_objective(config)
    rows = _select_rows(batch, config, objective)
    features, hidden = _read_again(policy, memory, rows)
    scored = _score(policy, features, rows, batch, config, objective)
    weights, terms, stats = scored.of_tokens("weights"), [], {}
    if config.critic:
        assert policy.critic is not None and hidden is not None
        weights, errors = _subtract_values(policy.critic(hidden), scored, config.critic)
        terms, stats = [config.critic.weight * errors], {"train/value_loss": errors.detach()}
    loss, of_objective = objective.loss(scored, weights)
    stats |= of_objective | {"train/policy_loss": loss.detach()}
    extra, of_terms = _extra_terms(policy, anchor, memory, rows, scored, config)
    for term in terms + extra:
        loss = loss + term
    return loss, stats | of_terms | {"train/loss": loss.detach()}


def _reads_states(config: RLConfig) -> bool:
    """Whether a term reads whole distributions, not only what was drawn from them."""
    return bool(config.kl or config.entropy)


def _select_rows(batch: dict[str, Tensor], config: RLConfig, objective: Objective[Any]) -> _Rows:
    """Distinct sequences. One whose weights are 0 adds nothing to the objective: only another term may want it."""
    wants_all = (_reads_states(config) or config.critic is not None) and objective.uses_advantages
    read = batch["state_weights"].flatten() if wants_all else batch["weights"].flatten(0, 1).ne(0).any(-1)
    rows, all_lengths = read.nonzero()[:, 0], batch["target_lengths"].flatten()
    rows = rows[all_lengths[rows].argsort(stable=True)]
    targets, lengths = batch["targets"].flatten(0, 1)[rows], all_lengths[rows]
    instances = rows // batch["targets"].shape[1]
    return _Rows(rows, instances, targets, lengths, length_mask(lengths, targets.shape[1]))


def _read_again(policy: SequencePolicy, memory: Memory, rows: _Rows) -> tuple[Tensor, Tensor | None]:
    """Features of the tokens (N, D), and for a critic the decoder's states before them, without their graph.

    ``ROWS_TOGETHER`` sequences are read at a time, as far as the longest of them goes.
    """
    lengths = rows.lengths
    longest = lengths[ROWS_TOGETHER - 1 :: ROWS_TOGETHER].tolist() + lengths[-1:].tolist()
    columns = (rows.instances, rows.targets, lengths)
    parts = zip(*(column.split(ROWS_TOGETHER) for column in columns), longest or [1], strict=False)
    forced = [policy.forced(memory.select(of), targets[:, :time], counts) for of, targets, counts, time in parts]
    hidden = None if policy.critic is None else torch.cat([part.hidden.detach() for part in forced])
    return torch.cat([part.features for part in forced]), hidden


def _score(
    policy: SequencePolicy,
    features: Tensor,
    rows: _Rows,
    batch: dict[str, Tensor],
    config: RLConfig,
    objective: Objective[Any],
) -> Scored:
    """What the objective is made of: features if log-probabilities of targets suffice, logits if not."""
    head = None if _reads_states(config) or objective.reads_logits else policy.head
    values, targets = features if head else policy.project(features), rows.targets[rows.mask]
    return Scored(rows.rows, rows.mask, rows.lengths, targets, values, head, SamplingDistribution.of(config), batch)


def _subtract_values(values: Tensor, scored: Scored, config: CriticConfig) -> tuple[Tensor, Tensor]:
    """The tokens' weights (N,) after the critic's values (N,), and the mean of the squared errors of these.

    A sequence's weights are its advantages times its state weight. GAE is linear in advantages, so it may be done to
    the weights.
    """
    sampled, mask = scored.batch["value_weights"].flatten(0, 1)[scored.rows].ne(0), scored.mask
    weights = scored.batch["weights"].flatten(0, 1)[scored.rows]
    scaled = values.detach() * _state_weights(scored)
    errors = weights - scaled.new_zeros(mask.shape).masked_scatter(mask, scaled)
    if config.gae_lambda < 1.0:
        errors = generalised_advantages(errors, config.gae_lambda)
    squares = (values - scored.of_tokens("returns")).square()
    return torch.where(sampled, errors, weights)[mask], (scored.of_tokens("value_weights") * squares).sum()


def _extra_terms(
    policy: SequencePolicy,
    anchor: SequencePolicy | None,
    memory: Memory,
    rows: _Rows,
    scored: Scored,
    config: RLConfig,
) -> tuple[list[Tensor], Statistics]:
    """What is added to any objective, if its weight is above 0, and statistics by tag."""
    terms, stats = [], {}
    if config.kl:
        assert anchor is not None
        divergence = _divergence(anchor, rows, scored)
        terms.append(config.kl * divergence)
        stats["train/kl"] = divergence.detach()
    if config.entropy:
        terms.append(-config.entropy * _entropy(scored))
    if config.cross_entropy:
        term, stats["train/nll"] = _cross_entropy(policy, memory, scored.batch)
        terms.append(term)
    return terms, stats


def _state_weights(scored: Scored) -> Tensor:
    """How much the state before each token counts, (N,)."""
    return scored.of_rows("state_weights").repeat_interleave(scored.lengths)


def _divergence(anchor: SequencePolicy, rows: _Rows, scored: Scored) -> Tensor:
    """KL(policy ‖ anchor) on the sampled states."""
    with torch.no_grad():
        memory = anchor.encode(batch_source(scored.batch))
        logits = anchor.project(_read_again(anchor, memory, rows)[0])
    distribution = scored.distribution
    return (
        losses.kl_divergence(distribution.tempered(scored.values), distribution.tempered(logits))
        * _state_weights(scored)
    ).sum()


def _entropy(scored: Scored) -> Tensor:
    """Entropy of what is sampled from, on the sampled states."""
    return (losses.entropy(scored.distribution.logits(scored.values, scored.targets)) * _state_weights(scored)).sum()


def _cross_entropy(policy: SequencePolicy, memory: Memory, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of the references, and their mean −log p."""
    columns = ("references", "reference_lengths", "reference_weights")
    targets, lengths, weights = (batch[name][:, 0] for name in columns)
    mask = length_mask(lengths, targets.shape[1])
    features = policy.forced(memory, targets, lengths).features
    loss, nll = losses.weighted_nll(features, policy.head, targets[mask], weights[mask])
    return loss, nll.mean()


# ---------------------------------------------------------------------------------------- statistics of an update
def mean_statistics(steps: list[dict[str, float]]) -> dict[str, float]:
    """Means over the optimiser steps of one update, by tag."""
    values = {name: [step[name] for step in steps if name in step] for name in steps[0]}
    return {name: sum(each) / len(each) for name, each in values.items()}


def joined_statistics(parts: Sequence[Mapping[str, Any]], tokens: Sequence[Any]) -> dict[str, Any]:
    """Statistics of a batch from those of its parts.

    Weights of parts are scaled so that the mean of their losses is the whole batch's; ``train/nll`` is a mean over
    ``tokens``, those of references.
    """
    joined = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
    if "train/nll" in joined:
        nll = (part["train/nll"] * number for part, number in zip(parts, tokens, strict=True))
        joined["train/nll"] = sum(nll) / sum(tokens)
    return joined


def flat_gradient(policy: SequencePolicy) -> Tensor:
    """A copy of the gradient over all parameters, as one vector; 0 if there is none."""
    parameters = list(policy.parameters())
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])


def gradient_variance(first: Tensor, second: Tensor) -> Tensor:
    """E|g − E g|² of a gradient estimate, the trace of its covariance, from two independent ones: unbiased."""
    return 0.5 * (first - second).square().sum()
