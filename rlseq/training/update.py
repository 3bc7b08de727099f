"""One update: from a batch to the one loss of both phases.

loss = Σ_tokens w · −log p(token) + shares of cross-entropy, KL and entropy. Cross-entropy has w = 1 / normaliser on the
references; REINFORCE has w = advantage / normaliser on the samples. The weights of other objectives follow from the
log-probabilities, too: see ``rlseq.objectives.surrogates``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlseq.config.mle import MLEConfig
from rlseq.config.phases import PhaseConfig
from rlseq.config.rl import CriticConfig, RLConfig
from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy, length_mask
from rlseq.objectives import losses, surrogates
from rlseq.objectives.attention import attention_spread
from rlseq.objectives.credit import generalised_advantages
from rlseq.objectives.law import SamplingLaw
from rlseq.training.forcing import FORCED, feeding
from rlseq.training.rollout import encode

ROWS_TOGETHER = 64  # samples that are scored together: enough for efficient products

# Added to the number of an update whose gradient's variance is estimated: the samples of its second batch are others.
RESAMPLED = 1 << 40


def batch_loss(
    policy: SequencePolicy,
    reference: SequencePolicy | None,
    batch: dict[str, Tensor],
    config: PhaseConfig,
    memory: Memory | None = None,
    shard_size: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its named parts, detached.

    Args:
        policy: The policy in training mode where dropout is wanted.
        reference: The mle policy for the KL term; needed only where ``config.kl`` is positive.
        batch: As ``mle_batch`` or ``rl_batch`` made it, as tensors on the policy's device.
        config: The phase's section.
        memory: The sources encoded under the same weights, with a graph; default: encoded here.
        shard_size: Of the rollouts: where the memory could be theirs, sources are encoded here to the same bit.

    Returns:
        The scalar loss, and statistics by tag.
    """
    with torch.autocast(batch["source"].device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        if memory is None:
            size = shard_size if config.encodes_once else None
            memory = encode(policy, batch["source"], batch["source_lengths"], size)
        if isinstance(config, RLConfig):
            loss, stats = _rl_loss(policy, reference, memory, batch, config)
            idle = [] if policy.attention_target is None else [policy.attention_target]
        else:
            assert isinstance(config, MLEConfig)
            loss, stats = _mle_loss(policy, memory, batch, config)
            idle = [] if policy.critic is None else list(policy.critic.parameters())
        # Learners that average their gradients wait for one of every parameter, in each phase.
        return loss + sum(0.0 * parameter.sum() for parameter in idle), stats


def _mle_loss(
    policy: SequencePolicy, memory: Memory, batch: dict[str, Tensor], config: MLEConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    targets, lengths, weights = (batch[name][:, 0] for name in ("targets", "target_lengths", "weights"))
    real, spread = length_mask(lengths, targets.shape[1]), config.attention_regularization
    forced = policy.forced(memory, targets, lengths, feeding(batch, config))
    loss, nll = losses.weighted_nll(forced.features, policy.head, targets[real], weights[real], config.label_smoothing)
    stats = {"train/loss": loss.detach(), "train/nll": nll.mean()}
    if spread:
        target = policy.attention_target
        assert target is not None
        term = (
            attention_spread(forced.attention, real, policy.attention_mask(memory), target) * weights[:, 0]
        ).sum()  # one weight a reference
        loss = loss + spread * term
        stats |= {"train/attention_regularization": term.detach(), "train/attention_target": target.detach().clone()}
        stats["train/loss"] = loss.detach()
    if FORCED in batch:
        stats["train/teacher_forcing"] = batch[FORCED].mean()
    return loss, stats


def _rl_loss(
    policy: SequencePolicy,
    reference: SequencePolicy | None,
    memory: Memory,
    batch: dict[str, Tensor],
    config: RLConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    weights, times = batch["weights"].flatten(0, 1), batch["state_weights"].flatten()
    of_states = bool(config.kl or config.entropy)  # terms that read whole laws, not only what was drawn
    # A row without advantages adds nothing to the policy gradient: skip it, unless another term reads its states.
    every = (of_states and config.objective != "mrt") or policy.critic is not None
    read = times if every else weights.ne(0).any(-1)
    rows = read.nonzero()[:, 0]
    rows = rows[batch["target_lengths"].flatten()[rows].argsort(stable=True)]
    targets, lengths = batch["targets"].flatten(0, 1)[rows], batch["target_lengths"].flatten()[rows]
    instance = rows // batch["targets"].shape[1]
    head = None if of_states or config.reweighted else policy.head
    features, hidden = _forced(policy, memory, instance, targets, lengths)
    values = features if head else policy.project(features)
    real, law, weights, stats = length_mask(lengths, targets.shape[1]), SamplingLaw.of(config), weights[rows], {}
    value_loss = None
    if policy.critic is not None:
        assert hidden is not None
        weights, value_loss = _criticised(policy.critic(hidden), rows, real, weights, batch, config.critic)
        stats["train/value_loss"] = value_loss.detach()
    if config.reweighted:
        drawn_under = batch["log_probs"].flatten()[rows]
        ratio = losses.importance_weights(
            law.tempered(values), targets[real], lengths, drawn_under, config.importance_cap
        )
        weights = weights * ratio[:, None]
        stats["train/importance_mean"] = ratio.sum() / max(1, len(ratio))
    if config.objective in ("reinforce", "mixer", "self_training"):
        loss, _ = losses.weighted_nll(values, head, targets[real], weights[real], law=law)
    else:
        log_probs = losses.token_log_probs(values, head, targets[real], law)
        of_tokens, value, more = _surrogate(log_probs, rows, real, weights[real], batch, config)
        loss, _ = losses.weighted_nll(values, head, targets[real], of_tokens, law=law)
        loss, stats = loss + (value - loss.detach()), stats | more  # the objective's gradient, and its value
    stats["train/policy_loss"] = loss.detach()
    if value_loss is not None:
        loss = loss + config.critic.weight * value_loss
    state_weights = torch.repeat_interleave(times[rows], lengths)
    if config.kl:
        assert reference is not None
        with torch.no_grad():
            other = reference.encode(batch["source"], batch["source_lengths"])
            other_logits = reference.project(_forced(reference, other, instance, targets, lengths)[0])
        kl = (losses.kl_divergence(law.tempered(values), law.tempered(other_logits)) * state_weights).sum()
        loss, stats["train/kl"] = loss + config.kl * kl, kl.detach()
    if config.entropy:
        entropy = losses.entropy(law.logits(values, targets[real]))
        loss = loss - config.entropy * (entropy * state_weights).sum()
    if config.cross_entropy:
        columns = ("references", "reference_lengths", "reference_weights")
        share, nll = _weighted_nll(policy, memory, batch, columns)
        loss, stats["train/nll"] = loss + share, nll
    return loss, stats | {"train/loss": loss.detach()}


def _criticised(
    values: Tensor, rows: Tensor, real: Tensor, weights: Tensor, batch: dict[str, Tensor], config: CriticConfig
) -> tuple[Tensor, Tensor]:
    """The tokens' weights (rows, time) after the critic's values, and the mean of the squared errors of these.

    A row's weights are its advantages times a constant, so what is linear in advantages may be done to them.
    """
    returns, shares = (batch[name].flatten(0, 1)[rows][real] for name in ("returns", "value_weights"))
    sampled = batch["value_weights"].flatten(0, 1)[rows].ne(0)
    of_tokens = values.detach() * batch["state_weights"].flatten()[rows].repeat_interleave(real.sum(1))
    errors = weights - of_tokens.new_zeros(real.shape).masked_scatter(real, of_tokens)
    if config.gae_lambda < 1.0:
        errors = generalised_advantages(errors, config.gae_lambda)
    return torch.where(sampled, errors, weights), (shares * (values - returns).square()).sum()


def _surrogate(
    log_probs: Tensor, rows: Tensor, real: Tensor, weights: Tensor, batch: dict[str, Tensor], config: RLConfig
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Weights of the tokens' −log p, value and statistics of an objective other than REINFORCE, from packed columns."""
    lengths = real.sum(1)
    if config.objective == "ppo":
        log_ratios = log_probs - batch["token_log_probs"].flatten(0, 1)[rows][real]
        if "sampled" in batch:  # what was given has probability 1 under either law
            log_ratios = log_ratios * batch["sampled"].flatten(0, 1)[rows][real]
        bounds = (config.ppo.clip, config.ppo.clip if config.ppo.clip_high is None else config.ppo.clip_high)
        return surrogates.clipped_ratio(log_ratios, weights, lengths, bounds, config.ppo.ratio)
    of_sequences = log_probs.new_zeros(batch["rewards"].numel()).index_copy_(0, rows, losses.totals(log_probs, lengths))
    risk = surrogates.minimum_risk(
        of_sequences.view_as(batch["rewards"]), batch["rewards"], batch["weights"][:, :, 0], config.mrt.alpha
    )
    return risk[0].flatten()[rows].repeat_interleave(lengths), risk[1], {}


def mean_statistics(steps: list[dict[str, float]]) -> dict[str, float]:
    """Means over the optimiser steps of one update, by tag."""
    values = {name: [step[name] for step in steps if name in step] for name in steps[0]}
    return {name: sum(each) / len(each) for name, each in values.items()}


def flat_gradient(policy: SequencePolicy) -> Tensor:
    """A copy of the gradient over all parameters, as one vector; 0 where there is none."""
    parameters = list(policy.parameters())
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])


def gradient_variance(first: Tensor, second: Tensor) -> Tensor:
    """E|g − E g|² of a gradient estimate, the trace of its covariance, from two independent ones: unbiased."""
    return 0.5 * (first - second).square().sum()


def _forced(
    policy: SequencePolicy, memory: Memory, instance: Tensor, targets: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Features, and a critic's states without their graph, of rows sorted by length.

    They are read in parts, so that one long sample pads few others.
    """
    longest = lengths[ROWS_TOGETHER - 1 :: ROWS_TOGETHER].tolist() + lengths[-1:].tolist()
    columns = (instance, targets, lengths)
    parts = zip(*(column.split(ROWS_TOGETHER) for column in columns), longest or [1], strict=False)
    forced = [policy.forced(memory.select(of), rows[:, :time], counts) for of, rows, counts, time in parts]
    hidden = None if policy.critic is None else torch.cat([part.hidden.detach() for part in forced])
    return torch.cat([part.features for part in forced]), hidden


def _weighted_nll(
    policy: SequencePolicy, memory: Memory, batch: dict[str, Tensor], columns: tuple[str, str, str]
) -> tuple[Tensor, Tensor]:
    targets, lengths, weights = (batch[name][:, 0] for name in columns)
    real = length_mask(lengths, targets.shape[1])
    features = policy.forced(memory, targets, lengths).features
    loss, nll = losses.weighted_nll(features, policy.head, targets[real], weights[real])
    return loss, nll.mean()
