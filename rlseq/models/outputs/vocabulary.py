"""Tokens of a vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import Memory
from rlseq.models.parts import Output


class VocabularyOutput(Output):
    """Logits E a + b over a vocabulary; the rows of E may be the tokens' embeddings (Press & Wolf 2017).

    Args:
        embedding: Of the tokens; its table is E if they are tied.
        tied: Whether they are.
    """

    is_vocabulary = True

    def __init__(self, embedding: TokenEmbedding, tied: bool) -> None:
        super().__init__()
        count, size = embedding.table.weight.shape
        self.weight = (embedding if tied else TokenEmbedding(count, size)).table.weight
        self.bias = nn.Parameter(torch.zeros(count))
        self.embedding = embedding

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """E and b."""
        return self.weight, self.bias

    def embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        """See ``Output``."""
        embedded: Tensor = self.embedding(tokens)
        return embedded

    def embed_expected(self, probabilities: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """See ``Output``."""
        return self.embedding.expected(probabilities, linear)
