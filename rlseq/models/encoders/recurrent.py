"""Bidirectional recurrent encoders."""

from __future__ import annotations

from torch import Tensor

from rlseq.models.layers.recurrent import BidirectionalLSTM
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Encoder
from rlseq.models.policy import length_mask


class RecurrentEncoder(Encoder):
    """A stacked bidirectional LSTM (Schuster & Paliwal 1997): one position of its bank for each of the source.

    The summary is the joined last states of the top layer.

    Args:
        lstm: The layers.
        keeps_inputs: Keep the embedded source in the bank, for an output that points at it.
    """

    def __init__(self, lstm: BidirectionalLSTM, keeps_inputs: bool) -> None:
        super().__init__()
        self.lstm = lstm
        self.keeps_inputs = keeps_inputs

    def forward(self, inputs: Tensor, lengths: Tensor) -> Memory:
        """See ``Encoder``."""
        states, summary = self.lstm(inputs, lengths)
        bank = Bank(states, length_mask(lengths, states.shape[1]), inputs=inputs if self.keeps_inputs else None)
        return Memory({SOURCE: bank}, summary)
