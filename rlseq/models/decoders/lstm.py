"""An LSTM without attention."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.policy import LSTMDecoderKeys
from rlseq.models.decoders.attention_lstm import LSTMState
from rlseq.models.layers.linear import Linear
from rlseq.models.layers.recurrent import LSTMLayer, lstm_step
from rlseq.models.memory import Bank, Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes


class LSTMDecoder(Decoder):
    """z_t = LSTM(y_{t−1}, z_{t−1}), z_0 from the encoder's summary, which is all of a source (Sutskever et al. 2014).

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    bank = "nowhere"  # a bank of no position: it attends to nothing
    holds_context = True

    def __init__(self, sizes: DecoderSizes, config: LSTMDecoderKeys) -> None:
        super().__init__()
        self.input_size = sizes.input_size
        self.lstm = LSTMLayer(sizes.input_size, sizes.hidden_size, config.forget_bias)
        self.bridge = nn.Linear(sizes.hidden_size, 2 * sizes.hidden_size)

    def prepare(self, memory: Memory) -> Memory:
        """With a bank of no position, for it reads the summary alone."""
        nothing = memory.summary[:, :0]
        return replace(memory, banks={**memory.banks, self.bank: Bank(nothing[:, :, None], nothing.bool())})

    def initial_state(self, memory: Memory) -> LSTMState:
        """Mapped from the encoder's summary."""
        hidden, cell = torch.tanh(self.bridge(memory.summary)).chunk(2, 1)
        return LSTMState(hidden.contiguous(), cell.contiguous())

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The inputs' part of the gates: (…, 4 * hidden_size)."""
        return self.lstm.input_gates(inputs, self.input_size, linear)

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: LSTMState,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, LSTMState]:
        """See ``Decoder``."""
        hidden, cell = lstm_step(read + linear(state.hidden, self.lstm.weight_hh_l0, None), state.cell)
        return self._output(hidden[:, None], memory, forbidden, linear), LSTMState(hidden, cell)

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput:
        """See ``Decoder``."""
        hidden, cell = self.initial_state(memory)
        return self._output(self.lstm(inputs, (hidden[None], cell[None]))[0], memory, forbidden, F.linear)

    def _output(self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear) -> DecoderOutput:
        """What is made of states (rows, time, hidden_size): here nothing is attended to."""
        return DecoderOutput(hidden, hidden[:, :, :0], hidden[:, :, :0], None)
