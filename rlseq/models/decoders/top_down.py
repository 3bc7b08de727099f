"""Top-down attention: one LSTM attends, another one says the word."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from rlseq.config.decoders import TopDownConfig
from rlseq.models.decoders.attention_lstm import LSTMState
from rlseq.models.layers.attention import Attention
from rlseq.models.layers.linear import Linear
from rlseq.models.layers.recurrent import LSTMLayer, lstm_step
from rlseq.models.memory import Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes

_GATES = "gates"


class TwoStates(NamedTuple):
    """Of the LSTM that attends, and of that which says words."""

    attending: LSTMState
    saying: LSTMState


class TopDown(Decoder):
    """h¹_t = LSTM¹([h²_{t−1}; v̄; y_{t−1}]), h²_t = LSTM²([v̂_t; h¹_t]) (Anderson et al. 2018, eq. 1 to 6).

    h¹ attends, h² says the word y_t. v̄ is the encoder's summary, v̂ what h¹ attends to. Both begin with a state of 0.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    holds_context = True

    def __init__(self, sizes: DecoderSizes, config: TopDownConfig) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.input_size = sizes.input_size
        self.attending = LSTMLayer(sizes.input_size + 2 * size, size, config.forget_bias)
        self.saying = LSTMLayer(2 * size, size, config.forget_bias)
        self.attention = Attention(config.match, size, size)

    def prepare(self, memory: Memory) -> Memory:
        """With the keys that the match function needs, and the summary's part of the gates."""
        keyed = memory.with_bank(self.bank, keys=(self.attention.keys(memory.banks[self.bank].values),))
        return keyed.with_row(_GATES, F.linear(memory.summary, self._columns()[1]))

    def _columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of the attending LSTM's gates for a word, for the summary, and for h²."""
        size = self.attending.hidden_size
        word, summary, said = self.attending.weight_ih_l0.split([self.input_size, size, size], 1)
        return word, summary, said

    def initial_state(self, memory: Memory) -> TwoStates:
        """Zeros."""
        nothing = torch.zeros_like(memory.summary)
        return TwoStates(LSTMState(nothing, nothing), LSTMState(nothing, nothing))

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The word's part of the gates: (…, 4 * hidden_size)."""
        return self.attending.input_gates(inputs, self.input_size, linear)

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: TwoStates,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, TwoStates]:
        """See ``Decoder``."""
        attending, saying = state
        gates = read + memory.row(_GATES)
        gates = gates + linear(attending.hidden, self.attending.weight_hh_l0, None)
        attending = LSTMState(*lstm_step(gates + linear(saying.hidden, self._columns()[2], None), attending.cell))
        bank = memory.banks[self.bank]
        scores = self.attention(attending.hidden[:, None], bank.keys[0], bank.mask, linear, memory)
        attention = scores.softmax(-1)
        seen = memory.products(attention, bank.values)
        inputs = torch.cat([seen[:, 0], attending.hidden], -1)
        gates = self.saying.input_gates(inputs, inputs.shape[-1], linear)
        saying = LSTMState(*lstm_step(gates + linear(saying.hidden, self.saying.weight_hh_l0, None), saying.cell))
        return DecoderOutput(saying.hidden[:, None], scores, attention, None), TwoStates(attending, saying)
