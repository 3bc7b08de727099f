"""How likely the references of a split are to a policy."""

from __future__ import annotations

import numpy as np

from rlseq.decoding.encoding import encode_sources
from rlseq.decoding.likelihood import Likelihood, sequence_nats
from rlseq.evaluation.decoding import Sources, split_shards
from rlseq.evaluation.evaluate import instance_ids
from rlseq.evaluation.loading import LoadedPolicy
from rlseq_envs.task import Floats, Ints, SplitName


def likelihood(loaded: LoadedPolicy, *, split: SplitName = "test", max_instances: int | None = None) -> Likelihood:
    """Measure it on a split.

    Raises:
        EvaluationError: As ``evaluate``.
        ValueError: The task has no data for this split.
    """
    shards = split_shards(loaded, instance_ids(loaded, split, max_instances))
    parts = [_measure(loaded, *shard) for shard in shards]
    return Likelihood(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _measure(loaded: LoadedPolicy, ids: Ints, source: Sources) -> tuple[Floats, Ints]:
    memory = encode_sources(loaded.policy, source, loaded.device).detach()
    sequences, lengths = loaded.task.references(ids)
    return sequence_nats(loaded.policy, memory, sequences, lengths), lengths
