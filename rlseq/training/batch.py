"""From instances or rollouts to a batch: targets, their lengths, and the weight of each token.

Cross-entropy has the weight 1 / divisor on the references, REINFORCE advantage / divisor on the samples; the divisor is
``PhaseConfig.loss_divisor``. A batch is a flat dict of columns. K is 1 for cross-entropy; for rl it is the number of
samples of an instance, for minimum risk that of its candidates.

| column | shape | present | meaning |
|---|---|---|---|
| ``source.FIELD`` | (batch_size, …) | always | values of a field, as ``SequenceTask.source`` gives them |
| ``source.FIELD.lengths`` | (batch_size, …) | where a field varies | its lengths |
| ``targets`` | (batch_size, K, time) | always | tokens whose log-probabilities the loss is made of |
| ``target_lengths`` | (batch_size, K) | always | END counted |
| ``weights`` | (batch_size, K, time) | always | of each token's −log p; minimum risk: 1 / divisor at each candidate |
| ``teacher_forcing``, … | see ``forcing`` | mle, with scheduled sampling | which inputs are not the reference's |
| ``state_weights`` | (batch_size, K) | rl | how often a sequence was drawn / divisor, for terms of the states visited |
| ``log_probs`` | (batch_size, K) | rl that is reweighted | of a sequence, from the sampler |
| ``token_log_probs`` | (batch_size, K, time) | ppo | of each token, from the sampler |
| ``sampled`` | (batch_size, K, time) | ppo, if first tokens are given | True at tokens that were sampled |
| ``rewards`` | (batch_size, K) | mrt | of each candidate, as training sees them |
| ``returns`` | (batch_size, K, time) | a critic | reward still to come at each token |
| ``value_weights`` | (batch_size, K, time) | a critic | of each token's squared error, 1 in all |
| ``references`` | (batch_size, 1, time) | rl with cross-entropy | tokens |
| ``reference_lengths`` | (batch_size, 1) | rl with cross-entropy | END counted |
| ``reference_weights`` | (batch_size, 1, time) | rl with cross-entropy | of each token's −log p |

Columns whose names end in ``weights`` are scaled when a batch is divided. Of samples that an instance has more than
once, the first stands for all, with the sum of their weights; the others have 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlseq.config.mle import MLEConfig
from rlseq.config.phases import PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.objectives.base import Objective, Samples, first_of_equals
from rlseq.objectives.baselines import advantages, build_baseline, rewards_seen, training_rewards
from rlseq.objectives.credit import rewards_before
from rlseq.objectives.registry import build_objective
from rlseq.training.forcing import sampling_columns
from rlseq.training.rollout import Rollout
from rlseq_envs.source import Padded, Source
from rlseq_envs.task import Floats, Ints, SequenceTask

Batch = dict[str, npt.NDArray[Any]]  # every array has the instances first
_SOURCE, _LENGTHS = "source.", ".lengths"  # how the columns of a source's fields begin, and those of lengths end


# ------------------------------------------------------------------------------------------------- making a batch
def mle_batch(task: SequenceTask, ids: Ints, config: MLEConfig, seed: int, phase_update: int = 0) -> Batch:
    """References as targets; ``phase_update`` is the place in the schedule of scheduled sampling."""
    source, targets, lengths = task.training_pairs(ids, seed)
    weight = 1.0 / config.loss_divisor(len(ids), int(lengths.sum()))
    sampling = sampling_columns(config.scheduled_sampling, ids, lengths, targets.shape[1], seed, phase_update)
    return sampling | {
        **source_columns(source),
        "targets": targets[:, None],
        "target_lengths": lengths[:, None],
        "weights": np.full((len(ids), 1, targets.shape[1]), weight, np.float32),
    }


def rl_batch(
    task: SequenceTask,
    rollout: Rollout,
    config: RLConfig,
    baseline_state: Mapping[str, float] = MappingProxyType({}),
    seed: int = 0,
) -> tuple[Batch, dict[str, float]]:
    """Samples as targets, advantages as weights; statistics of the rollout beside it.

    Args:
        task: Gives references.
        rollout: Of the batch.
        config: The phase's section.
        baseline_state: What the baseline knows of earlier updates.
        seed: Of the update, for rewards that are shuffled.
    """
    objective, baseline = build_objective(config), build_baseline(config.baseline, baseline_state)
    rewards = _rewards(config, rollout.rewards, seed)
    samples = _samples(task, rollout, rewards, objective, seed)
    greedy = rewards[:, -1] if rollout.greedy else None
    advantage, subtracted = advantages(config, baseline, samples.sampled, samples.rewards, greedy)
    if rollout.potentials is not None:
        potentials = rollout.potentials[:, : samples.rewards.shape[1]]
        advantage = advantage - rewards_before(config, potentials) * samples.sampled
    first = first_of_equals(samples.sequences)
    times = _merged(np.ones(first.shape), first)
    batch = source_columns(rollout.source)
    batch |= _weighted_samples(samples, advantage, first, times, objective)
    batch |= objective.columns(samples, batch)
    stats = rollout_statistics(rollout, config) | objective.statistics(batch)
    if config.critic:
        batch |= _critic_columns(samples, advantage, times)
    elif objective.uses_advantages:
        stats |= _advantage_statistics(advantage[samples.sampled], subtracted[samples.sampled])
    if config.cross_entropy:
        batch |= _reference_columns(task, rollout.ids, config)
    return batch, stats


def _rewards(config: RLConfig, rewards: Floats, seed: int) -> Floats:
    """The task's rewards as training sees them."""
    return training_rewards(config, rewards_seen(config, rewards, seed))


def _samples(task: SequenceTask, rollout: Rollout, rewards: Floats, objective: Objective[Any], seed: int) -> Samples:
    """The samples of a rollout; of one that has none, the greedy sequences."""
    count = rollout.num_samples or 1
    sequences, lengths = rollout.sequences[:, :count], rollout.lengths[:, :count]
    place, given = np.arange(sequences.shape[2]), rollout.given
    first = np.zeros((1, 1, 1), np.int64) if given is None else given[:, :count, None]
    token_log_probs, reference = rollout.token_log_probs, None
    if objective.compares_reference:
        tokens, counts = task.references(rollout.ids)
        worth = task.reward(tokens, counts, rollout.ids).total[:, None]
        reference = (tokens, counts, _rewards(objective.rl, worth, seed)[:, 0])
    return Samples(
        sequences,
        lengths,
        (place >= first) & (place < lengths[:, :, None]),
        given is not None,
        rewards[:, :count],
        rollout.log_probs[:, :count],
        None if token_log_probs is None else token_log_probs[:, :count],
        reference,
    )


def _merged(values: Floats, first: Ints) -> Floats:
    """Values (batch_size, K, …) of equal samples summed into the first of them; 0 at the others."""
    merged = np.zeros_like(values)
    np.add.at(merged, (np.arange(len(first))[:, None], first), values)
    return merged


def _weighted_samples(
    samples: Samples, advantage: Floats, first: Ints, times: Floats, objective: Objective[Any]
) -> Batch:
    """Targets and weights.

    Args:
        samples: As they were drawn.
        advantage: (batch_size, K, time).
        first: (batch_size, K) the first sample that equals each.
        times: (batch_size, K) how often each was drawn, 0 at all but the first of equal ones.
        objective: Says what a given token counts as.
    """
    lengths = samples.lengths
    divisor = objective.rl.loss_divisor(lengths.size, int(lengths.sum()))
    given = (np.arange(samples.sequences.shape[2]) < lengths[:, :, None]) & ~samples.sampled
    merged = _merged(np.where(given, objective.given_advantage, advantage), first)
    return {
        "targets": samples.sequences,
        "target_lengths": lengths,
        "weights": (merged / divisor).astype(np.float32),
        "state_weights": (times / divisor).astype(np.float32),
    }


def _critic_columns(samples: Samples, advantage: Floats, times: Floats) -> Batch:
    return {
        "returns": advantage.astype(np.float32),
        "value_weights": (times[:, :, None] * samples.sampled / samples.sampled.sum()).astype(np.float32),
    }


def _reference_columns(task: SequenceTask, ids: Ints, config: RLConfig) -> Batch:
    references, lengths = task.references(ids)
    weight = config.cross_entropy / config.loss_divisor(len(references), int(lengths.sum()))
    return {
        "references": references[:, None],
        "reference_lengths": lengths[:, None],
        "reference_weights": np.full((len(references), 1, references.shape[1]), weight, np.float32),
    }


# --------------------------------------------------------------------------------------------------------- sources
def source_columns(source: Source[npt.NDArray[Any]]) -> Batch:
    """Sources as columns of a batch; see above."""
    columns = {}
    for name, (values, lengths) in source.fields.items():
        columns[_SOURCE + name] = values
        if lengths is not None:
            columns[_SOURCE + name + _LENGTHS] = lengths
    return columns


def batch_source(batch: Mapping[str, Tensor]) -> Source[Tensor]:
    """The sources of a batch on a device."""
    values = {name: column for name, column in batch.items() if name.startswith(_SOURCE)}
    fields = {
        name.removeprefix(_SOURCE): Padded(column, values.get(name + _LENGTHS))
        for name, column in values.items()
        if not name.endswith(_LENGTHS)
    }
    return Source(len(batch["targets"]), fields)


# ----------------------------------------------------------------------------------------------------- statistics
def rollout_statistics(rollout: Rollout, config: RLConfig) -> dict[str, float]:
    """What a rollout's samples are like, by tag."""
    samples = rollout.num_samples or 1
    rewards, lengths = rollout.rewards[:, :samples], rollout.lengths[:, :samples]
    sampled = lengths.sum() if rollout.given is None else (lengths - rollout.given[:, :samples]).sum()
    stats = {
        "rollout/reward_mean": rewards.mean(),
        "rollout/reward_std": rewards.std(),
        "rollout/length_mean": lengths.mean(),
        "rollout/truncated_frac": rollout.truncated[:, :samples].mean(),
        "rollout/distinct_frac": len({row.tobytes() for row in rollout.sequences[:, 0]}) / len(rewards),
        "rollout/repetition": _repetition(rollout.sequences[:, :samples], lengths),
    }
    if rollout.num_samples:
        # The mean of −log p over sampled tokens estimates the entropy of what is sampled from, at no cost.
        stats["train/entropy"] = -rollout.log_probs[:, :samples].sum() / sampled
    if len(rollout.components) > 1:
        stats |= {f"rollout/{name}_mean": col[:, :samples].mean() for name, col in rollout.components.items()}
    if rollout.given is not None:
        stats["rollout/given_frac"] = 1.0 - sampled / lengths.sum()
    if rollout.greedy:
        stats["rollout/greedy_reward_mean"] = rollout.rewards[:, -1].mean()
    if config.reshaped:
        stats["rollout/training_reward_mean"] = _rewards(config, rewards, 0).mean()
    return {name: float(value) for name, value in stats.items()}


def _repetition(sequences: Ints, lengths: Ints) -> float:
    """The fraction of bigrams (batch_size, K, time − 1) that were in the same sequence before; 0 if there is none."""
    places = np.arange(1, sequences.shape[2])
    in_sequence = places < lengths[:, :, None]
    bigrams = sequences[:, :, :-1] * (sequences.max(initial=0) + 1) + sequences[:, :, 1:]
    ordered = np.sort(np.where(in_sequence, bigrams, -places), axis=2)  # what is beyond a length equals nothing
    return float((ordered[:, :, 1:] == ordered[:, :, :-1]).sum() / max(1, in_sequence.sum()))


def _advantage_statistics(advantage: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]) -> dict[str, float]:
    """Of the tokens that were sampled, (tokens,) of each."""
    return {
        "rollout/baseline_mean": float(baseline.mean()),
        "rollout/advantage_mean": float(advantage.mean()),
        "rollout/advantage_std": float(advantage.std()),
        "rollout/zero_advantage_frac": float((advantage == 0).mean()),
    }


# ---------------------------------------------------------------------------------------------- dividing a batch
def split_batch(batch: Batch, world: int) -> list[Batch]:
    """Consecutive parts of a batch for ``world`` learners whose gradients are averaged; scaled as ``_divide`` says."""
    return _divide(batch, np.arange(len(batch["targets"])), world)


def split_tensors(batch: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """The same of a batch on a device, for parts whose gradients are averaged one after the other."""
    columns = {name: column.tensor_split(parts) for name, column in _scaled(batch, parts).items()}
    return [{name: pieces[part] for name, pieces in columns.items()} for part in range(parts)]


def step_batches(batch: Batch, config: PhaseConfig, seed: int) -> list[Batch]:
    """What each optimiser step of an update trains on, epoch by epoch: the batch, or a part of it.

    Each epoch of PPO divides the instances among its mini-batches at random (Schulman et al. 2017, algorithm 1).

    Args:
        batch: Of the update.
        config: The phase's section.
        seed: Of the update.
    """
    if config.minibatches == 1:
        return [batch] * config.epochs
    orders = (np.random.default_rng((seed, epoch)).permutation(len(batch["targets"])) for epoch in range(config.epochs))
    return [part for order in orders for part in _divide(batch, order, config.minibatches)]


def to_tensors(batches: Sequence[Batch], device: torch.device | str) -> list[dict[str, Tensor]]:
    """Batches on a device; one that comes again, as in the epochs of PPO, is copied once."""
    made: dict[int, dict[str, Tensor]] = {}
    for batch in batches:
        if id(batch) not in made:
            # What Ray delivers is read-only shared memory, which torch must not alias.
            columns = {name: col if col.flags.writeable else col.copy() for name, col in batch.items()}
            made[id(batch)] = {name: torch.from_numpy(column).to(device) for name, column in columns.items()}
    return [made[id(batch)] for batch in batches]


def _is_weights(name: str) -> bool:
    return name.endswith("weights") and not name.startswith(_SOURCE)


def _divide(batch: Batch, order: Ints, parts: int) -> list[Batch]:
    """A batch's instances, in this order, in parts of like size.

    Weights are scaled so that the mean of the parts' gradients is the whole batch's gradient, uneven parts included.
    """
    scaled = _scaled(batch, parts)
    return [{name: column[rows] for name, column in scaled.items()} for rows in np.array_split(order, parts)]


def _scaled(batch: Mapping[str, Any], parts: int) -> dict[str, Any]:
    return {name: column * parts if _is_weights(name) else column for name, column in batch.items()}
