"""From a source's or an output's values to vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlseq.models.layers.linear import Linear


class TokenEmbedding(nn.Module):
    """Token ids to vectors of unit variance, from a table small enough for logits (Vaswani et al. 2017, sec. 3.4).

    Args:
        count: Number of tokens.
        size: Width of a vector.
        dropout: Of single features.
        word_dropout: Of whole tokens (Gal & Ghahramani 2016).
    """

    def __init__(self, count: int, size: int, dropout: float = 0.0, word_dropout: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(count, size)
        nn.init.normal_(self.table.weight, std=size**-0.5)
        self.scale = math.sqrt(size)
        self.dropout, self.word_dropout = nn.Dropout(dropout), nn.Dropout(word_dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (…, size) of tokens (…)."""
        return self._scaled(self.table(tokens))

    def expected(self, probabilities: Tensor, linear: Linear) -> Tensor:
        """The mean vector (…, size) under probabilities (…, count)."""
        return self._scaled(linear(probabilities, self.table.weight.t(), None))

    def _scaled(self, embedded: Tensor) -> Tensor:
        kept = self.word_dropout(torch.ones(*embedded.shape[:-1], 1, device=embedded.device))
        return self.dropout(embedded * (self.scale * kept))


class VectorEmbedding(nn.Module):
    """Vectors, such as points, to vectors of the network's width.

    Args:
        features: Width of what comes in.
        size: Width of what goes out.
        dropout: Of single features of what goes out.
    """

    def __init__(self, features: int, size: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(features, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """(…, size) of values (…, features)."""
        return self.dropout(self.linear(values))
