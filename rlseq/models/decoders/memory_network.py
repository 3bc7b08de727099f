"""A memory network: a question hops over what a story's sentences hold."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.decoders import MemoryNetworkConfig
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import SOURCE, Memory, memory_bank
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes
from rlseq.objectives.logits import IMPOSSIBLE


class Asked(NamedTuple):
    """(rows, hidden_size): the question, and all that was answered by now."""

    query: Tensor


class MemoryNetwork(Decoder):
    """u ← u + Σ_i p_i c_i with p = softmax(u · m_i), hop by hop (Sukhbaatar et al. 2015, eq. 1 to 4).

    Some units of each new u may pass a ReLU (ibid., sec. 5): sums alone do not tell whether two things are the same.
    The first u is the question. An answer may have several words: after each, u begins at the question and a linear map
    of every word before, summed up. The state that comes of the last hop is what logits are made from; the attention
    that is given out is the mean over hops.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    holds_context = True

    def __init__(self, sizes: DecoderSizes, config: MemoryNetworkConfig) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.answered = nn.Linear(sizes.input_size, size)
        self.between = nn.Linear(size, size, bias=False) if config.tying == "layer_wise" else None
        self.normalises = config.normalise == "softmax"
        self.rectified = round(config.rectified * size)
        banks = [*map(memory_bank, range(config.memories - 1)), SOURCE]
        step = {"adjacent": 1, "layer_wise": 0, "none": 2}[config.tying]
        # What each hop matches, and what it reads.
        self.hops = [(banks[step * hop], banks[step * hop + 1]) for hop in range(config.hops)]

    def prepare(self, memory: Memory) -> Memory:
        """As it is: all was embedded by the encoder."""
        return memory

    def initial_state(self, memory: Memory) -> Asked:
        """The question."""
        return Asked(memory.summary)

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        """What a word adds to the question."""
        return linear(inputs, self.answered.weight, self.answered.bias)

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: Asked,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, Asked]:
        """See ``Decoder``. Nothing was answered before the first step."""
        query = state.query + read if time else state.query
        return self._hop(query[:, None], memory, forbidden, linear), Asked(query)

    def forced(self, inputs: Tensor, memory: Memory, forbidden: Tensor | None) -> DecoderOutput:
        """See ``Decoder``."""
        question = self.initial_state(memory).query[:, None]
        added = self.read(inputs[:, 1:]).cumsum(1)
        return self._hop(torch.cat([question, question + added], 1), memory, forbidden, F.linear)

    def _hop(self, query: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear) -> DecoderOutput:
        """From queries (rows, time, hidden_size) to states."""
        there, weights = memory.rows(memory.banks[SOURCE].mask)[:, None], []
        if forbidden is not None:
            there = there & ~forbidden
        for matched, read in self.hops:
            scores = memory.products(query, memory.banks[matched].values.mT)
            if self.normalises:
                weights.append(scores.masked_fill(~there, IMPOSSIBLE).softmax(-1))
            else:
                weights.append(scores.masked_fill(~there, 0.0))
            kept = query if self.between is None else linear(query, self.between.weight, None)
            query = kept + memory.products(weights[-1], memory.banks[read].values)
            if self.rectified:
                first, others = query.tensor_split([self.rectified], -1)
                query = torch.cat([first.relu(), others], -1)
        attention = torch.stack(weights).mean(0)
        return DecoderOutput(query, attention, attention, None)
