"""Exposure bias: how much better a policy continues references than its own output.

Under teacher forcing every token is chosen after the reference's own prefix, as in training; running free it is chosen
after what the policy itself chose, as in use. The difference is what errors cost the tokens behind them (Ranzato et
al. 2016, sec. 1; Bengio et al. 2015, sec. 1).

Definition. Of an instance with reference y of length L, END counted: forced, position t is right where the likeliest
token after y_1 … y_{t−1} is y_t; free, where the greedy output has y_t at t, and is that long. Both are taken over the
same positions 1 … L. At the first position, and up to an instance's first error, the two agree. An output that is right
but shifted counts as wrong from the shift on, so free accuracy says less of a task with many right outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlseq.data.padding import concatenate_padded
from rlseq.decoding.encoding import encode_sources
from rlseq.decoding.sampling import decode
from rlseq.evaluation.decoding import Sources, split_shards
from rlseq.evaluation.evaluate import instance_ids
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.models.policy import length_mask
from rlseq_envs.source import source_sizes
from rlseq_envs.task import Bools, Ints, SplitName


@dataclass(frozen=True)
class ExposureBias:
    """What is right at each position of the references.

    Attributes:
        forced: (instances, time) right under teacher forcing; False beyond a reference.
        free: (instances, time) right in the greedy output; likewise.
        lengths: (instances,) of the references.
    """

    forced: Bools
    free: Bools
    lengths: Ints

    def to_json(self) -> dict[str, Any]:
        """Per cent over all positions, and for each position, from 1, over the references that reach it."""
        counts = (np.arange(self.forced.shape[1]) < self.lengths[:, None]).sum(0)
        columns = (counts, 100 * self.forced.sum(0) / counts, 100 * self.free.sum(0) / counts)
        rows = enumerate(zip(*(column.tolist() for column in columns), strict=True), start=1)
        forced, free = (100 * float(right.sum()) / int(counts.sum()) for right in (self.forced, self.free))
        return {
            "teacher_forced": forced,
            "free_running": free,
            "difference": forced - free,
            "positions": [
                {"position": at, "references": n, "teacher_forced": a, "free_running": b} for at, (n, a, b) in rows
            ],
        }


def exposure_bias(loaded: LoadedPolicy, *, split: SplitName = "test", max_instances: int | None = None) -> ExposureBias:
    """Measure it on a split, against the first reference of each instance.

    Raises:
        EvaluationError: As ``evaluate``.
        ValueError: The task has no data for this split.
    """
    shards = split_shards(loaded, instance_ids(loaded, split, max_instances))
    parts = [_measure(loaded, *shard) for shard in shards]
    columns = zip(*((part.forced, part.free, part.lengths) for part in parts), strict=True)
    return ExposureBias(*(concatenate_padded(column) for column in columns))


@torch.no_grad()
def _measure(loaded: LoadedPolicy, ids: Ints, source: Sources) -> ExposureBias:
    policy, task = loaded.policy, loaded.task
    memory = encode_sources(policy, source, loaded.device).detach()
    targets, lengths = (torch.from_numpy(column).to(loaded.device) for column in task.references(ids))
    real = length_mask(lengths, targets.shape[1])
    forced = torch.zeros_like(real)
    forced[real] = policy.token_logits(memory, targets, lengths).argmax(-1) == targets[real]
    decoded = decode(policy, memory, torch.from_numpy(task.length_limits(source_sizes(source))).to(loaded.device))
    width = min(targets.shape[1], decoded.sequences.shape[2])
    reached = real[:, :width] & length_mask(decoded.lengths[:, 0], width)
    free = torch.zeros_like(real)
    free[:, :width] = (decoded.sequences[:, 0, :width] == targets[:, :width]) & reached
    return ExposureBias(forced.cpu().numpy(), free.cpu().numpy(), lengths.cpu().numpy())
