"""The heads of a Neural Turing Machine: where they go, what they erase, add and read (Graves et al. 2014, sec. 3).

A step is some sixty small products and sums. One function of autograd, whose gradient is written out, has half of them
and none of the bookkeeping between them: on CPUs this is most of what a machine costs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_SMALLEST = 1e-12  # of what is divided by, and of what is raised to a power


def move_and_write(
    heads: Tensor, erased: Tensor, added: Tensor, before: Tensor, matrix: Tensor, shift: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of all heads: they find locations in the memory as it is, then some write, then the others read.

    Args:
        heads: (rows, heads, width + 1 + …) of each head its key and strength and, if it moves, its gate, the scores of
            2 · shift + 1 moves, from that furthest back, and its sharpness, all before they are squashed. Heads that
            read come first.
        erased: (rows, writers, width) what is erased, before the sigmoid.
        added: (rows, writers, width) what is added, before the tanh.
        before: (rows, heads, locations) where the heads are.
        matrix: (rows, locations, width) the memory.
        shift: How many locations a head moves at most; 0: it is found by content alone.

    Returns:
        What was read (rows, readers, width), where the heads are now, and the memory.
    """
    kind = heads.device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            found = _Step.apply(heads.float(), erased.float(), added.float(), before, matrix, shift)
    else:
        found = _Step.apply(heads, erased, added, before, matrix, shift)
    reads, weights, memory = found
    return reads, weights, memory


class _Step(torch.autograd.Function):
    """``move_and_write``; the numbers are those of the paper's equations."""

    @staticmethod
    def forward(
        ctx: Any, heads: Tensor, erased: Tensor, added: Tensor, before: Tensor, matrix: Tensor, shift: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        width = matrix.shape[2]
        key, rest = heads[:, :, :width].tanh(), heads[:, :, width:]
        inverse = torch.linalg.vector_norm(key, dim=2, keepdim=True)
        inverse = (inverse * torch.linalg.vector_norm(matrix, dim=2)[:, None]).clamp_min_(_SMALLEST).reciprocal_()
        cosine = torch.bmm(key, matrix.mT).mul_(inverse)  # (6)
        strength = F.softplus(rest[:, :, :1])
        content = (strength * cosine).softmax(2)  # (5)
        weights, moving = content, []
        if shift:
            gate, moves = rest[:, :, 1:2].sigmoid(), rest[:, :, 2:-1].softmax(2)
            windows = _windows(torch.lerp(before, content, gate), shift)  # (7)
            there = (windows @ moves.flip(2)[:, :, :, None])[:, :, :, 0].clamp_min_(_SMALLEST)  # (8)
            sharpness = 1 + F.softplus(rest[:, :, -1:])
            sharp = there.pow(sharpness)
            total = sharp.sum(2, keepdim=True)
            weights = sharp / total  # (9)
            moving = [gate, moves, windows, there, sharpness, total]
        readers = heads.shape[1] - erased.shape[1]
        erase, add, matrices = erased.sigmoid(), added.tanh(), [matrix]
        for writer in range(erased.shape[1]):
            change = torch.addcmul(add[:, writer, None], matrices[-1], erase[:, writer, None], value=-1)
            matrices.append(torch.addcmul(matrices[-1], weights[:, readers + writer, :, None], change))  # (3), (4)
        reads = torch.bmm(weights[:, :readers], matrices[-1])  # (2)
        ctx.save_for_backward(
            *(rest, before, key, inverse, cosine, strength, content, weights, erase, add), *moving, *matrices
        )
        ctx.shift = shift
        return reads, weights, matrices[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rest, before, key, inverse, cosine, strength, content, weights, erase, add, *saved = ctx.saved_tensors
        moving, matrices = (saved[:6], saved[6:]) if ctx.shift else ([], saved)
        to_reads, to_weights, to_matrix = grads
        readers = weights.shape[1] - erase.shape[1]
        to_matrix = torch.baddbmm(to_matrix, weights[:, :readers].mT, to_reads)
        to_heads = [torch.bmm(to_reads, matrices[-1].mT)]
        to_erase, to_add = torch.empty_like(erase), torch.empty_like(add)
        to_writers = []
        for writer in reversed(range(erase.shape[1])):
            where, touched = weights[:, readers + writer, None], matrices[writer] * to_matrix
            to_add[:, writer] = torch.bmm(where, to_matrix)[:, 0]
            to_erase[:, writer] = torch.bmm(where, touched)[:, 0]
            gone = torch.bmm(erase[:, writer, None], touched.mT)
            to_writers.append(torch.bmm(add[:, writer, None], to_matrix.mT).sub_(gone))
            to_matrix = torch.addcmul(to_matrix, to_matrix * erase[:, writer, None], where.mT, value=-1)
        to_heads += reversed(to_writers)
        to_added = to_add * (1 - add.square())
        to_erased = to_erase * (erase.square() - erase)
        to_content = to_weights + torch.cat(to_heads, 1)
        to_rest, to_before = torch.empty_like(rest), None
        if ctx.shift:
            to_content, to_before = _unmoved(to_content, to_rest, ctx.shift, rest, before, content, weights, *moving)
        to_match = content * to_content
        to_match.addcmul_(content, to_match.sum(2, keepdim=True), value=-1)
        to_cosine = strength * to_match
        likeness = cosine * to_match
        to_rest[:, :, :1] = likeness.sum(2, keepdim=True) * rest[:, :, :1].sigmoid()
        to_product, likeness = to_cosine * inverse, likeness.mul_(strength)
        # The lengths of key and location are parts of what is divided by: both gradients are orthogonal to them.
        along_key = likeness.sum(2, keepdim=True) / key.square().sum(2, keepdim=True).clamp_min_(_SMALLEST**2)
        along = likeness.sum(1) / matrices[0].square().sum(2).clamp_min_(_SMALLEST**2)
        to_key = torch.bmm(to_product, matrices[0]).addcmul_(along_key, key, value=-1).mul_(1 - key.square())
        to_matrix = to_matrix.baddbmm(to_product.mT, key).addcmul_(along[:, :, None], matrices[0], value=-1)
        return torch.cat([to_key, to_rest], 2), to_erased, to_added, to_before, to_matrix, None


def _unmoved(
    to_weights: Tensor,
    to_rest: Tensor,
    shift: int,
    rest: Tensor,
    before: Tensor,
    content: Tensor,
    weights: Tensor,
    gate: Tensor,
    moves: Tensor,
    windows: Tensor,
    there: Tensor,
    sharpness: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of (7) to (9): of the content's weights and of those before; ``to_rest`` gets those of its columns."""
    sharp = weights * (to_weights - (weights * to_weights).sum(2, keepdim=True))  # of the logarithm of sharp
    to_sharpness = (sharp * there.log()).sum(2, keepdim=True)
    to_there = (sharp * sharpness).div_(there).masked_fill_(there <= _SMALLEST, 0.0)
    to_moves = torch.matmul(to_there[:, :, None], windows)[:, :, 0].flip(2)
    to_mixed = (_windows(to_there, shift) @ moves[:, :, :, None])[:, :, :, 0]
    to_gate = (to_mixed * (content - before)).sum(2, keepdim=True)
    to_rest[:, :, 1:2] = to_gate * (gate - gate.square())
    to_rest[:, :, 2:-1] = moves * (to_moves - (moves * to_moves).sum(2, keepdim=True))
    to_rest[:, :, -1:] = to_sharpness * rest[:, :, -1:].sigmoid()
    to_content = gate * to_mixed
    return to_content, to_mixed - to_content


def _windows(values: Tensor, shift: int) -> Tensor:
    """(rows, heads, locations, 2 · shift + 1) of values (rows, heads, locations) on a ring: what is around each."""
    return torch.cat([values[:, :, -shift:], values, values[:, :, :shift]], 2).unfold(2, 2 * shift + 1, 1)
