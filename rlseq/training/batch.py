"""From instances or rollouts to a batch: targets, their lengths, and the weight of each token.

Cross-entropy has the weight 1 / normaliser on the references, REINFORCE advantage / normaliser on the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlseq.config.mle import MLEConfig
from rlseq.config.phases import PhaseConfig
from rlseq.config.rl import RLConfig
from rlseq.objectives.baselines import advantages, rewards_seen, training_rewards
from rlseq.objectives.credit import rewards_before
from rlseq.training.forcing import sampling_columns
from rlseq.training.rollout import Rollout
from rlseq_envs.task import Ints, SequenceTask

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
    task: SequenceTask, rollout: Rollout, config: RLConfig, running_mean: float = 0.0, seed: int = 0
) -> tuple[Batch, dict[str, float]]:
    """Samples as targets, advantages as weights; statistics of the rollout beside it.

    Columns: those of ``mle_batch`` with K targets an instance; ``state_weights`` (batch_size, K) for terms of the
    visited states; ``log_probs`` (batch_size, K) where the sampler's law is not the scorer's; ``references``,
    ``reference_lengths``, ``reference_weights`` where a share of cross-entropy is asked for. Of samples drawn more than
    once, the first stands for all, with the sum of their weights; the others have 0. Tokens that mixer gives have the
    weights of cross-entropy, first tokens that the task gives have 0.

    With a critic, ``weights`` are those of the returns to go, and there are these, ``returns`` (batch_size, K, time),
    and ``value_weights`` (batch_size, K, time) of its squared errors, whose mean is over the tokens that were sampled.

    With ppo, also ``token_log_probs`` (batch_size, K, time) under the sampler's law, and, if first tokens are given,
    ``sampled`` (batch_size, K, time), True at the tokens that were sampled. With mrt, the targets are the
    candidates, ``weights`` are their instance's at the first of equal ones, and ``rewards`` (batch_size, candidates).

    Args:
        task: Gives references.
        rollout: Of the batch.
        config: The phase's section.
        running_mean: Of the training rewards of earlier updates, for that baseline.
        seed: Of the update, for rewards that are shuffled.
    """
    samples = rollout.num_samples or 1  # self-training has the greedy sequence alone
    sequences, lengths = rollout.sequences[:, :samples], rollout.lengths[:, :samples]
    seen = training_rewards(config, rewards_seen(config, rollout.rewards, seed))
    rewards, greedy = seen[:, :samples], seen[:, -1] if rollout.greedy else None
    place = np.arange(sequences.shape[2])
    given = np.zeros((len(sequences), 1, 1)) if rollout.given is None else rollout.given[:, :samples, None]
    sampled = (place >= given) & (place < lengths[:, :, None])
    advantage, baseline = advantages(config, sampled, rewards, greedy, running_mean)
    if rollout.potentials is not None:
        advantage = advantage - rewards_before(config, rollout.potentials[:, :samples]) * sampled
    scale = normalizer(config, lengths.size, int(lengths.sum()))
    # To mixer, a token that was given counts as one of advantage 1: this is its cross-entropy.
    of_given = float(config.objective == "mixer")
    merged, times = _merge_duplicates(sequences, np.where(place < given, of_given, advantage))
    batch = {
        "source": rollout.source,
        "source_lengths": rollout.source_lengths,
        "targets": sequences,
        "target_lengths": lengths,
        "weights": (merged / scale).astype(np.float32),
        "state_weights": (times / scale).astype(np.float32),
    }
    if config.objective == "mrt":
        batch |= _candidates(task, rollout, config, batch["state_weights"], seed)
    if config.baseline == "critic":
        batch["returns"] = advantage.astype(np.float32)
        batch["value_weights"] = (times[:, :, None] * sampled / sampled.sum()).astype(np.float32)
    if config.objective == "ppo":
        assert rollout.token_log_probs is not None
        batch["token_log_probs"] = rollout.token_log_probs[:, :samples]
        batch |= {} if rollout.given is None else {"sampled": sampled}
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
    stats = rollout_statistics(rollout, config)
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
    task: SequenceTask, rollout: Rollout, config: RLConfig, state_weights: npt.NDArray[np.float32], seed: int
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
        "rewards": training_rewards(config, rewards_seen(config, rewards, seed)).astype(np.float32),
    }


def _beside(sequences: Ints, more: Ints) -> Ints:
    """(batch_size, K, time) and (batch_size, time) as (batch_size, K + 1, time), padded with END to the longer."""
    time = max(sequences.shape[2], more.shape[1])
    wide = np.pad(sequences, ((0, 0), (0, 0), (0, time - sequences.shape[2])))
    return np.concatenate([wide, np.pad(more, ((0, 0), (0, time - more.shape[1])))[:, None]], axis=1)


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
        # The mean of −log p over sampled tokens estimates the entropy of the sampling law, at no cost.
        stats["train/entropy"] = -rollout.log_probs[:, :samples].sum() / sampled
    if len(rollout.components) > 1:
        stats |= {f"rollout/{name}_mean": col[:, :samples].mean() for name, col in rollout.components.items()}
    if rollout.given is not None:
        stats["rollout/given_frac"] = 1.0 - sampled / lengths.sum()
    if rollout.greedy:
        stats["rollout/greedy_reward_mean"] = rollout.rewards[:, -1].mean()
    if config.reshaped:
        stats["rollout/training_reward_mean"] = training_rewards(config, rewards_seen(config, rewards, 0)).mean()
    return {name: float(value) for name, value in stats.items()}


def _repetition(sequences: Ints, lengths: Ints) -> float:
    """The fraction of bigrams (batch_size, K, time − 1) that were in the same sequence before; 0 if there is none."""
    places = np.arange(1, sequences.shape[2])
    live = places < lengths[:, :, None]
    bigrams = sequences[:, :, :-1] * (sequences.max(initial=0) + 1) + sequences[:, :, 1:]
    ordered = np.sort(np.where(live, bigrams, -places), axis=2)  # what is beyond a length equals nothing
    return float((ordered[:, :, 1:] == ordered[:, :, :-1]).sum() / max(1, live.sum()))


def _advantage_statistics(advantage: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]) -> dict[str, float]:
    """Of the tokens that were sampled, (tokens,) of each."""
    return {
        "rollout/baseline_mean": float(baseline.mean()),
        "rollout/advantage_mean": float(advantage.mean()),
        "rollout/advantage_std": float(advantage.std()),
        "rollout/zero_advantage_frac": float((advantage == 0).mean()),
    }


def split_batch(batch: Batch, world: int) -> list[Batch]:
    """Consecutive parts of a batch for ``world`` learners whose gradients are averaged; scaled as ``_divide`` says."""
    return _divide(batch, np.arange(len(batch["source"])), world)


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
    orders = (np.random.default_rng((seed, epoch)).permutation(len(batch["source"])) for epoch in range(config.epochs))
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


def _divide(batch: Batch, order: Ints, parts: int) -> list[Batch]:
    """A batch's instances, in this order, in parts of like size.

    Weights are scaled so that the mean of the parts' gradients is the whole batch's gradient, uneven parts included.
    """
    scaled = {name: col * col.dtype.type(parts) if name.endswith("weights") else col for name, col in batch.items()}
    return [{name: column[rows] for name, column in scaled.items()} for rows in np.array_split(order, parts)]
