"""A multimodal recurrent network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.decoders import MultimodalConfig
from rlseq.models.layers.attention import fast_tanh
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import NOWHERE, Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes

_PICTURE = "picture"


class WordsRead(NamedTuple):
    """(rows, hidden_size): what was read of words alone."""

    hidden: Tensor


class MultimodalRNN(Decoder):
    """m_t = g(V_w w_t + V_r r_t + V_I I), r_t = relu(w'_t + U r_{t−1}) (Mao et al. 2015, eq. 2 to 4).

    g(x) = 1.7159 tanh(2x / 3). The picture I, the encoder's summary, never reaches the recurrent state. The words that
    enter it, w', are a linear map of the embedding; r_0 is 0.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    bank = NOWHERE
    holds_context = True

    def __init__(self, sizes: DecoderSizes, config: MultimodalConfig) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.words = nn.Linear(sizes.input_size, 2 * size)  # w' and V_w w
        self.recurrence = nn.Linear(size, size, bias=False)
        nn.init.orthogonal_(self.recurrence.weight)
        self.joined = nn.Linear(size, size, bias=False)
        self.picture = nn.Linear(size, size, bias=False)

    def prepare(self, memory: Memory) -> Memory:
        """With V_I I, once a source."""
        return memory.nowhere().with_row(_PICTURE, self.picture(memory.summary))

    def initial_state(self, memory: Memory) -> WordsRead:
        """Nothing was read."""
        return WordsRead(torch.zeros_like(memory.summary))

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """The word's part of state and join: (…, 2 * hidden_size)."""
        return linear(inputs, self.words.weight, self.words.bias)

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: WordsRead,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, WordsRead]:
        """See ``Decoder``."""
        entering, joining = read.chunk(2, -1)
        hidden = torch.relu(entering + linear(state.hidden, self.recurrence.weight, None))
        return self._join(joining[:, None], hidden[:, None], memory, linear), WordsRead(hidden)

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput:
        """See ``Decoder``."""
        entering, joining = self.read(inputs).chunk(2, -1)
        hidden, states = self.initial_state(memory).hidden, []
        for word in entering.unbind(1):
            hidden = torch.relu(word + self.recurrence(hidden))
            states.append(hidden)
        return self._join(joining, torch.stack(states, 1), memory, F.linear)

    def _join(self, joining: Tensor, hidden: Tensor, memory: Memory, linear: Linear) -> DecoderOutput:
        seen = memory.row(_PICTURE)[:, None]
        joined = joining + linear(hidden, self.joined.weight, None) + seen
        return DecoderOutput.of_states(1.7159 * fast_tanh(joined * (2 / 3)))
