"""What an rl update trains on: instances rolled out, those that teach nothing replaced, and made a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlseq.config.rl import RLConfig
from rlseq.models.memory import Memory
from rlseq.objectives.baselines import alike, training_rewards
from rlseq.training.batch import Batch, rl_batch, rollout_statistics
from rlseq.training.engine import TrainingError, UpdateRequest
from rlseq.training.rollout import Rollout
from rlseq_envs.task import Ints, SequenceTask

REDRAWN = 1 << 41  # added to an update's number at each further draw: the samples of an instance met again are others

RollOut = Callable[[Ints, int], Rollout]  # instances and the number of their samples → their rollout


@dataclass(frozen=True)
class Drawn:
    """What an update trains on.

    Attributes:
        batch: As of ``rl_batch``.
        stats: Statistics of the rollouts, by tag.
        memory: The batch's sources as the rollouts encoded them, with their graph, if these kept them.
    """

    batch: Batch
    stats: dict[str, float]
    memory: Memory | None


def draw(
    task: SequenceTask, roll_out: RollOut, request: UpdateRequest, config: RLConfig, seed: int, shift: int = 0
) -> Drawn:
    """Roll out what a request asks for, and make it a batch.

    Args:
        task: Gives sources and references.
        roll_out: Decodes and scores instances.
        request: The update.
        config: The phase's section.
        seed: Of the update, for rewards that are shuffled.
        shift: Added to the update's number, for other samples than its own.

    Raises:
        TrainingError: The policy has no finite log-probabilities.
    """
    rollout = roll_out(request.ids, request.update + shift)
    if not np.isfinite(rollout.log_probs).all():
        raise TrainingError(f"update {request.update}: log-probabilities of samples are not finite; no step was taken")
    replaced: dict[str, float] = {}
    if config.dynamic_sampling:
        rollout, replaced = _replace_alike(rollout, roll_out, request, config, shift)
    batch, stats = rl_batch(task, rollout, config, request.baseline_state, seed)
    return Drawn(batch, stats | replaced, rollout.memory)


def _replace_alike(
    first: Rollout, roll_out: RollOut, request: UpdateRequest, config: RLConfig, shift: int
) -> tuple[Rollout, dict[str, float]]:
    """Dynamic sampling: instances whose samples all have the same reward give way to others (DAPO, Yu et al. 2025).

    The batch has the first instances, in the order of drawing, whose rewards differ. If these are too few when no
    further draw is left, the first of the other instances fill the batch. What is drawn follows from the request, and
    what is kept from the rewards, so the batch does not depend on who rolls out.

    Returns:
        The rollout of as many instances as the request has, and statistics. Those of rollouts are of the first draw,
        which nobody has chosen from.
    """
    size, parts = len(request.ids), [first]
    differ = [~_alike(first, config)]
    for number, ids in enumerate(request.spare, 1):
        if sum(each.sum() for each in differ) >= size:
            break
        parts.append(roll_out(ids, request.update + shift + number * REDRAWN))
        differ.append(~_alike(parts[-1], config))
    teaching = np.concatenate(differ)
    kept = np.sort(np.argsort(~teaching, kind="stable")[:size])
    counts = {
        "rollout/kept_frac": float(teaching.mean()),
        "rollout/drawn_ratio": len(teaching) / size,
    }
    return Rollout.concatenate(parts).select(kept), rollout_statistics(first, config) | counts


def _alike(rollout: Rollout, config: RLConfig) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which instances teach nothing, (batch_size,)."""
    return alike(training_rewards(config, rollout.rewards[:, : rollout.num_samples]))
