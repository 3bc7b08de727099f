"""An LSTM without attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.decoders import LSTMDecoderKeys
from rlseq.models.decoders.attention_lstm import LSTMState
from rlseq.models.layers.linear import Linear
from rlseq.models.layers.recurrent import LSTMLayer, lstm_step
from rlseq.models.memory import NOWHERE, Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes

_GATES = "gates"


class LSTMDecoder(Decoder):
    """z_t = LSTM(y_{t−1}, z_{t−1}), z_0 from the encoder's summary, which is all of a source (Sutskever et al. 2014).

    It may read the summary c at every step, z_t = LSTM([y_{t−1}; c], z_{t−1}) (Cho et al. 2014, sec. 2.2).

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    bank = NOWHERE
    holds_context = True

    def __init__(self, sizes: DecoderSizes, config: LSTMDecoderKeys) -> None:
        super().__init__()
        self.input_size, self.rereads = sizes.input_size, config.reads == "every_step"
        width = sizes.input_size + (sizes.hidden_size if self.rereads else 0)
        self.lstm = LSTMLayer(width, sizes.hidden_size, config.forget_bias)
        self.bridge = nn.Linear(sizes.hidden_size, 2 * sizes.hidden_size)

    def prepare(self, memory: Memory) -> Memory:
        """With a bank of no position, and the summary's part of the gates if it is read at every step."""
        if not self.rereads:
            return memory.nowhere()
        return memory.nowhere().with_row(_GATES, F.linear(memory.summary, self.lstm.weight_ih_l0[:, self.input_size :]))

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
        gates = read + linear(state.hidden, self.lstm.weight_hh_l0, None)
        if self.rereads:
            gates = gates + memory.row(_GATES)
        hidden, cell = lstm_step(gates, state.cell)
        return self._output(hidden[:, None], memory, forbidden, linear), LSTMState(hidden, cell)

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput:
        """See ``Decoder``."""
        hidden, cell = self.initial_state(memory)
        if self.rereads:
            inputs = torch.cat([inputs, memory.summary[:, None].expand(-1, inputs.shape[1], -1)], -1)
        return self._output(self.lstm(inputs, (hidden[None], cell[None]))[0], memory, forbidden, F.linear)

    def _output(self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear) -> DecoderOutput:
        """What is made of states (rows, time, hidden_size): here nothing is attended to."""
        return DecoderOutput.of_states(hidden)
