"""When a sequence may end."""

from __future__ import annotations

from torch import Tensor

from rlseq.objectives.logits import IMPOSSIBLE, is_possible


def without_end(scores: Tensor) -> Tensor:
    """Logits or log-probabilities (…, choices) with END forbidden: what is used for every step before ``min_length``.

    If a row has no other possible choice, END stays possible: the sequence ends early.
    """
    others = is_possible(scores[..., 1:].amax(-1))
    allowed = scores.clone()
    allowed[..., 0] = scores[..., 0].masked_fill(others, IMPOSSIBLE)
    return allowed
