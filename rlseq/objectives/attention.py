"""A regulariser of the attention: a pure function of it."""

from __future__ import annotations

from torch import Tensor


def attention_spread(attention: Tensor, real: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """Σ_i (τ − Σ_t α_ti)²: how far the attention that source positions get, over all steps, is from a like share τ.

    Xu et al. 2015, sec. 4.2.1, eq. 14 (doubly stochastic attention), where τ is 1. As many steps as positions give 1 to
    each on average; τ learned is the mean of what they get where there are more or fewer.

    Args:
        attention: (batch_size, time, source_length).
        real: (batch_size, time) True at real tokens.
        mask: (batch_size, source_length) True at real positions.
        target: () τ.

    Returns:
        (batch_size,).
    """
    given = (attention * real[:, :, None]).sum(1)
    return ((target - given).square() * mask).sum(1)
