"""Bidirectional recurrent encoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.encoders import LSTMEncoderConfig
from rlseq.models.layers.recurrent import BidirectionalLSTM
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq.models.policy import length_mask
from rlseq_envs.source import Source


class RecurrentEncoder(Encoder):
    """A stacked bidirectional LSTM (Schuster & Paliwal 1997): one position of its bank for each of the source.

    A source has one field, a sequence. The summary is the joined last states of the top layer.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: LSTMEncoderConfig) -> None:
        super().__init__()
        self.lstm = BidirectionalLSTM(
            sizes.input_size, sizes.hidden_size, config.layers, config.forget_bias, sizes.dropout
        )
        (self.field,) = sizes.sources
        self.keeps_inputs = sizes.points_to is not None

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        values, lengths = source.fields[self.field]
        if lengths is None:
            lengths = torch.full((source.size,), values.shape[1], device=values.device)
        inputs = embedding(values)
        states, summary = self.lstm(inputs, lengths)
        bank = Bank(states, length_mask(lengths, states.shape[1]), inputs=inputs if self.keeps_inputs else None)
        return Memory({SOURCE: bank}, summary)
