"""Networks of size 8, named by their import paths, that use what the interfaces allow and the shipped ones do not.

* Encoders of other sources: nothing at all, a picture, sentences of words with a question about them.
* An encoder whose positions are not the source's: it reads two at a time.
* A decoder whose state grows: it keeps all it has read.
* A decoder whose state is a matrix: what it read is stored under a key and read by another.
* An output that copies: words beyond its vocabulary have the probability that attention gives to where they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.models.build import build_policy
from rlseq.models.encoder_decoder import EncoderDecoder
from rlseq.models.layers.attention import Attention
from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import SOURCE, Bank, Memory
from rlseq.models.parts import Decoder, DecoderOutput, DecoderSizes, Encoder, EncoderSizes, Output, Readout
from rlseq.models.policy import length_mask
from rlseq.models.spaces import TaskSpaces
from rlseq.objectives.logits import IMPOSSIBLE
from rlseq_envs.source import Padded, Source
from rlseq_envs.spaces import Choices, Space
from tests.support import policy_config, random_stories

SIZE = 8
WORDS, VOCABULARY = 9, 7  # of sources; those that an output knows


def embedded(source: Source[Tensor], embedding: nn.Module) -> tuple[Tensor, Tensor]:
    """Vectors of the one field there is, and how many each source has."""
    ((values, lengths),) = source.fields.values()
    assert lengths is not None
    return embedding(values), lengths


class ToyEncoder(Encoder):
    """What the toy encoders share."""

    sources: ClassVar[Mapping[str, Space]] = {"text": Space.of_tokens(WORDS, 9)}  # the only ones that it reads

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.keeps_inputs = sizes.points_to is not None


class MeanEncoder(ToyEncoder):
    """Each position as it is; the summary is their mean."""

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        inputs, lengths = embedded(source, embedding)
        mask = length_mask(lengths, inputs.shape[1])
        bank = Bank(inputs, mask, inputs=inputs if self.keeps_inputs else None)
        return Memory({SOURCE: bank}, (inputs * mask[:, :, None]).sum(1) / lengths[:, None])


class HalvingEncoder(ToyEncoder):
    """Two positions become one; the last of an odd number stays alone."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes)
        self.join = nn.Linear(2 * SIZE, SIZE)

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        inputs, lengths = embedded(source, embedding)
        mask = length_mask(lengths, inputs.shape[1])
        even = F.pad(inputs * mask[:, :, None], (0, 0, 0, inputs.shape[1] % 2))
        values = torch.tanh(self.join(even.unflatten(1, (-1, 2)).flatten(2)))
        mask = length_mask((lengths + 1) // 2, values.shape[1])
        return Memory({SOURCE: Bank(values, mask)}, (values * mask[:, :, None]).sum(1))


class NoSourceEncoder(ToyEncoder):
    """Generation from nothing: no position, and a summary that is learned."""

    sources: ClassVar[Mapping[str, Space]] = {}

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes)
        self.summary = nn.Parameter(torch.zeros(SIZE))

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        summary = self.summary.expand(source.size, SIZE)
        nowhere = summary.new_zeros(source.size, 0, SIZE)
        return Memory({SOURCE: Bank(nowhere, nowhere[:, :, 0].bool())}, summary)

    @staticmethod
    def example(lengths: Tensor, generator: torch.Generator) -> Source[Tensor]:
        return Source(len(lengths), {})


class GridEncoder(ToyEncoder):
    """A picture of fixed size; each patch of it is a position."""

    sources: ClassVar[Mapping[str, Space]] = {"picture": Space((4, 6, 1), dtype="uint8")}

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__(sizes)
        self.patches = nn.Conv2d(1, SIZE, 2, stride=2)

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        pixels = source.fields["picture"].values.permute(0, 3, 1, 2).to(self.patches.weight.dtype) / 255
        values = torch.tanh(self.patches(pixels)).flatten(2).mT
        return Memory({SOURCE: Bank(values, values.new_ones(values.shape[:2], dtype=torch.bool))}, values.mean(1))

    @staticmethod
    def example(lengths: Tensor, generator: torch.Generator) -> Source[Tensor]:
        pixels = torch.randint(256, (len(lengths), 4, 6, 1), generator=generator).to(torch.uint8)
        return Source(len(lengths), {"picture": Padded(pixels, None)})


class StoryEncoder(ToyEncoder):
    """Sentences, each the sum of its words, are the positions; the summary is the sum of the question's words."""

    sources: ClassVar[Mapping[str, Space]] = {
        "story": Space((None, None), (5, 3), WORDS, "int64"),
        "question": Space.of_tokens(WORDS, 2),
    }

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        story, question = (self._sums(*source.fields[name], embedding) for name in ("story", "question"))
        lengths = source.fields["story"].lengths
        assert lengths is not None
        return Memory({SOURCE: Bank(torch.tanh(story), lengths > 0)}, question)

    @staticmethod
    def _sums(words: Tensor, lengths: Tensor | None, embedding: nn.Module) -> Tensor:
        assert lengths is not None
        mask = torch.arange(words.shape[-1], device=words.device) < lengths[..., None]
        vectors: Tensor = embedding(words)
        return (vectors * mask[..., None]).sum(-2)

    @staticmethod
    def example(lengths: Tensor, generator: torch.Generator) -> Source[Tensor]:
        """As many sentences as each length says."""
        return random_stories(lengths, WORDS, generator)


class NamingEncoder(MeanEncoder):
    """Beside each position's vector, which of 9 words stands there, for an output that copies."""

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        bank = (memory := super().forward(source, embedding)).banks[SOURCE]
        words = F.one_hot(embedded(source, nn.Identity())[0], WORDS).to(bank.values)
        return memory.with_bank(SOURCE, values=torch.cat([bank.values, words], -1))


class ToyDecoder(Decoder):
    """What the toy decoders share: they attend with their output, which is made from the summary, too."""

    def __init__(self, sizes: DecoderSizes, bank_size: int = SIZE) -> None:
        super().__init__()
        self.attention = Attention("bilinear", SIZE, bank_size)
        self.first = nn.Linear(SIZE, SIZE)
        self.inputs = nn.Linear(SIZE, SIZE)

    def prepare(self, memory: Memory) -> Memory:
        return memory.with_bank(self.bank, keys=(self.attention.keys(memory.banks[self.bank].values),))

    def read(self, inputs: Tensor, linear: Linear = F.linear) -> Tensor:
        return linear(inputs, self.inputs.weight, self.inputs.bias)

    def attend(self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear) -> DecoderOutput:
        bank = memory.banks[self.bank]
        hidden = (hidden + memory.rows(self.first(memory.summary)))[:, None]
        scores = self.attention(hidden, bank.keys[0], bank.mask, linear, memory)
        if forbidden is not None:
            scores = scores.masked_fill(forbidden, IMPOSSIBLE)
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
        return self.attend(torch.tanh((weights * past).sum(1)), memory, forbidden, linear), Read(past)


class Matrix(NamedTuple):
    """(rows, SIZE, SIZE)."""

    stored: Tensor


class MatrixDecoder(ToyDecoder):
    """Stores what it reads in a matrix (a fast weight memory, Schmidhuber 1992)."""

    def __init__(self, sizes: DecoderSizes, bank_size: int = SIZE) -> None:
        super().__init__(sizes, bank_size)
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
        return self.attend(torch.tanh(found), memory, forbidden, linear), Matrix(stored)


class CopyReadout(Readout):
    """log p: a gate chooses between the vocabulary and the words that attention reads (See et al. 2017, eq. 9)."""

    feed_size = 0

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary, self.gate = nn.Linear(2 * SIZE, VOCABULARY), nn.Linear(2 * SIZE, 1)

    def features(self, out: DecoderOutput, linear: Linear = F.linear) -> Tensor:
        assert out.context is not None
        read, words = out.context.split([SIZE, WORDS], -1)
        joined = torch.cat([out.hidden, read], -1)
        generated = linear(joined, self.vocabulary.weight, self.vocabulary.bias).softmax(-1)
        gate = linear(joined, self.gate.weight, self.gate.bias).sigmoid()
        known = F.pad(generated, (0, WORDS - VOCABULARY))
        return (gate * known + (1 - gate) * words).clamp_min(1e-9).log()

    def feed(self, out: DecoderOutput, features: Tensor) -> Tensor:
        return features[..., :0]


class CopyOutput(Output):
    """9 words can be emitted; those beyond the vocabulary are read as one unknown word."""

    is_vocabulary = True

    def __init__(self) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(VOCABULARY + 1, SIZE)

    def embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        embedded: Tensor = self.embedding(tokens.clamp_max(VOCABULARY))
        return embedded

    def embed_expected(self, probabilities: Tensor, memory: Memory, linear: Linear) -> Tensor:
        known, unknown = probabilities.split([VOCABULARY, WORDS - VOCABULARY], -1)
        return self.embedding.expected(torch.cat([known, unknown.sum(-1, keepdim=True)], -1), linear)


DECODERS: tuple[type[ToyDecoder], ...] = (GrowingDecoder, MatrixDecoder)
ENCODERS: tuple[type[ToyEncoder], ...] = (
    MeanEncoder, HalvingEncoder, NoSourceEncoder, GridEncoder, StoryEncoder, NamingEncoder,
)  # fmt: skip


def own(part: type[nn.Module]) -> dict[str, Any]:
    """A slot with this class."""
    return {"type": "own", "class": f"{part.__module__}:{part.__name__}", "arguments": {}}


def toy_policy(encoder: type[ToyEncoder], decoder: type[ToyDecoder], seed: int = 0) -> EncoderDecoder:
    """A policy of these parts, with random weights."""
    if encoder is NamingEncoder:
        return _copying_policy(decoder, seed)
    config = policy_config({"encoder": own(encoder), "decoder": own(decoder)}, hidden_size=SIZE, dropout=0.0)
    return build_policy(config, TaskSpaces(encoder.sources, Choices(9, VOCABULARY)), seed)


def _copying_policy(decoder: type[ToyDecoder], seed: int) -> EncoderDecoder:
    """Put together by hand: no slot has another readout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = NamingEncoder(EncoderSizes(NamingEncoder.sources, SIZE, SIZE, 0.0, points_to=None))
        decoding = decoder(DecoderSizes(SIZE, SIZE, SIZE, 0.0, reads=True, longest=9), SIZE + WORDS)
        return EncoderDecoder(encoder, decoding, TokenEmbedding(WORDS, SIZE), CopyOutput(), CopyReadout())
