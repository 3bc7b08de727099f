"""Match functions between decoder states and encoder states.

``additive``: v·tanh(W h + U z) (Bahdanau et al. 2015, eq. 6 ff.); ``bilinear``: hᵀ W z ("general"), ``dot``: hᵀ z
(Luong et al. 2015, sec. 3.1); ``scaled_dot``: hᵀ z / √d (Vaswani et al. 2017, eq. 1); ``cosine``: β cos(h, z) with a
learned sharpness β (Graves et al. 2014, eq. 5 f.).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.parts import MatchFunction
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import Memory
from rlseq.objectives.logits import IMPOSSIBLE

CACHE_FLOATS = 1 << 17  # floats of a part of all pairs: 512 KiB


def fast_tanh(x: Tensor) -> Tensor:
    """Tanh as 2σ(2x) − 1: the same to 3e-7, and faster on CPUs, whose sigmoid is vectorised better."""
    return torch.sigmoid(2.0 * x) * 2.0 - 1.0


class AdditiveScores(torch.autograd.Function):
    """v·tanh(q + k) for every pair of query and key, forward and backward in parts that stay in the cache.

    Nothing of the size of all pairs times features is kept: the backward computes its tanh anew.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
        """Scores (batch_size, time, source_length) from (batch_size, time, d), (batch_size, source_length, d), (d,)."""
        ctx.save_for_backward(queries, keys, energy)
        with torch.autocast(queries.device.type, enabled=False):
            return torch.cat([_pairs(q, k) @ energy for q, k in _parts(queries, keys)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of queries, keys and energy."""
        queries, keys, energy = ctx.saved_tensors
        grad_energy, grad_queries, grad_keys = torch.zeros_like(energy), [], []
        for (q, k), grad in zip(_parts(queries, keys), grads[0].split(_rows(queries, keys)), strict=True):
            hidden = _pairs(q, k)
            grad_energy.addmv_(hidden.flatten(0, 2).t(), grad.flatten())
            inner = hidden.square_().neg_().add_(1.0).mul_(energy).mul_(grad[..., None])
            grad_queries.append(inner.sum(2))
            grad_keys.append(inner.sum(1))
        return torch.cat(grad_queries), torch.cat(grad_keys), grad_energy


def _pairs(queries: Tensor, keys: Tensor) -> Tensor:
    """tanh(q + k), (rows, time, source_length, d), through the sigmoid as in ``fast_tanh``."""
    return torch.sigmoid_((queries[:, :, None] + keys[:, None]).mul_(2.0)).mul_(2.0).sub_(1.0)


def _rows(queries: Tensor, keys: Tensor) -> int:
    """How many rows make a part: all of them on a GPU, a cache's worth of pairs on a CPU."""
    if queries.is_cuda:
        return max(1, len(queries))
    return max(1, CACHE_FLOATS // max(1, queries.shape[1] * keys.shape[1] * keys.shape[2]))


def _parts(queries: Tensor, keys: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    rows = _rows(queries, keys)
    return zip(queries.split(rows), keys.split(rows), strict=True)


class Attention(nn.Module):
    """Scores every encoder state against every query.

    Args:
        match: The match function.
        query_size: Width of a decoder state.
        state_size: Width of an encoder state.

    Raises:
        ValueError: ``dot``, ``scaled_dot`` and ``cosine`` compare vectors of one width, and the two differ.
    """

    def __init__(self, match: MatchFunction, query_size: int, state_size: int) -> None:
        super().__init__()
        if match in ("dot", "scaled_dot", "cosine") and query_size != state_size:
            raise ValueError(
                f"match {match!r} needs decoder and encoder states of one width: {query_size} ≠ {state_size}"
            )
        self.match = match
        if match in ("additive", "bilinear"):
            self.key = nn.Linear(state_size, query_size, bias=False)
        if match == "additive":
            self.query = nn.Linear(query_size, query_size, bias=False)
            self.energy = nn.Parameter(torch.empty(query_size).uniform_(-1, 1) / math.sqrt(query_size))
        if match == "cosine":
            self.sharpness = nn.Parameter(torch.tensor(5.0))

    def keys(self, states: Tensor) -> Tensor:
        """What of (batch_size, source_length, state_size) does not depend on the query: computed once a source."""
        if self.match in ("additive", "bilinear"):
            return self.key(states)
        if self.match == "cosine":
            return F.normalize(states, dim=-1)
        return states

    def forward(
        self, queries: Tensor, keys: Tensor, mask: Tensor, linear: Linear = F.linear, memory: Memory | None = None
    ) -> Tensor:
        """Scores (rows, time, positions); ``IMPOSSIBLE`` where ``mask`` (sources, positions) is False.

        Args:
            queries: (rows, time, query_size).
            keys: (sources, positions, key_size).
            mask: (sources, positions).
            linear: Does the linear maps.
            memory: Says which source a row reads; None: row i reads source i. If rows share sources, time is 1, and no
                gradient passes through the additive match.
        """
        if self.match == "additive":
            mapped, dtype = linear(queries, self.query.weight, None), self.energy.dtype
            scores = self._additive(mapped.to(dtype), keys.to(dtype), memory)
        else:
            scaled, by_feature = self._scaled(queries), keys.transpose(1, 2)
            scores = torch.bmm(scaled, by_feature) if memory is None else memory.products(scaled, by_feature)
        mask = mask if memory is None else memory.rows(mask)
        return scores.masked_fill(~mask[:, None], IMPOSSIBLE)

    def _additive(self, queries: Tensor, keys: Tensor, memory: Memory | None) -> Tensor:
        if memory is None or memory.sharing is None:
            scores: Tensor = AdditiveScores.apply(queries, keys, self.energy)
            return scores
        rows = _rows(queries, keys)
        parts = zip(queries.split(rows), memory.sharing.source.split(rows), strict=True)
        return torch.cat([_pairs(part, keys[source]) @ self.energy for part, source in parts])

    def _scaled(self, queries: Tensor) -> Tensor:
        if self.match == "scaled_dot":
            return queries / math.sqrt(queries.shape[-1])
        if self.match == "cosine":
            return self.sharpness * F.normalize(queries, dim=-1)
        return queries
