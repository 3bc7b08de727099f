"""Networks of size 8 that use what the interfaces allow and the shipped networks do not.

* An encoder whose positions are not the source's: it reads two at a time.
* A decoder whose state grows: it keeps all it has read.
* A decoder whose state is a matrix: what it read is stored under a key and read by another.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.layers.attention import Attention
from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.outputs.vocabulary import VocabularyOutput
from rlseq.models.parts import Decoder, DecoderOutput, Encoder
from rlseq.models.policy import length_mask
from rlseq.models.readouts import AttentionalVector

SIZE = 8


class MeanEncoder(Encoder):
    """Each position as it is; the summary is their mean."""

    def forward(self, inputs: Tensor, lengths: Tensor) -> Memory:
        mask = length_mask(lengths, inputs.shape[1])
        return Memory({SOURCE: Bank(inputs, mask)}, (inputs * mask[:, :, None]).sum(1) / lengths[:, None])


class HalvingEncoder(Encoder):
    """Two positions become one; the last of an odd number stays alone."""

    def __init__(self) -> None:
        super().__init__()
        self.join = nn.Linear(2 * SIZE, SIZE)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Memory:
        mask = length_mask(lengths, inputs.shape[1])
        even = F.pad(inputs * mask[:, :, None], (0, 0, 0, inputs.shape[1] % 2))
        values = torch.tanh(self.join(even.unflatten(1, (-1, 2)).flatten(2)))
        mask = length_mask((lengths + 1) // 2, values.shape[1])
        return Memory({SOURCE: Bank(values, mask)}, (values * mask[:, :, None]).sum(1))


class ToyDecoder(Decoder):
    """What the toy decoders share: they attend with their output, which is made from the summary, too."""

    bank = SOURCE

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention("bilinear", SIZE, SIZE)
        self.first = nn.Linear(SIZE, SIZE)
        self.inputs = nn.Linear(SIZE, SIZE)

    def prepare(self, memory: Memory) -> Memory:
        return memory.with_bank(self.bank, keys=(self.attention.keys(memory.banks[self.bank].values),))

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        return linear(inputs, self.inputs.weight, self.inputs.bias)

    def attend(self, hidden: Tensor, memory: Memory, linear: Linear) -> DecoderOutput:
        bank = memory.banks[self.bank]
        hidden = (hidden + memory.rows(self.first(memory.summary)))[:, None]
        scores = self.attention(hidden, bank.keys[0], bank.mask, linear, memory)
        attention = scores.softmax(-1)
        return DecoderOutput(hidden, scores, attention, memory.products(attention, bank.values))


class Read(NamedTuple):
    """(rows, time, SIZE): one step longer at each."""

    past: Tensor


class GrowingDecoder(ToyDecoder):
    """Looks back on all that it has read, and knows how long ago."""

    def initial_state(self, memory: Memory) -> Read:
        return Read(memory.summary.new_zeros(len(memory), 0, SIZE))

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: Read,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, Read]:
        past = torch.cat([state.past, read[:, None]], 1)
        assert past.shape[1] == time + 1
        weights = (past @ read[:, :, None] + torch.arange(time + 1, device=past.device)[:, None] / 4).softmax(1)
        return self.attend(torch.tanh((weights * past).sum(1)), memory, linear), Read(past)


class Matrix(NamedTuple):
    """(rows, SIZE, SIZE)."""

    stored: Tensor


class MatrixDecoder(ToyDecoder):
    """Stores what it reads in a matrix (a fast weight memory, Schmidhuber 1992)."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)

    def initial_state(self, memory: Memory) -> Matrix:
        return Matrix(memory.summary.new_zeros(len(memory), SIZE, SIZE))

    def step(
        self,
        read: Tensor,
        fed: Tensor | None,
        time: int,
        state: Matrix,
        memory: Memory,
        forbidden: Tensor | None,
        linear: Linear = F.linear,
    ) -> tuple[DecoderOutput, Matrix]:
        key = linear(read, self.key.weight, self.key.bias).softmax(-1)
        stored = 0.9 * state.stored + key[:, :, None] * read[:, None]
        found = (linear(read, self.query.weight, self.query.bias)[:, None] @ stored)[:, 0]
        return self.attend(torch.tanh(found), memory, linear), Matrix(stored)


DECODERS: tuple[type[ToyDecoder], ...] = (GrowingDecoder, MatrixDecoder)
ENCODERS: tuple[type[Encoder], ...] = (MeanEncoder, HalvingEncoder)


def toy_policy(encoder: type[Encoder], decoder: type[ToyDecoder], seed: int = 0) -> EncoderDecoder:
    """A policy of these parts over tokens, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        output = VocabularyOutput(TokenEmbedding(7, SIZE), tied=False)
        readout = AttentionalVector(2 * SIZE, SIZE, dropout=0.0, feeds=False)
        return EncoderDecoder(encoder(), decoder(), TokenEmbedding(9, SIZE), output, readout)
