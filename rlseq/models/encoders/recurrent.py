"""Bidirectional recurrent encoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.models.layers.recurrent import BidirectionalLSTM
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder
from rlseq.models.policy import length_mask
from rlseq_envs.source import Source


class RecurrentEncoder(Encoder):
    """A stacked bidirectional LSTM (Schuster & Paliwal 1997): one position of its bank for each of the source.

    The summary is the joined last states of the top layer.

    Args:
        lstm: The layers.
        field: The field of the source that it reads, a sequence.
        keeps_inputs: Keep the embedded source in the bank, for an output that points at it.
    """

    def __init__(self, lstm: BidirectionalLSTM, field: str, keeps_inputs: bool) -> None:
        super().__init__()
        self.lstm = lstm
        self.field = field
        self.keeps_inputs = keeps_inputs

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        values, lengths = source.fields[self.field]
        if lengths is None:
            lengths = torch.full((source.size,), values.shape[1], device=values.device)
        inputs = embedding(values)
        states, summary = self.lstm(inputs, lengths)
        bank = Bank(states, length_mask(lengths, states.shape[1]), inputs=inputs if self.keeps_inputs else None)
        return Memory({SOURCE: bank}, summary)
