"""Tokens of a vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.outputs import VocabularyConfig
from rlseq.models.layers.embedding import TokenEmbedding
from rlseq.models.layers.linear import Linear
from rlseq.models.memory import Memory
from rlseq.models.parts import Output, OutputSizes
from rlseq.objectives.logits import IMPOSSIBLE


class VocabularyOutput(Output):
    """Logits E a + b over a vocabulary; the rows of E may be the tokens' embeddings (Press & Wolf 2017).

    Of a task without END, the bias of END bars it: no probability is left for it, in drawing and in scoring alike.

    Args:
        sizes: What it is built for, with the tokens' embedding.
        config: Its section.
    """

    is_vocabulary = True

    def __init__(self, sizes: OutputSizes, config: VocabularyConfig) -> None:
        super().__init__()
        assert sizes.embedding is not None
        count, size = sizes.embedding.table.weight.shape
        self.weight = (sizes.embedding if config.tie_embeddings else TokenEmbedding(count, size)).table.weight
        self.bias = nn.Parameter(torch.zeros(count))
        self.embedding = sizes.embedding
        self.ends = sizes.choices.ends

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """E and b."""
        return self.weight, self.bias if self.ends else F.pad(self.bias[1:], (1, 0), value=IMPOSSIBLE)

    def embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        """See ``Output``."""
        embedded: Tensor = self.embedding(tokens)
        return embedded

    def embed_expected(self, probabilities: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """See ``Output``."""
        return self.embedding.expected(probabilities, linear)
