"""An LSTM that attends to the source at every step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.decoders import AttentionLSTMConfig
from rlseq.models.layers.attention import Attention
from rlseq.models.layers.linear import Linear
from rlseq.models.layers.recurrent import LSTMLayer, lstm_step
from rlseq.models.memory import Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes
from rlseq.objectives.logits import IMPOSSIBLE


class LSTMState(NamedTuple):
    """(rows, hidden_size) each."""

    hidden: Tensor
    cell: Tensor


class AttentionLSTM(Decoder):
    """z_t = LSTM([y_{t−1}; fed], z_{t−1}); the state z_t, which has read y_{t−1}, attends (Luong et al. 2015).

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: DecoderSizes, config: AttentionLSTMConfig) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.input_size, self.feeds = sizes.input_size, config.feed_context
        self.reads = sizes.reads or self.feeds
        self.normalises = config.normalise == "softmax"
        self.lstm = LSTMLayer(sizes.input_size + (sizes.feed_size if self.feeds else 0), size, config.forget_bias)
        self.attention = Attention(config.match, size, size)
        if config.first_state == "encoder":
            self.bridge = nn.Linear(size, 2 * size)
        else:
            self.first_state = nn.Parameter(torch.zeros(2 * size))
        self.has_bridge = config.first_state == "encoder"

    def prepare(self, memory: Memory) -> Memory:
        """With the keys that the match function needs."""
        return memory.with_bank(self.bank, keys=(self.attention.keys(memory.banks[self.bank].values),))

    def initial_state(self, memory: Memory) -> LSTMState:
        """Mapped from the encoder's summary, or learned."""
        joined = (
            torch.tanh(self.bridge(memory.summary)) if self.has_bridge else self.first_state.expand(len(memory), -1)
        )
        hidden, cell = joined.chunk(2, 1)
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
        if fed is not None:
            gates = gates + linear(fed, self.lstm.weight_ih_l0[:, self.input_size :], None)
        hidden, cell = lstm_step(gates, state.cell)
        return self._attend(hidden[:, None], memory, forbidden, linear), LSTMState(hidden, cell)

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput:
        """See ``Decoder``."""
        hidden, cell = self.initial_state(memory)
        return self._attend(self.lstm(inputs, (hidden[None], cell[None]))[0], memory, forbidden, F.linear)

    def _attend(self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear) -> DecoderOutput:
        bank = memory.banks[self.bank]
        scores = self.attention(hidden, bank.keys[0], bank.mask, linear, memory)
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, IMPOSSIBLE)
        attention = scores.softmax(-1) if self.normalises else self._unnormalised(scores, bank.mask, memory, forbidden)
        return DecoderOutput(hidden, scores, attention, memory.products(attention, bank.values) if self.reads else None)

    @staticmethod
    def _unnormalised(scores: Tensor, mask: Tensor, memory: Memory, forbidden: Tensor | None) -> Tensor:
        """The scores themselves as weights, 0 if nothing may be read."""
        weights = scores.masked_fill(~memory.rows(mask)[:, None], 0.0)
        return weights if forbidden is None else weights.masked_fill(forbidden, 0.0)
