"""Sentences as vectors, a question as the summary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.policy import StoryEncoderConfig
from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.memory import SOURCE, Bank, Memory, memory_bank
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq.models.policy import length_mask
from rlseq_envs.source import Padded, Source


class StoryEncoder(Encoder):
    """m_i = Σ_j l_j ∘ A x_ij + T(age of i) (Sukhbaatar et al. 2015, sec. 4.1): a position of the bank a sentence.

    A decoder may read several vectors of a sentence: each has an embedding A and vectors T of its own. The last
    embedding is the policy's, which may be the output's. The question is embedded by the first, the paper's B = A¹.
    Vectors of words have length 1 or so, for matches are dot products of their sums.

    Args:
        sizes: What it is built for.
        config: Its section.
    """

    def __init__(self, sizes: EncoderSizes, config: StoryEncoderConfig) -> None:
        super().__init__()
        self.story, self.question = sizes.sources
        story, size = sizes.sources[self.story], sizes.hidden_size
        assert story.tokens is not None
        count, self.oldest = story.tokens, story.longest[0] - 1
        self.weighs, self.noise, self.scale = config.words == "position", config.noise, size**-0.5
        self.tables = nn.ModuleList(TokenEmbedding(count, size, sizes.dropout) for _ in range(sizes.memories - 1))
        self.ages = nn.ParameterList()
        if config.temporal:
            shape = (sizes.memories, story.longest[0], size)
            self.ages = nn.ParameterList(torch.randn(shape[1:]) * self.scale for _ in range(shape[0]))

    def forward(self, source: Source[Tensor], embedding: nn.Module) -> Memory:
        """See ``Encoder``."""
        tables, banks = [*self.tables, embedding], {}
        words = source.fields[self.story]
        assert words.lengths is not None
        there = words.lengths > 0
        ages = self._ages(there) if self.ages else None
        for number, table in enumerate(tables):
            values = self._summed(words, table)
            if ages is not None:
                values = values + self.ages[number][ages]
            name = SOURCE if number == len(self.tables) else memory_bank(number)
            banks[name] = Bank(values.masked_fill(~there[:, :, None], 0.0), there)
        return Memory(banks, self._summed(source.fields[self.question], tables[0]))

    def _summed(self, words: Padded[Tensor], table: nn.Module) -> Tensor:
        """(…, size) of words (…, length)."""
        values, lengths = words
        assert lengths is not None
        vectors: Tensor = table(values) * self.scale
        counted = length_mask(lengths.flatten(), values.shape[-1]).view(values.shape)
        if self.weighs:
            return (vectors * position_weights(lengths, values.shape[-1], vectors.shape[-1])).sum(-2)
        return (vectors * counted[..., None]).sum(-2)

    def _ages(self, there: Tensor) -> Tensor:
        """How many sentences ago each one was, (sources, sentences); in training more, for some were empty."""
        passed = there.long()
        if self.training and self.noise:
            passed = passed * (1 + (torch.rand(there.shape, device=there.device) < self.noise))
        until = passed.cumsum(1)
        return (until[:, -1:] - until).clamp(0, self.oldest)


def position_weights(lengths: Tensor, longest: int, size: int) -> Tensor:
    """l_kj = (1 − j / J) − (k / d)(1 − 2 j / J) of word j of J, feature k of d, from 1 (ibid., sec. 4.1); 0 beyond J.

    Args:
        lengths: (…) words of each sentence, J.
        longest: Words that there is room for.
        size: Features, d.

    Returns:
        (…, longest, size).
    """
    place = torch.arange(1, longest + 1, device=lengths.device)
    share = (place / lengths.clamp_min(1)[..., None])[..., None]
    feature = torch.arange(1, size + 1, device=lengths.device) / size
    weights = (1 - share) - feature * (1 - 2 * share)
    return weights * (place <= lengths[..., None])[..., None]
