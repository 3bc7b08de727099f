"""What every objective is: the columns that it adds to a batch, and the loss that it makes of log-probabilities.

The gradient of each is Σ w ∇(−log p) with weights w that follow from the log-probabilities alone, so all share the
fused projection and loss of ``losses.weighted_nll``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rlseq.config.objectives import ObjectiveConfig
from rlseq.config.rl import RLConfig
from rlseq.objectives import losses
from rlseq.objectives.distribution import SamplingDistribution

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]
Statistics = dict[str, Tensor]
S = TypeVar("S", bound=ObjectiveConfig)


@dataclass(frozen=True)
class Samples:
    """What was sampled for a batch: K sequences an instance, END beyond a length.

    Attributes:
        sequences: (batch_size, K, time) tokens.
        lengths: (batch_size, K).
        sampled: (batch_size, K, time) True at tokens that were sampled: not given, and not beyond a length.
        some_given: Whether any token was given.
        rewards: (batch_size, K) as training sees them.
        log_probs: (batch_size, K) of whole sequences, from the sampler.
        token_log_probs: (batch_size, K, time) of each token, from the sampler; None if it kept none.
        reference: Of each instance, if the objective asked for it: tokens (batch_size, time), lengths (batch_size,)
            and rewards (batch_size,) as training sees them.
    """

    sequences: Ints
    lengths: Ints
    sampled: npt.NDArray[np.bool_]
    some_given: bool
    rewards: Floats
    log_probs: Floats
    token_log_probs: npt.NDArray[np.float32] | None
    reference: tuple[Ints, Ints, Floats] | None = None


@dataclass(frozen=True)
class Scored:
    """Rows of a batch that the policy has read again; their N tokens are packed row by row.

    Attributes:
        rows: (R,) which of the batch's batch_size × K sequences.
        mask: (R, time) True at a sequence's tokens.
        lengths: (R,).
        targets: (N,) tokens.
        values: (N, D) what ``head`` reads; logits (N, C) if there is no head.
        head: Weight and bias of the layer that turns features into logits.
        distribution: That the targets were sampled from.
        batch: The columns, as tensors.
    """

    rows: Tensor
    mask: Tensor
    lengths: Tensor
    targets: Tensor
    values: Tensor
    head: losses.Head | None
    distribution: SamplingDistribution
    batch: dict[str, Tensor]

    def of_rows(self, column: str) -> Tensor:
        """A column (batch_size, K) of these rows, (R,)."""
        return self.batch[column].flatten()[self.rows]

    def of_tokens(self, column: str) -> Tensor:
        """A column (batch_size, K, time) at these rows' tokens, (N,)."""
        return self.batch[column].flatten(0, 1)[self.rows][self.mask]

    def log_probs(self) -> Tensor:
        """Log-probabilities of the tokens, (N,), without a graph."""
        return losses.token_log_probs(self.values, self.head, self.targets, self.distribution)

    def weighted_nll(self, weights: Tensor) -> Tensor:
        """Σ w · −log p, from weights (N,)."""
        return losses.weighted_nll(self.values, self.head, self.targets, weights, distribution=self.distribution)[0]

    def surrogate(self, weights: Tensor, value: Tensor) -> Tensor:
        """A loss of this value, whose gradient is Σ w ∇(−log p); neither argument has a graph."""
        loss = self.weighted_nll(weights)
        return loss + (value - loss.detach())


class Objective(Generic[S]):
    """What an update minimises, beside the terms that any objective may have.

    Attributes:
        rl: The phase's section.
        section: The objective's.
        uses_advantages: Whether its weights are made of advantages.
        given_advantage: What a token that was given counts as; 0: nothing is learnt from it.
    """

    uses_advantages: ClassVar[bool] = True
    given_advantage: ClassVar[float] = 0.0

    def __init__(self, rl: RLConfig) -> None:
        self.rl, self.section = rl, cast(S, rl.objective)

    @property
    def compares_reference(self) -> bool:
        """Whether the references, and what they are worth, are wanted in ``Samples``."""
        return False

    @property
    def reads_logits(self) -> bool:
        """Whether the loss reads logits, and not only the log-probabilities of the targets."""
        return False

    def columns(self, samples: Samples, batch: Columns) -> Columns:
        """Columns to add to a batch, or to replace: see ``rlseq.training.batch``."""
        return {}

    def statistics(self, batch: Columns) -> dict[str, float]:
        """Statistics of a batch, by tag."""
        return {}

    def loss(self, scored: Scored, weights: Tensor) -> tuple[Tensor, Statistics]:
        """The loss, and statistics by tag; here Σ w · −log p.

        Args:
            scored: The rows that are read again.
            weights: (N,) of their tokens: advantage / divisor of the loss.
        """
        return scored.weighted_nll(weights), {}


def first_of_equals(sequences: Ints) -> Ints:
    """Of each sequence of an instance (batch_size, K), the place of the first that equals it."""
    return (sequences[:, :, None] == sequences[:, None]).all(-1).argmax(2)
