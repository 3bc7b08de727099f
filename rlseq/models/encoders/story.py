"""Sentences as vectors, a question as the summary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.config.encoders import StoryEncoderConfig
from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.memory import SOURCE, Bank, Memory, memory_bank
from rlseq.models.parts import Encoder, EncoderSizes
from rlseq.models.policy import length_mask
from rlseq_envs.source import Source


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
        words, lengths = source.fields[self.story]
        question, question_lengths = source.fields[self.question]
        assert lengths is not None and question_lengths is not None
        there = lengths > 0
        ages = self._ages(there)[there] if self.ages else None
        told, told_lengths = words[there], lengths[there]  # batches are padded a lot: only what is there is summed
        for number, table in enumerate(tables):
            sentences = self._summed(told, told_lengths, table)
            if ages is not None:
                sentences = sentences + self.ages[number][ages]
            values = sentences.new_zeros(*there.shape, sentences.shape[-1]).masked_scatter(there[:, :, None], sentences)
            banks[SOURCE if number == len(self.tables) else memory_bank(number)] = Bank(values, there)
        return Memory(banks, self._summed(question, question_lengths, tables[0]))

    def _summed(self, words: Tensor, lengths: Tensor, table: nn.Module) -> Tensor:
        """(rows, size) of words (rows, longest)."""
        vectors: Tensor = table(words)
        if not self.weighs:
            counted = length_mask(lengths, words.shape[1]).to(vectors) * self.scale
            return torch.matmul(counted[:, None], vectors)[:, 0]
        first, second = torch.matmul(place_weights(lengths, words.shape[1]).to(vectors) * self.scale, vectors).unbind(1)
        return first - torch.arange(1, first.shape[1] + 1, device=first.device) / first.shape[1] * second

    def _ages(self, there: Tensor) -> Tensor:
        """How many sentences ago each one was, (sources, sentences); in training more, for some were empty."""
        passed = there.long()
        if self.training and self.noise:
            passed = passed * (1 + (torch.rand(there.shape, device=there.device) < self.noise))
        until = passed.cumsum(1)
        return (until[:, -1:] - until).clamp(0, self.oldest)


def place_weights(lengths: Tensor, longest: int) -> Tensor:
    """1 − j / J and 1 − 2 j / J of word j of J, from 1; 0 beyond J.

    The weight of feature k of d is l_kj = (1 − j / J) − (k / d)(1 − 2 j / J) (ibid., sec. 4.1): two sums of words are
    all that it takes.

    Args:
        lengths: (rows,) words of each sentence, J.
        longest: Words that there is room for.

    Returns:
        (rows, 2, longest).
    """
    place = torch.arange(1, longest + 1, device=lengths.device)
    share = place / lengths.clamp_min(1)[:, None]
    return torch.stack([1 - share, 1 - 2 * share], 1) * (place <= lengths[:, None])[:, None]
