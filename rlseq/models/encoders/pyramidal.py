"""A pyramid of bidirectional LSTMs: each layer halves the time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.encoders import PyramidalEncoderConfig
from rlseq.models.layers.recurrent import BidirectionalLSTM
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq.models.policy import length_mask
from rlseq_envs.source import Source


class PyramidalEncoder(Encoder):
    """h_i^j = BLSTM(h_{i−1}^j, [h_2i^{j−1}; h_{2i+1}^{j−1}]) on a BLSTM of all positions (Chan et al. 2016, eq. 5).

    A source has one field, a sequence. Each halving joins two neighbours; the last of an odd number is joined with 0.
    Of n positions the bank has ⌈n / 2^halvings⌉. The summary is the joined last states of the top layer.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: PyramidalEncoderConfig) -> None:
        super().__init__()
        widths = [sizes.input_size] + [2 * sizes.hidden_size] * config.halvings
        self.layers = nn.ModuleList(
            BidirectionalLSTM(width, sizes.hidden_size, 1, config.forget_bias, 0.0) for width in widths
        )
        self.dropout = nn.Dropout(sizes.dropout)
        (self.field,) = sizes.sources

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        values, lengths = source.fields[self.field]
        if lengths is None:
            lengths = torch.full((source.size,), values.shape[1], device=values.device)
        bottom, *halving = self.layers
        states, summary = bottom(embedding(values), lengths)
        for layer in halving:
            states, lengths = joined(self.dropout(states), lengths)
            states, summary = layer(states, lengths)
        return Memory({SOURCE: Bank(states, length_mask(lengths, states.shape[1]))}, summary)


def joined(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours side by side, (batch_size, ⌈time / 2⌉, 2 · width), and ⌈length / 2⌉ of each; 0 beyond a length."""
    there = states.masked_fill(~length_mask(lengths, states.shape[1])[:, :, None], 0.0)
    even = F.pad(there, (0, 0, 0, states.shape[1] % 2))
    return even.unflatten(1, (-1, 2)).flatten(2), (lengths + 1) // 2
