"""How likely sequences are to a policy, whatever it would say itself.

Definition. Of a sequence y of length L, END counted, −log p(y) = −Σ_t log p(y_t | y_1 … y_{t−1}) in nats, under the
policy's own distribution (temperature 1, nothing cut off). A dimension is a token: bits a dimension are nats a token /
log 2, what generators of images are compared by (Oord et al. 2016, sec. 5.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlseq.models.memory import Memory
from rlseq.models.policy import SequencePolicy
from rlseq.objectives.logits import is_possible
from rlseq_envs.task import Floats, Ints


@dataclass(frozen=True)
class Likelihood:
    """Of the first reference of each instance.

    Attributes:
        nats: (instances,) −log p of the whole reference; infinite if the policy cannot emit it.
        lengths: (instances,) its tokens, END counted.
    """

    nats: Floats
    lengths: Ints

    @property
    def means(self) -> dict[str, float]:
        """Of all instances, by name."""
        a_token = float(self.nats.sum() / self.lengths.sum())
        return {
            "nats_per_sequence": float(self.nats.mean()),
            "nats_per_token": a_token,
            "perplexity": float(np.exp(a_token)),
            "bits_per_dimension": a_token / math.log(2),
        }

    def to_json(self) -> dict[str, Any]:
        """Counts and means, JSON-ready; a mean that is not finite becomes null."""
        means = {name: value if math.isfinite(value) else None for name, value in self.means.items()}
        return {"instances": len(self.nats), "tokens": int(self.lengths.sum())} | means


@torch.no_grad()
def forced_log_probs(policy: SequencePolicy, memory: Memory, sequences: Ints, lengths: Ints) -> tuple[Tensor, Tensor]:
    """What a policy says of sequences (batch_size, time), each token after those before it.

    Returns:
        Log-probabilities of all choices at each of the N tokens that count, row by row, (N, choices), and those of the
        tokens themselves, (N,); in double precision.
    """
    targets, counts = (torch.from_numpy(column).to(memory.summary.device) for column in (sequences, lengths))
    forced = policy.forced(memory, targets, counts)
    log_probs = policy.project(forced.features).double().log_softmax(-1)
    return log_probs, log_probs.gather(1, targets[forced.counted][:, None])[:, 0]


def sequence_nats(policy: SequencePolicy, memory: Memory, sequences: Ints, lengths: Ints) -> Floats:
    """−log p of each sequence, (batch_size,); infinite if the policy cannot emit it."""
    of_tokens = forced_log_probs(policy, memory, sequences, lengths)[1]
    nats = -torch.where(is_possible(of_tokens), of_tokens, -math.inf).cpu().numpy()
    return np.add.reduceat(nats, np.cumsum(lengths) - lengths)
