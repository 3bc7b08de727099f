"""One update: from instances or rollouts to a batch, from a batch to the one loss of both phases.

loss = Σ_tokens w · −log p(token) + shares of cross-entropy, KL and entropy. Cross-entropy has w = 1 / normaliser on the
references; REINFORCE has w = advantage / normaliser on the samples. The weights of other objectives follow from the
log-probabilities, too: see ``rlseq.objectives.surrogates``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlseq.config.phases import MLEConfig, PhaseConfig, RLConfig
from rlseq.models.policy import Memory, SequencePolicy, length_mask
from rlseq.objectives import losses, surrogates
from rlseq.objectives.attention import attention_spread
from rlseq.objectives.baselines import advantages, training_rewards
from rlseq.objectives.law import SamplingLaw
from rlseq.training.forcing import FORCED, feeding, sampling_columns
from rlseq.training.rollout import Rollout
from rlseq_envs.task import Ints, SequenceTask

ROWS_TOGETHER = 64  # samples that are scored together: enough for efficient products

# Added to the number of an update whose gradient's variance is estimated: the samples of its second batch are others.
RESAMPLED = 1 << 40

Batch = dict[str, npt.NDArray[Any]]  # every array has the instances first


def normalizer(config: PhaseConfig, rows: int, tokens: int) -> float:
    """What the loss's sum over tokens is divided by."""
    if config.normalization == "token":
        return float(tokens)
    if config.normalization == "sequence":
        return float(rows)
    return rows * config.normalizer


def mle_batch(task: SequenceTask, ids: Ints, config: MLEConfig, seed: int, phase_update: int = 0) -> Batch:
    """References as targets: ``targets`` and ``weights`` (batch_size, 1, time), ``target_lengths`` (batch_size, 1).

    With the columns of scheduled sampling, where it is asked for; ``phase_update`` is the place in its schedule.
    """
    source, source_lengths, targets, lengths = task.training_pairs(ids, seed)
    weight = 1.0 / normalizer(config, len(ids), int(lengths.sum()))
    sampling = sampling_columns(config.scheduled_sampling, ids, lengths, targets.shape[1], seed, phase_update)
    return sampling | {
        "source": source,
        "source_lengths": source_lengths,
        "targets": targets[:, None],
        "target_lengths": lengths[:, None],
        "weights": np.full((len(ids), 1, targets.shape[1]), weight, np.float32),
    }


def rl_batch(
    task: SequenceTask, rollout: Rollout, config: RLConfig, running_mean: float = 0.0
) -> tuple[Batch, dict[str, float]]:
    """Samples as targets, advantages as weights; statistics of the rollout beside it.

    Columns: those of ``mle_batch`` with K targets an instance; ``state_weights`` (batch_size, K) for terms of the
    visited states; ``log_probs`` (batch_size, K) where the sampler's law is not the scorer's; ``references``,
    ``reference_lengths``, ``reference_weights`` where a share of cross-entropy is asked for. Of samples drawn more than
    once, the first stands for all, with the sum of their weights; the others have 0. Tokens that were given have the
    weights of cross-entropy.

    With a critic, ``weights`` are those of the rewards, and there are ``rewards`` (batch_size, K) and ``value_weights``
    (batch_size, K, time) of its squared errors, whose mean is over the tokens that were sampled.

    With ppo, also ``token_log_probs`` (batch_size, K, time) under the sampler's law. With mrt, the targets are the
    candidates, ``weights`` are their instance's at the first of equal ones, and ``rewards`` (batch_size, candidates).

    Args:
        task: Gives sources and references.
        rollout: Of the batch.
        config: The phase's section.
        running_mean: Of the training rewards of earlier updates, for that baseline.
    """
    samples = rollout.num_samples
    sequences, lengths = rollout.sequences[:, :samples], rollout.lengths[:, :samples]
    shaped = training_rewards(config, rollout.rewards)
    rewards, greedy = shaped[:, :samples], shaped[:, -1] if rollout.greedy else None
    place = np.arange(sequences.shape[2])
    given = np.zeros((len(sequences), 1, 1)) if rollout.given is None else rollout.given[:, None, None]
    sampled = (place >= given) & (place < lengths[:, :, None])
    advantage, baseline = advantages(config, sampled, rewards, greedy, running_mean)
    scale = normalizer(config, lengths.size, int(lengths.sum()))
    # A token that was given counts as one of advantage 1: this is its cross-entropy.
    merged, times = _merge_duplicates(sequences, np.where(place < given, 1.0, advantage))
    source, source_lengths = task.source(rollout.ids)
    batch = {
        "source": source,
        "source_lengths": source_lengths,
        "targets": sequences,
        "target_lengths": lengths,
        "weights": (merged / scale).astype(np.float32),
        "state_weights": (times / scale).astype(np.float32),
    }
    if config.objective == "mrt":
        batch |= _candidates(task, rollout, config, batch["state_weights"])
    if config.baseline == "critic":
        batch["rewards"] = rewards.astype(np.float32)
        batch["value_weights"] = (times[:, :, None] * sampled / sampled.sum()).astype(np.float32)
    if config.objective == "ppo":
        assert rollout.token_log_probs is not None
        batch["token_log_probs"] = rollout.token_log_probs[:, :samples]
    if config.reweighted:
        batch["log_probs"] = rollout.log_probs[:, :samples]
    if config.cross_entropy:
        references, reference_lengths = task.references(rollout.ids)
        share = config.cross_entropy / normalizer(config, len(references), int(reference_lengths.sum()))
        batch |= {
            "references": references[:, None],
            "reference_lengths": reference_lengths[:, None],
            "reference_weights": np.full((len(references), 1, references.shape[1]), share, np.float32),
        }
    stats = _rollout_statistics(rollout, samples, sampled)
    if config.reshaped:
        stats["rollout/training_reward_mean"] = float(rewards.mean())
    if config.objective == "mrt":
        candidates = batch["weights"].any(2).sum(1).mean()
        return batch, stats | {"rollout/candidates_mean": float(candidates)}
    if config.baseline == "critic":
        return batch, stats
    return batch, stats | _advantage_statistics(advantage[sampled], baseline[sampled])


def _merge_duplicates(
    sequences: Ints, advantage: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Advantages of equal sequences summed into the first of them, and how often each was drawn, 0 for the others."""
    first = _first_of_equals(sequences)
    rows = np.arange(len(sequences))[:, None]
    merged, times = np.zeros_like(advantage), np.zeros(first.shape)
    np.add.at(merged, (rows, first), advantage)
    np.add.at(times, (rows, first), 1.0)
    return merged, times


def _first_of_equals(sequences: Ints) -> Ints:
    """Of each sequence of an instance (batch_size, K), the place of the first that equals it."""
    return (sequences[:, :, None] == sequences[:, None]).all(-1).argmax(2)


def _candidates(
    task: SequenceTask, rollout: Rollout, config: RLConfig, state_weights: npt.NDArray[np.float32]
) -> Batch:
    """The columns of minimum risk training: samples, then the reference where it is a candidate."""
    samples = rollout.num_samples
    sequences, lengths = rollout.sequences[:, :samples], rollout.lengths[:, :samples]
    rewards = rollout.rewards[:, :samples]
    if config.mrt.reference:
        references, reference_lengths = task.references(rollout.ids)
        total = task.reward(references, reference_lengths, rollout.ids).total
        sequences = _beside(sequences, references * (np.arange(references.shape[1]) < reference_lengths[:, None]))
        lengths = np.column_stack([lengths, reference_lengths])
        rewards = np.column_stack([rewards, total])
        state_weights = np.pad(state_weights, ((0, 0), (0, 1)))  # the policy did not visit them
    distinct = _first_of_equals(sequences) == np.arange(sequences.shape[1])
    live = np.arange(sequences.shape[2]) < lengths[:, :, None]
    return {
        "targets": sequences,
        "target_lengths": lengths,
        "weights": (distinct[:, :, None] * live / normalizer(config, len(sequences), 0)).astype(np.float32),
        "state_weights": state_weights,
        "rewards": training_rewards(config, rewards).astype(np.float32),
    }


def _beside(sequences: Ints, more: Ints) -> Ints:
    """(batch_size, K, time) and (batch_size, time) as (batch_size, K + 1, time), padded with END to the longer."""
    time = max(sequences.shape[2], more.shape[1])
    wide = np.pad(sequences, ((0, 0), (0, 0), (0, time - sequences.shape[2])))
    return np.concatenate([wide, np.pad(more, ((0, 0), (0, time - more.shape[1])))[:, None]], axis=1)


def _rollout_statistics(rollout: Rollout, samples: int, sampled: npt.NDArray[np.bool_]) -> dict[str, float]:
    rewards, lengths = rollout.rewards[:, :samples], rollout.lengths[:, :samples]
    stats = {
        "rollout/reward_mean": rewards.mean(),
        "rollout/reward_std": rewards.std(),
        "rollout/length_mean": lengths.mean(),
        "rollout/truncated_frac": rollout.truncated[:, :samples].mean(),
        # The mean of −log p over sampled tokens estimates the entropy of the sampling law, at no cost.
        "train/entropy": -rollout.log_probs[:, :samples].sum() / sampled.sum(),
    }
    if len(rollout.components) > 1:
        stats |= {f"rollout/{name}_mean": col[:, :samples].mean() for name, col in rollout.components.items()}
    if rollout.given is not None:
        stats["rollout/given_frac"] = 1.0 - sampled.sum() / lengths.sum()
    if rollout.greedy:
        stats["rollout/greedy_reward_mean"] = rollout.rewards[:, -1].mean()
    return {name: float(value) for name, value in stats.items()}


def _advantage_statistics(advantage: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]) -> dict[str, float]:
    """Of the tokens that were sampled, (tokens,) of each."""
    return {
        "rollout/baseline_mean": float(baseline.mean()),
        "rollout/advantage_std": float(advantage.std()),
        "rollout/zero_advantage_frac": float((advantage == 0).mean()),
    }


def split_batch(batch: Batch, world: int) -> list[Batch]:
    """Shares of a batch for ``world`` learners whose gradients are averaged.

    Weights are scaled so that the mean of the shares' gradients is the whole batch's gradient, uneven shares included.
    """
    scaled = {name: col * col.dtype.type(world) if name.endswith("weights") else col for name, col in batch.items()}
    parts = np.array_split(np.arange(len(batch["source"])), world)
    return [{name: column[part] for name, column in scaled.items()} for part in parts]


def batch_loss(
    policy: SequencePolicy,
    reference: SequencePolicy | None,
    batch: dict[str, Tensor],
    config: PhaseConfig,
    memory: Memory | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its named parts, detached.

    Args:
        policy: The policy in training mode where dropout is wanted.
        reference: The mle policy for the KL term; needed only where ``config.kl`` is positive.
        batch: As ``mle_batch`` or ``rl_batch`` made it, as tensors on the policy's device.
        config: The phase's section.
        memory: The sources encoded under the same weights, with a graph; default: encoded here.

    Returns:
        The scalar loss, and statistics by tag.
    """
    with torch.autocast(batch["source"].device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        if memory is None:
            memory = policy.encode(batch["source"], batch["source_lengths"])
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
    features, attention = policy.forced_features(memory, targets, lengths, feeding(batch, config), spread > 0)
    loss, nll = losses.weighted_nll(features, policy.head, targets[real], weights[real], config.label_smoothing)
    stats = {"train/loss": loss.detach(), "train/nll": nll.mean()}
    if spread:
        target = policy.attention_target
        assert attention is not None and target is not None
        term = (attention_spread(attention, real, memory.mask, target) * weights[:, 0]).sum()  # one weight a reference
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
    values = _read(policy.token_features if head else policy.token_logits, memory, instance, targets, lengths)
    real, law, weights, stats = length_mask(lengths, targets.shape[1]), SamplingLaw.of(config), weights[rows], {}
    value_loss = None
    if policy.critic is not None:
        with torch.no_grad():
            states = _read(policy.token_states, memory, instance, targets, lengths)
        baseline, value_loss = _criticised(policy.critic(states), rows, real, batch)
        weights, stats["train/value_loss"] = weights - baseline, value_loss.detach()
    if config.reweighted:
        drawn_under = batch["log_probs"].flatten()[rows]
        ratio = losses.importance_weights(
            law.tempered(values), targets[real], lengths, drawn_under, config.importance_cap
        )
        weights = weights * ratio[:, None]
        stats["train/importance_mean"] = ratio.sum() / max(1, len(ratio))
    if config.objective in ("reinforce", "mixer"):
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
            other_logits = _read(reference.token_logits, other, instance, targets, lengths)
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


def _criticised(values: Tensor, rows: Tensor, real: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the critic's values take off the tokens' weights (rows, time), and the mean of their squared errors."""
    lengths = real.sum(1)
    returns = batch["rewards"].flatten()[rows].repeat_interleave(lengths)
    weights = batch["value_weights"].flatten(0, 1)[rows][real]
    of_tokens = values.detach() * batch["state_weights"].flatten()[rows].repeat_interleave(lengths) * weights.ne(0)
    baseline = of_tokens.new_zeros(real.shape).masked_scatter(real, of_tokens)
    return baseline, (weights * (values - returns).square()).sum()


def _surrogate(
    log_probs: Tensor, rows: Tensor, real: Tensor, weights: Tensor, batch: dict[str, Tensor], config: RLConfig
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Weights of the tokens' −log p, value and statistics of an objective other than REINFORCE, from packed columns."""
    lengths = real.sum(1)
    if config.objective == "ppo":
        drawn_under = batch["token_log_probs"].flatten(0, 1)[rows][real]
        return surrogates.clipped_ratio(log_probs - drawn_under, weights, lengths, config.ppo.clip, config.ppo.ratio)
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


def _read(
    read: Callable[[Memory, Tensor, Tensor], Tensor], memory: Memory, instance: Tensor, targets: Tensor, lengths: Tensor
) -> Tensor:
    """What ``read`` gives for rows sorted by length, read in parts, so that one long sample pads few others."""
    longest = lengths[ROWS_TOGETHER - 1 :: ROWS_TOGETHER].tolist() + lengths[-1:].tolist()
    columns = (instance, targets, lengths)
    parts = zip(*(column.split(ROWS_TOGETHER) for column in columns), longest or [1], strict=False)
    return torch.cat([read(memory.select(of), rows[:, :time], counts) for of, rows, counts, time in parts])


def _weighted_nll(
    policy: SequencePolicy, memory: Memory, batch: dict[str, Tensor], columns: tuple[str, str, str]
) -> tuple[Tensor, Tensor]:
    targets, lengths, weights = (batch[name][:, 0] for name in columns)
    real = length_mask(lengths, targets.shape[1])
    features = policy.token_features(memory, targets, lengths)
    loss, nll = losses.weighted_nll(features, policy.head, targets[real], weights[real])
    return loss, nll.mean()
