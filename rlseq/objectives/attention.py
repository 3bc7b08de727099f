"""A regulariser of the attention: a pure function of it."""

from __future__ import annotations

from torch import Tensor


def attention_spread(attention: Tensor, target_mask: Tensor, source_mask: Tensor, target: Tensor) -> Tensor:
    """Σ_i (τ − Σ_t α_ti)²: how far the attention that each source position gets over all steps is from τ.

    Xu et al. 2015, sec. 4.2.1, eq. 14 (doubly stochastic attention), where τ is 1. As many steps as positions give 1 to
    each on average; τ learned is the mean of what they get if there are more or fewer.

    Args:
        attention: (batch_size, time, source_length).
        target_mask: (batch_size, time) True at the tokens of a sequence.
        source_mask: (batch_size, source_length) True at the positions of a source.
        target: () τ.

    Returns:
        (batch_size,).
    """
    given = (attention * target_mask[:, :, None]).sum(1)
    return ((target - given).square() * source_mask).sum(1)
