"""Self-attention over a sequence, or over a set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.encoders import TransformerEncoderConfig
from rlseq.models.layers.transformer import FeedForward, MultiHeadAttention, Positions, Residual, inner_size, near
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq.models.policy import length_mask
from rlseq_envs.source import Source


class TransformerEncoder(Encoder):
    """Layers of self-attention and of maps of each position (Vaswani et al. 2017): a position of its bank for each.

    A source has one field, a sequence. The summary is the mean of the last states. Without positions the encoder sees a
    set: what order it is given in does not matter (Lee et al. 2019). If scores are multiplied by log n, of n positions
    that are read, weights stay sharp on sources longer than those of training (Chiang & Cholak 2022).

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: TransformerEncoderConfig) -> None:
        super().__init__()
        size = sizes.hidden_size
        ((self.field, space),) = sizes.sources.items()
        self.keeps_inputs, self.window = sizes.points_to is not None, config.window
        self.scales_by_log_length = config.scale_by_log_length
        self.widen = nn.Identity() if sizes.input_size == size else nn.Linear(sizes.input_size, size)
        self.positions = Positions(config.positions, size, space.largest[0])
        self.layers = nn.ModuleList(EncoderLayer(size, sizes.dropout, config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(size) if config.norm == "pre" else nn.Identity()

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        values, lengths = source.fields[self.field]
        inputs: Tensor = embedding(values)
        time = inputs.shape[1]
        if lengths is None:
            lengths = torch.full((source.size,), time, device=inputs.device)
        mask = length_mask(lengths, time)
        allowed = mask[:, None]
        if self.window is not None:
            allowed = allowed & near(time, time, self.window, causal=False, device=inputs.device)
        # Padding that is beyond the window of all positions reads none.
        factors = allowed.sum(-1).clamp_min(1).log().to(inputs) if self.scales_by_log_length else None
        states = self.positions(self.widen(inputs))
        for layer in self.layers:
            states = layer(states, allowed, factors)
        states = self.norm(states).masked_fill(~mask[:, :, None], 0.0)
        bank = Bank(states, mask, inputs=inputs if self.keeps_inputs else None)
        return Memory({SOURCE: bank}, states.sum(1) / lengths[:, None])


class EncoderLayer(nn.Module):
    """Self-attention, then a map of each position, both as residual branches.

    Args:
        size: Width of a state.
        dropout: Of features of each branch.
        config: The encoder's section.
    """

    def __init__(self, size: int, dropout: float, config: TransformerEncoderConfig) -> None:
        super().__init__()
        pre = config.norm == "pre"
        self.self_attention = MultiHeadAttention(size, config.heads, config.attention_dropout)
        self.attending = Residual(size, dropout, pre)
        self.feed_forward = FeedForward(size, inner_size(config, size), dropout)
        self.mapping = Residual(size, dropout, pre)

    def forward(self, states: Tensor, allowed: Tensor, factors: Tensor | None = None) -> Tensor:
        """(rows, time, size); given where each may attend, (rows, 1 or time, time), and factors of its scores."""
        entering = self.attending.enter(states)
        read, _ = self.self_attention(entering, self.self_attention.keys_values(entering), allowed, factors=factors)
        states = self.attending.leave(states, read)
        return self.mapping.leave(states, self.feed_forward(self.mapping.enter(states)))
