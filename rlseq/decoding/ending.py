"""When a sequence may end."""

from __future__ import annotations

from torch import Tensor

from rlseq.objectives.logits import IMPOSSIBLE, is_possible


def without_end(scores: Tensor) -> Tensor:
    """Logits or log-probabilities (…, choices) with END forbidden, where anything else is possible at all.

    A decoder with a minimum length takes these before it. A sequence with nothing left to choose ends all the same, as
    one whose limit is shorter is cut there.
    """
    others = is_possible(scores[..., 1:].amax(-1))
    allowed = scores.clone()
    allowed[..., 0] = scores[..., 0].masked_fill(others, IMPOSSIBLE)
    return allowed
