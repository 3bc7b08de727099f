"""The attention encoder–decoder (Bahdanau et al. 2015; Luong et al. 2015)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlseq.config.schema import AttentionPolicyConfig
from rlseq.models.attention import fast_tanh, products
from rlseq.models.linear import Linear
from rlseq.models.policy import Memory, RecurrentPolicy, length_mask
from rlseq.models.shape import TaskShape

SHARED_BELOW = 0.8  # rows share the products of tokens when fewer than this share of them differ


class AttentionPolicy(RecurrentPolicy):
    """Tokens in, tokens out, attention in between.

    z_t = LSTM([y_{t−1}; a_{t−1}], z_{t−1}), c_t = Σ α_t h, a_t = tanh(W [z_t; c_t]) (Luong et al. 2015, eq. 5), with
    a_{t−1} an input only where ``feed_context`` is on; the logits are E a_t + b.

    Args:
        config: The policy's section.
        shape: Sizes of the task.

    Raises:
        ValueError: The task's source or target is not made of tokens, or these differ and are to share embeddings.
    """

    def __init__(self, config: AttentionPolicyConfig, shape: TaskShape) -> None:
        if shape.vocabulary_size is None or shape.source_vocabulary_size is None:
            raise ValueError("policy.type 'attention' needs a task of tokens on both sides; for points use 'pointer'")
        if config.share_embeddings and not shape.shared_vocabulary:
            raise ValueError("policy.share_embeddings is true, but the task's source has a vocabulary of its own")
        size = config.embedding_size
        super().__init__(config, size, feed_size=size)
        # Unit variance at the input, small logits at the output (Vaswani et al. 2017, 3.4).
        self.scale = math.sqrt(size)
        self.word_dropout = nn.Dropout(config.word_dropout)
        self.target_embedding = self._embedding(shape.vocabulary_size, size)
        self.source_embedding = (
            self.target_embedding if config.share_embeddings else self._embedding(shape.source_vocabulary_size, size)
        )
        self.combine = nn.Linear(2 * config.hidden_size, size, bias=False)
        self.output_weight = (
            self.target_embedding.weight
            if config.tie_embeddings
            else nn.Parameter(self._embedding(shape.vocabulary_size, size).weight.detach().clone())
        )
        self.output_bias = nn.Parameter(torch.zeros(shape.vocabulary_size))

    @staticmethod
    def _embedding(count: int, size: int) -> nn.Embedding:
        embedding = nn.Embedding(count, size)
        nn.init.normal_(embedding.weight, std=size**-0.5)
        return embedding

    def encode(self, source: Tensor, source_lengths: Tensor) -> Memory:
        """``source``: (batch_size, source_length) token ids, padded with anything."""
        states, summary = self.encoder(self._inputs(self.source_embedding, source), source_lengths)
        return Memory(states, self.attention.keys(states), length_mask(source_lengths, source.shape[1]), summary)

    def _embed(self, tokens: Tensor, memory: Memory) -> Tensor:
        return self._inputs(self.target_embedding, tokens)

    def _token_gates(self, tokens: Tensor, memory: Memory, linear: Linear) -> Tensor:
        """See the base class; rows that read the same token share its product, where finding them is no wait."""
        if tokens.is_cuda:
            return super()._token_gates(tokens, memory, linear)
        different, which = tokens.unique(return_inverse=True)
        if len(different) > SHARED_BELOW * len(tokens):
            return super()._token_gates(tokens, memory, linear)
        return super()._token_gates(different, memory, linear).index_select(0, which)

    def _inputs(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        return self._scaled(embedding(tokens))

    def _embed_law(self, law: Tensor, memory: Memory, linear: Linear) -> Tensor:
        return self._scaled(linear(law, self.target_embedding.weight.t(), None))

    def _scaled(self, embedded: Tensor) -> Tensor:
        """Embeddings (…, size) as inputs; word dropout leaves out all of a token (Gal & Ghahramani 2016)."""
        kept = self.word_dropout(self.output_bias.new_ones(*embedded.shape[:-1], 1))
        return self.dropout(embedded * (self.scale * kept))

    def _attend(
        self, hidden: Tensor, memory: Memory, forbidden: Tensor | None, linear: Linear = F.linear
    ) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.attention(hidden, memory.keys, memory.mask, linear, memory.sharing).softmax(-1)
        context = products(attention, memory.states, memory.sharing)
        joined = linear(torch.cat([hidden, context], -1), self.combine.weight, None)
        features = self.dropout(fast_tanh(joined))
        return features, attention, features

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """The output layer."""
        return self.output_weight, self.output_bias
