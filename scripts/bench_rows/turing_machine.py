"""A Neural Turing Machine's heads: one function of autograd beside the equations as they stand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench_rows.measure import Figures, at_least, speedup
from rlseq.models.layers.heads import move_and_write

ROWS, LOCATIONS, WIDTH, STEPS = 64, 64, 20, 20


def _plain(
    heads: Tensor, erased: Tensor, added: Tensor, before: Tensor, matrix: Tensor, shift: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Equations 2 to 9 of Graves et al. (2014), one by one; one head reads, one writes."""
    key, strength, gate, moves, sharpness = heads.split([WIDTH, 1, 1, 2 * shift + 1, 1], 2)
    cosine = F.cosine_similarity(key.tanh()[:, :, None], matrix[:, None], dim=3)
    content = (F.softplus(strength) * cosine).softmax(2)
    mixed = gate.sigmoid() * content + (1 - gate.sigmoid()) * before
    chances = moves.softmax(2)
    moved = torch.zeros_like(mixed)
    for place in range(2 * shift + 1):
        moved = moved + chances[:, :, place, None] * mixed.roll(place - shift, 2)
    sharp = moved.pow(1 + F.softplus(sharpness))
    weights = sharp / sharp.sum(2, keepdim=True)
    where = weights[:, 1, :, None]
    matrix = matrix * (1 - where * erased.sigmoid()) + where * added.tanh()
    return weights[:, :1] @ matrix, weights, matrix


def _unrolled(step: Any, given: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What was read in all steps, and the gradient of the heads."""
    heads, erased, added = (each.detach().requires_grad_() for each in given)
    weights = torch.zeros(ROWS, 2, LOCATIONS)
    weights[:, :, 0] = 1.0
    matrix, reads = torch.full((ROWS, LOCATIONS, WIDTH), 1e-3), []
    for time in range(STEPS):
        read, weights, matrix = step(heads[time], erased[time], added[time], weights, matrix, 1)
        reads.append(read)
    joined = torch.stack(reads)
    joined.square().sum().backward()
    assert heads.grad is not None
    return joined, heads.grad


@at_least(1.3)
def turing_machine_vs_plain(quick: bool) -> Figures:
    """20 steps of two heads over 64 memories of 64 × 20, and their gradients: the equations one by one, over ours."""
    generator = torch.Generator().manual_seed(0)
    widths = [(2, WIDTH + 6), (1, WIDTH), (1, WIDTH)]
    given = [torch.randn(STEPS, ROWS, *width, generator=generator) for width in widths]

    def ours(turn: int) -> tuple[Tensor, Tensor]:
        return _unrolled(move_and_write, given)

    def other(turn: int) -> tuple[Tensor, Tensor]:
        return _unrolled(_plain, given)

    for one, another in zip(ours(0), other(0), strict=True):
        torch.testing.assert_close(one, another, atol=1e-4, rtol=1e-3)
    return speedup(ours, other, 4 if quick else 12)
