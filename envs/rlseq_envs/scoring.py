"""Whole sequences scored at once, with the result that stepping an environment token by token would give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rlseq_envs.task import END, Bools, Floats, Ints, SequenceTask


@dataclass(frozen=True)
class RolloutResult:
    """What a batch of episodes came to.

    Attributes:
        rewards: (batch_size,) total reward of each.
        lengths: (batch_size,) tokens that counted, END included.
        truncated: (batch_size,) whether the episode was cut off without END; never of a task without END.
        components: Each named part of the reward, (batch_size,), unweighted.
        potentials: ``SequenceTask.potentials`` if they were asked for, (batch_size, time); None otherwise.
    """

    rewards: Floats
    lengths: Ints
    truncated: Bools
    components: dict[str, Floats]
    potentials: Floats | None = None


def num_actions(task: SequenceTask) -> int:
    """Size of the action space: the vocabulary, or the most positions that can be pointed at and END."""
    choices = task.choices
    if choices.points_to is not None:
        return task.sources[choices.points_to].largest[0] + 1
    assert choices.size is not None
    return choices.size


def score_sequences(
    task: SequenceTask, ids: npt.ArrayLike, sequences: npt.ArrayLike, with_potentials: bool = False
) -> RolloutResult:
    """Score whole sequences.

    Args:
        task: The task.
        ids: (batch_size,) instances.
        sequences: (batch_size, time) tokens. The first END or the instance's limit ends each row, whatever stands
            beyond; a row that ends before either counts as truncated.
        with_potentials: Say also what the sequences had come to after each token.

    Raises:
        ValueError: Shapes or types do not fit, or a token that counts is outside the action space.
    """
    ids, sequences = _checked(ids, sequences)
    different, instance = np.unique(ids, return_inverse=True)
    limits = np.minimum(task.length_limits(task.sizes(different))[instance], sequences.shape[1])
    is_end = sequences == END
    ends = np.where(is_end.any(axis=1), is_end.argmax(axis=1), sequences.shape[1])
    lengths = np.minimum(ends + 1, limits)
    time = int(lengths.max(initial=0))
    kept = np.where(np.arange(time) < lengths[:, None], sequences[:, :time], END)
    if kept.min(initial=0) < 0 or kept.max(initial=0) >= num_actions(task):
        raise ValueError(f"tokens {kept.min()} … {kept.max()} leave the action space 0 … {num_actions(task) - 1}")
    reward = task.reward(kept, lengths, ids)
    result = RolloutResult(reward.total, lengths, (ends >= lengths) & task.ends, reward.components)
    if not with_potentials:
        return result
    potentials = task.potentials(kept, lengths, ids)
    if potentials.shape != kept.shape:
        raise ValueError(f"{type(task).__name__}.potentials gave shape {potentials.shape}, not {kept.shape}")
    return replace(result, potentials=np.pad(potentials, ((0, 0), (0, sequences.shape[1] - time))))


def _checked(ids: Any, sequences: Any) -> tuple[Ints, Ints]:
    ids, sequences = np.asarray(ids), np.asarray(sequences)
    if ids.ndim != 1 or sequences.ndim != 2 or len(ids) != len(sequences) or sequences.shape[1] == 0:
        raise ValueError(f"expected ids (batch,) and sequences (batch, time), got {ids.shape} and {sequences.shape}")
    if ids.dtype.kind not in "iu" or sequences.dtype.kind not in "iu":
        raise ValueError(f"ids and sequences must be integers, got {ids.dtype} and {sequences.dtype}")
    return ids.astype(np.int64), sequences.astype(np.int64)
