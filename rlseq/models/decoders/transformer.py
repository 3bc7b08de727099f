"""A transformer's decoder, which keeps the keys and values of what it has read."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.decoders import TransformerDecoderConfig
from rlseq.models.layers.attention import Attention
from rlseq.models.layers.linear import Linear
from rlseq.models.layers.transformer import FeedForward, MultiHeadAttention, Positions, Residual, inner_size, near
from rlseq.models.memory import Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes
from rlseq.objectives.logits import IMPOSSIBLE


class Kept(NamedTuple):
    """Of each layer (rows, steps, 2 · hidden_size): keys and values of what was read, as far back as it reads."""

    layers: tuple[Tensor, ...]


class TransformerDecoder(Decoder):
    """Layers of self-attention to what was read, attention to the source, and maps (Vaswani et al. 2017).

    The attention that it gives out is that of the last layer, a mean over heads. If the output points, one more
    attention, of one head, is the distribution over positions.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    holds_context = True
    drops = True

    def __init__(self, sizes: DecoderSizes, config: TransformerDecoderConfig) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.window, self.kept_size = config.window, 2 * size
        self.widen = nn.Linear(sizes.input_size, size)
        self.positions = Positions(config.positions, size, sizes.longest)
        self.layers = nn.ModuleList(DecoderLayer(size, sizes.dropout, config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(size) if config.norm == "pre" else nn.Identity()
        self.pointing = None if sizes.reads else Attention(config.match, size, size)

    def prepare(self, memory: Memory) -> Memory:
        """With each layer's keys and values of the bank, and at last those that are pointed at."""
        values = memory.banks[self.bank].values
        keys = [layer.attention.keys_values(values) for layer in self.layers if isinstance(layer, DecoderLayer)]
        if self.pointing is not None:
            keys.append(self.pointing.keys(values))
        return memory.with_bank(self.bank, keys=tuple(keys))

    def initial_state(self, memory: Memory) -> Kept:
        """Nothing was read."""
        return Kept(tuple(memory.summary.new_zeros(len(memory), 0, self.kept_size) for _ in self.layers))

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The inputs at the decoder's width."""
        return linear(inputs, self.widen.weight, self.widen.bias)

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: Kept,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, Kept]:
        """See ``Decoder``."""
        return self._advance(self.positions(read[:, None], time), state, memory, forbidden, linear)

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput:
        """See ``Decoder``."""
        read = self.positions(self.read(inputs))
        return self._advance(read, self.initial_state(memory), memory, forbidden, F.linear)[0]

    def _advance(
        self, states: Tensor, before: Kept, memory: Memory, forbidden: Tensor | None, linear: Linear
    ) -> tuple[DecoderOutput, Kept]:
        """Steps (rows, time, hidden_size) that follow what was kept before."""
        bank, kept, weights = memory.banks[self.bank], [], states
        time, past = states.shape[1], before.layers[0].shape[1]
        allowed = near(time, past + time, self.window, causal=True, device=states.device) if time > 1 else None
        there = memory.rows(bank.mask)[:, None]
        if forbidden is not None and self.pointing is None:
            there = there & ~forbidden
        for layer, keys, old in zip(self.layers, bank.keys, before.layers, strict=False):
            states, weights, new = layer(states, old, allowed, keys, there, memory, linear)
            kept.append(new if self.window is None else new[:, -self.window :])
        states = self.norm(states)
        if self.pointing is None:
            attention = weights.mean(1)
            scores = attention.clamp_min(torch.finfo(attention.dtype).tiny).log()
        else:
            scores = self.pointing(states, bank.keys[-1], bank.mask, linear, memory)
            if forbidden is not None:
                scores = scores.masked_fill(forbidden, IMPOSSIBLE)
            attention = scores.softmax(-1)
        return DecoderOutput(states, scores, attention, None), Kept(tuple(kept))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the source, and a map of each position, all as residual branches.

    Args:
        size: Width of a state.
        dropout: Of features of each branch.
        config: The decoder's section.
    """

    def __init__(self, size: int, dropout: float, config: TransformerDecoderConfig) -> None:
        super().__init__()
        pre = config.norm == "pre"
        self.self_attention = MultiHeadAttention(size, config.heads, config.attention_dropout)
        self.recalling = Residual(size, dropout, pre)
        self.attention = MultiHeadAttention(size, config.heads, config.attention_dropout)
        self.attending = Residual(size, dropout, pre)
        self.feed_forward = FeedForward(size, inner_size(config, size), dropout)
        self.mapping = Residual(size, dropout, pre)

    def forward(
        self,
        states: Tensor,
        before: Tensor,
        allowed: Tensor | None,
        keys: Tensor,
        there: Tensor,
        memory: Memory,
        linear: Linear,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New states, the weights (rows, heads, time, positions) of the source, and what is kept.

        Args:
            states: (rows, time, size).
            before: (rows, steps, 2 · size) what was kept.
            allowed: (1, time, steps + time) True where a step may look back; None: everywhere.
            keys: (sources, positions, 2 · size) of the source.
            there: (rows, time or 1, positions) True at positions of the source that may be attended to.
            memory: Says which source a row reads.
            linear: Does the linear maps.
        """
        entering = self.recalling.enter(states)
        kept = torch.cat([before, self.self_attention.keys_values(entering, linear)], 1)
        recalled, _ = self.self_attention(entering, kept, allowed, linear)
        states = self.recalling.leave(states, recalled)
        read, weights = self.attention(self.attending.enter(states), keys, there, linear, memory)
        states = self.attending.leave(states, read)
        states = self.mapping.leave(states, self.feed_forward(self.mapping.enter(states), linear))
        return states, weights, kept
