"""What a transformer is made of: attention with several heads, positions, residual branches (Vaswani et al. 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.parts import TransformerKeys
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import Memory
from rlseq.objectives.logits import IMPOSSIBLE


class MultiHeadAttention(nn.Module):
    """softmax(q kᵀ / √d) v in each of some heads, which are joined (Vaswani et al. 2017, sec. 3.2.2).

    Keys have no bias, for it would change no softmax; values have none, for that of the joined heads does its work.

    Args:
        size: Width of what comes in and goes out.
        heads: Number of heads; they divide ``size``.
        dropout: Of single weights.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, (size // heads) ** -0.5
        self.query, self.key_value = nn.Linear(size, size), nn.Linear(size, 2 * size, bias=False)
        self.join, self.dropout = nn.Linear(size, size), nn.Dropout(dropout)
        with torch.no_grad():
            for weight in (self.query.weight, *self.key_value.weight.chunk(2), self.join.weight):
                nn.init.xavier_uniform_(weight)
            self.query.bias.zero_()
            self.join.bias.zero_()

    def keys_values(self, states: Tensor, linear: Linear = F.linear) -> Tensor:
        """What is kept of positions (…, positions, size) to attend to them: (…, positions, 2 · size)."""
        return linear(states, self.key_value.weight, None)

    def forward(
        self,
        states: Tensor,
        kept: Tensor,
        allowed: Tensor | None,
        linear: Linear = F.linear,
        memory: Memory | None = None,
        factors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What each state reads, and by which weights.

        Args:
            states: (rows, time, size) that attend.
            kept: (rows, positions, 2 · size) as of ``keys_values``; with a memory (sources, positions, 2 · size).
            allowed: (rows or 1, time or 1, positions) True where a state may attend; None: everywhere.
            linear: Does the linear maps.
            memory: Says which source a row reads; None: row i reads row i of ``kept``.
            factors: (rows or 1, time or 1) what the scores of a state are multiplied by; None: 1.

        Returns:
            (rows, time, size), and (rows, heads, time, positions).
        """
        products = torch.matmul if memory is None else memory.products
        queries = linear(states, self.query.weight, self.query.bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = kept.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scale = self.scale if factors is None else self.scale * factors[:, None, :, None]
        scores = products(queries * scale, keys.mT)
        if allowed is not None:
            scores = scores.masked_fill(~allowed[:, None], IMPOSSIBLE)
        weights = scores.softmax(-1)
        read = products(self.dropout(weights), values).transpose(1, 2).flatten(2)
        return linear(read, self.join.weight, self.join.bias), weights


class FeedForward(nn.Module):
    """W₂ relu(W₁ x) at each position (ibid., sec. 3.3).

    Args:
        size: Width of what comes in and goes out.
        inner_size: Width between.
        dropout: Of features between.
    """

    def __init__(self, size: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.up, self.down, self.dropout = nn.Linear(size, inner_size), nn.Linear(inner_size, size), nn.Dropout(dropout)
        for layer in (self.up, self.down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, states: Tensor, linear: Linear = F.linear) -> Tensor:
        """(…, size) of (…, size)."""
        inner = F.relu(linear(states, self.up.weight, self.up.bias))
        return linear(self.dropout(inner), self.down.weight, self.down.bias)


class Residual(nn.Module):
    """x + f(x), normalised before f (pre, Xiong et al. 2020) or behind the sum (post, Vaswani et al. 2017).

    Args:
        size: Width.
        dropout: Of features of f(x).
        pre: Whether what f reads is normalised.
    """

    def __init__(self, size: int, dropout: float, pre: bool) -> None:
        super().__init__()
        self.norm, self.dropout, self.pre = nn.LayerNorm(size), nn.Dropout(dropout), pre

    def enter(self, states: Tensor) -> Tensor:
        """What f reads."""
        normalised: Tensor = self.norm(states) if self.pre else states
        return normalised

    def leave(self, states: Tensor, made: Tensor) -> Tensor:
        """The sum of x and what f made."""
        joined = states + self.dropout(made)
        return joined if self.pre else self.norm(joined)


class Positions(nn.Module):
    """Adds to a vector where it stands.

    ``sinusoidal`` as ibid., sec. 3.5, any number of positions; ``learned`` up to the longest there is, beyond which all
    are the last one; ``none``: order is not seen, so that a sequence is a set.

    Args:
        kind: Which.
        size: Width of a vector.
        longest: Number of learned positions.
    """

    def __init__(self, kind: str, size: int, longest: int) -> None:
        super().__init__()
        self.kind, self.size = kind, size
        if kind == "learned":
            self.table = nn.Parameter(torch.randn(longest, size) * size**-0.5)

    def forward(self, vectors: Tensor, first: int = 0) -> Tensor:
        """Of vectors (…, time, size), of which the first stands at ``first``."""
        if self.kind == "none":
            return vectors
        places = torch.arange(first, first + vectors.shape[-2], device=vectors.device)
        if self.kind == "learned":
            return vectors + self.table[places.clamp_max(len(self.table) - 1)]
        half = (self.size + 1) // 2
        rates = torch.exp(torch.arange(half, device=vectors.device) * (-math.log(10000.0) / max(1, half - 1)))
        angles = places[:, None] * rates
        return vectors + torch.cat([angles.sin(), angles.cos()], 1)[:, : self.size].to(vectors)


def inner_size(config: TransformerKeys, size: int) -> int:
    """Width of the feed-forward layers."""
    return config.feedforward_size or 4 * size


def near(time: int, positions: int, window: int | None, causal: bool, device: torch.device) -> Tensor:
    """(1, time, positions) True where a step may attend: ``time`` steps, of which the last is the last position.

    Args:
        time: Number of steps.
        positions: Number of positions.
        window: How far away they may be; None: any distance.
        causal: Whether later ones are left out.
        device: Of the result.
    """
    steps = torch.arange(positions - time, positions, device=device)[:, None]
    ahead = torch.arange(positions, device=device) - steps
    allowed = ahead <= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    return (allowed if window is None else allowed & (ahead.abs() <= window))[None]
