"""How likely references are to a policy, whatever it would say itself.

Definition. Of an instance with reference y of length L, END counted, −log p(y) = −Σ_t log p(y_t | y_1 … y_{t−1}) in
nats, under the policy's own distribution (temperature 1, nothing cut off). A dimension is a token: bits a dimension are
nats a token / log 2, what generators of images are compared by (Oord et al. 2016, sec. 5.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rlseq.decoding.encoding import encode_sources
from rlseq.evaluation.decoding import Sources, forced_log_probs, split_shards
from rlseq.evaluation.evaluate import instance_ids, number
from rlseq.evaluation.loading import LoadedPolicy
from rlseq.objectives.logits import is_possible
from rlseq_envs.task import Floats, Ints, SplitName


@dataclass(frozen=True)
class Likelihood:
    """Of the first reference of each instance.

    Attributes:
        nats: (instances,) −log p of the whole reference; infinite if the policy cannot emit it.
        lengths: (instances,) its tokens, END counted.
    """

    nats: Floats
    lengths: Ints

    def to_json(self) -> dict[str, Any]:
        """Means, JSON-ready; one that is not finite becomes null."""
        a_token = float(self.nats.sum() / self.lengths.sum())
        return {
            "instances": len(self.nats),
            "tokens": int(self.lengths.sum()),
            "nats_per_sequence": number(float(self.nats.mean())),
            "nats_per_token": number(a_token),
            "perplexity": number(float(np.exp(a_token))),
            "bits_per_dimension": number(a_token / math.log(2)),
        }


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
    of_tokens = forced_log_probs(loaded, memory, sequences, lengths)[1]
    nats = -torch.where(is_possible(of_tokens), of_tokens, -math.inf).cpu().numpy()
    return np.add.reduceat(nats, np.cumsum(lengths) - lengths), lengths
