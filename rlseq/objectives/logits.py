"""Logits of choices that cannot be made: one value for all who forbid a choice, and one test for all who look."""

from __future__ import annotations

from torch import Tensor

# The probability is exactly 0 in fp32, and the gradient 0 and never NaN. It is finite, so that 0 · log 0 is 0.
IMPOSSIBLE = -1e9


def is_possible(scores: Tensor) -> Tensor:
    """Which choices can be made, from logits or log-probabilities of any shape.

    What is impossible stays so if it is scaled a little, or normalised: the bound is a tenth of ``IMPOSSIBLE``.
    """
    return scores > 0.1 * IMPOSSIBLE
